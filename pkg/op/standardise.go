package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Statistics says over which values Standardise takes mean and variance.
type Statistics string

// The statistics of a channel.
const (
	InstanceStatistics    Statistics = "instance"    // over the pixels of an image
	BatchStatistics       Statistics = "batch"       // over the pixels of all images of the batch
	AlternatingStatistics Statistics = "alternating" // of groups of channels in turn: batch, instance, batch, ...
)

// StandardiseGroups is how many groups AlternatingStatistics makes of the
// channels: equal ones, of consecutive channels.
const StandardiseGroups = 12

// standardiseEpsilon is added to the variance in Standardise.
const standardiseEpsilon = 1e-5

// Standardise adds the standardisation of each channel of x (B,C,H,W), with mean
// and variance over the set that stat names and no gain, no bias and no running
// average:
//
//	out = (x - mean)/sqrt(variance + 1e-5),  variance = mean of (x - mean)^2
//
// as in the Terminator network (Zhang, arXiv 2401.17948). Batch statistics couple
// the images of a batch. AlternatingStatistics needs C to be a multiple of
// StandardiseGroups. The backward pass needs the output, and
// 1/sqrt(variance + 1e-5) is kept:
//
//	dx = (dout - mean(dout) - out mean(dout*out))/sqrt(variance + 1e-5)
func Standardise(e *Env, x *G.Node, stat Statistics) (*G.Node, error) {
	return applyAny(e, &standardise[float32]{stat: stat}, &standardise[float64]{stat: stat}, x)
}

type standardise[T kernel.Float] struct {
	stat                Statistics
	batch, channels, hw int
	scale               []T // (B,C): 1/sqrt(variance+eps); of batch statistics the same for all b
}

func (f *standardise[T]) String() string { return fmt.Sprintf("standardise(%s)", f.stat) }

func (f *standardise[T]) wants() []bool { return []bool{true} }

func (f *standardise[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	f.batch, f.channels, f.hw = x[0], x[1], x[2]*x[3]
	switch f.stat {
	case InstanceStatistics, BatchStatistics:
	case AlternatingStatistics:
		if x[1]%StandardiseGroups != 0 {
			return nil, fmt.Errorf("input has %d channels, expected a multiple of %d: the groups of alternating statistics", x[1], StandardiseGroups)
		}
	default:
		return nil, fmt.Errorf("statistics are %q, expected %s, %s or %s", f.stat, InstanceStatistics, BatchStatistics, AlternatingStatistics)
	}
	values := f.hw
	if f.stat == BatchStatistics {
		values *= f.batch
	}
	if values < 2 {
		return nil, fmt.Errorf("input has shape %v, expected more than one value for each statistic", x)
	}
	f.scale = make([]T, f.batch*f.channels)
	return x.Clone(), nil
}

// together says whether channel c has batch statistics.
func (f *standardise[T]) together(c int) bool {
	switch f.stat {
	case BatchStatistics:
		return true
	case AlternatingStatistics:
		return c/(f.channels/StandardiseGroups)%2 == 0
	}
	return false
}

// sets calls do for each set of values with statistics of its own: the planes
// b0 <= b < b1 of channel c. Channels are shared out over the workers.
func (f *standardise[T]) sets(workers int, do func(b0, b1, c int)) {
	kernel.Parallel(workers, f.channels, func(_, lo, hi int) {
		for c := lo; c < hi; c++ {
			if f.together(c) {
				do(0, f.batch, c)
				continue
			}
			for b := range f.batch {
				do(b, b+1, c)
			}
		}
	})
}

func (f *standardise[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	ones := constant(s.Take(f.hw), 1)
	x := in[0]
	f.sets(e.Workers, func(b0, b1, c int) {
		n := float64((b1 - b0) * f.hw)
		var mean, variance float64
		for b := b0; b < b1; b++ {
			mean += kernel.Sum(x[(b*f.channels+c)*f.hw:][:f.hw])
		}
		minus := []T{1, T(-mean / n)}
		for b := b0; b < b1; b++ {
			i := (b*f.channels + c) * f.hw
			d := out[i:][:f.hw]
			kernel.LinearCombination(d, minus, x[i:][:f.hw], ones)
			variance += kernel.Dot(d, d)
		}
		scale := T(1 / math.Sqrt(variance/n+standardiseEpsilon))
		for b := b0; b < b1; b++ {
			f.scale[b*f.channels+c] = scale
			kernel.Scale(scale, out[(b*f.channels+c)*f.hw:][:f.hw])
		}
	})
}

func (f *standardise[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	ones := constant(s.Take(f.hw), 1)
	f.sets(e.Workers, func(b0, b1, c int) {
		n := float64((b1 - b0) * f.hw)
		var mean, along float64
		for b := b0; b < b1; b++ {
			i := (b*f.channels + c) * f.hw
			mean += kernel.Sum(dout[i:][:f.hw])
			along += kernel.Dot(dout[i:][:f.hw], out[i:][:f.hw])
		}
		scale := f.scale[b0*f.channels+c]
		coef := []T{scale, -scale * T(along/n), -scale * T(mean/n)}
		for b := b0; b < b1; b++ {
			i := (b*f.channels + c) * f.hw
			kernel.LinearCombination(din[0][i:][:f.hw], coef, dout[i:][:f.hw], out[i:][:f.hw], ones)
		}
	})
}

// constant sets all of x to v and returns it.
func constant[T kernel.Float](x []T, v T) []T {
	for i := range x {
		x[i] = v
	}
	return x
}
