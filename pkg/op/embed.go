package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Embed adds the vectors of symbols (B,n), whole numbers from 0 to S-1, from a
// table (S,C):
//
//	out[0,c,b,i] = table[symbols[b,i], c]                              (1,C,B,n)
//
// The gradient of a row is the sum over the places of its symbol, in order of b
// and i. Anything else than such a number is an error of the run. Symbols have no
// gradient.
func Embed(e *Env, table, symbols *G.Node) (*G.Node, error) {
	return applyAny(e, &embed[float32]{}, &embed[float64]{}, table, symbols)
}

type embed[T kernel.Float] struct {
	symbols, channels, columns, places int // S, C, n, B*n
}

func (f *embed[T]) String() string { return "embed" }

func (f *embed[T]) wants() []bool { return []bool{true, false} }

func (f *embed[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if err := rank("table", in[0], 2); err != nil {
		return nil, err
	}
	s := in[1]
	if err := rank("symbols", s, 2); err != nil {
		return nil, err
	}
	f.symbols, f.channels, f.columns, f.places = in[0][0], in[0][1], s[1], s[0]*s[1]
	return tensor.Shape{1, f.channels, s[0], s[1]}, nil
}

func (f *embed[T]) examine(in [][]T) error {
	return wholeNumbers("symbol", in[1], f.columns, f.symbols)
}

// wholeNumbers reports an element of x, rows of so many columns, that is no whole
// number from 0 to limit-1.
func wholeNumbers[T kernel.Float](what string, x []T, columns, limit int) error {
	for i, v := range x {
		if !(v >= 0 && v < T(limit)) || T(math.Trunc(float64(v))) != v {
			return fmt.Errorf("%s %d of row %d is %v, expected a whole number from 0 to %d", what, i%columns, i/columns, v, limit-1)
		}
	}
	return nil
}

func (f *embed[T]) forward(e *Env, in [][]T, out []T) {
	for c := range f.channels {
		row, table := out[c*f.places:][:f.places], in[0][c:]
		for i, s := range in[1] {
			row[i] = table[int(s)*f.channels]
		}
	}
}

func (f *embed[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	clear(din[0])
	for c := range f.channels {
		row, table := dout[c*f.places:][:f.places], din[0][c:]
		for i, s := range in[1] {
			table[int(s)*f.channels] += row[i]
		}
	}
}
