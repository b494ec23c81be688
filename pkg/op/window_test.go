package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// attentionReference is WindowAttention from its formula: every pair of tokens of
// the image, of which those in one window meet.
func attentionReference(qkv, position []float64, batch, channels, h, w, heads, window, shift int) []float64 {
	depth, side := channels/heads, 2*window-1
	out := make([]float64, batch*channels*h*w)
	at := func(b, c, i int) float64 { return qkv[(b*3*channels+c)*h*w+i] }
	for b := range batch {
		for head := range heads {
			for i := range h * w {
				y, x := i/w, i%w
				sum := 0.
				values := make([]float64, depth)
				for j := range h * w {
					v, u := j/w, j%w
					if (y+shift)/window != (v+shift)/window || (x+shift)/window != (u+shift)/window {
						continue
					}
					s := 0.
					for c := range depth {
						s += at(b, head*depth+c, i) * at(b, channels+head*depth+c, j)
					}
					s = s/math.Sqrt(float64(depth)) + position[head*side*side+(y-v+window-1)*side+x-u+window-1]
					sum += math.Exp(s)
					for c := range depth {
						values[c] += math.Exp(s) * at(b, 2*channels+head*depth+c, j)
					}
				}
				for c := range depth {
					out[(b*channels+head*depth+c)*h*w+i] = values[c] / sum
				}
			}
		}
	}
	return out
}

var attentionCases = []struct{ h, w, channels, heads, window, shift int }{
	{8, 8, 4, 2, 4, 0},   // whole windows
	{8, 12, 4, 2, 4, 2},  // shifted
	{7, 5, 6, 3, 4, 0},   // windows cut on one side
	{7, 9, 6, 2, 4, 2},   // on both
	{6, 6, 4, 2, 4, 2},   // small windows first, whole ones last
	{3, 2, 2, 1, 4, 2},   // an image smaller than a window
	{1, 1, 2, 2, 2, 1},   // one token
	{9, 4, 3, 3, 3, 1},   // odd window
	{17, 16, 5, 1, 8, 4}, // the size of networks
}

func TestWindowAttentionMatchesReference(t *testing.T) {
	for _, c := range attentionCases {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(11, 12))
			side := 2*c.window - 1
			qkv, position := random(rng, -2, 2, 2, 3*c.channels, c.h, c.w), random(rng, -1, 1, c.heads, side*side)
			want := attentionReference(qkv.data, position.data, 2, c.channels, c.h, c.w, c.heads, c.window, c.shift)
			_, _, got := run(t, func(e *Env, in []*G.Node) (*G.Node, error) {
				return WindowAttention(e, in[0], in[1], c.window, c.shift)
			}, []input{qkv, position}, want, false)
			for i := range want {
				if !(math.Abs(got[i]-want[i]) <= 1e-12) {
					t.Fatalf("element %d: %g, expected %g", i, got[i], want[i])
				}
			}
		})
	}
}

func TestWindowAttentionGradient(t *testing.T) {
	for _, c := range attentionCases {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(13, 14))
			side := 2*c.window - 1
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
				return WindowAttention(e, in[0], in[1], c.window, c.shift)
			}, 2*c.channels*c.h*c.w, random(rng, -1, 1, 2, 3*c.channels, c.h, c.w), random(rng, -1, 1, c.heads, side*side))
		})
	}
}

// attention runs the operation in float32, forward and backward.
func attention(t *testing.T, workers int, qkv, position, dout []float32, x, table tensor.Shape, window, shift int) (out, dqkv, dposition []float32) {
	t.Helper()
	f := &windowAttention[float32]{window: window, shift: shift}
	s, err := f.shape([]tensor.Shape{x, table})
	if err != nil {
		t.Fatal(err)
	}
	e := NewEnv(workers)
	out, dqkv, dposition = make([]float32, s.TotalSize()), make([]float32, len(qkv)), make([]float32, len(position))
	f.forward(e, [][]float32{qkv, position}, out)
	if dout != nil {
		f.backward(e, [][]float32{qkv, position}, out, dout, [][]float32{dqkv, dposition})
	}
	return out, dqkv, dposition
}

func narrow(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

// TestWindowAttentionFloat32 holds the kernels' float32 to the formula, at every
// level, and the bits to be the same for any number of workers.
func TestWindowAttentionFloat32(t *testing.T) {
	for _, level := range kernel.Available() {
		t.Run(level.String(), func(t *testing.T) {
			defer kernel.Force(level)()
			for _, c := range attentionCases {
				rng := rand.New(rand.NewPCG(15, 16))
				side := 2*c.window - 1
				x, table := tensor.Shape{2, 3 * c.channels, c.h, c.w}, tensor.Shape{c.heads, side * side}
				qkv, position := random(rng, -2, 2, x...), random(rng, -1, 1, table...)
				dout := narrow(random(rng, -1, 1, 2, c.channels, c.h, c.w).data)
				out, dqkv, dposition := attention(t, 1, narrow(qkv.data), narrow(position.data), dout, x, table, c.window, c.shift)
				want := attentionReference(qkv.data, position.data, 2, c.channels, c.h, c.w, c.heads, c.window, c.shift)
				for i := range want {
					if !(math.Abs(float64(out[i])-want[i]) <= 5e-6) {
						t.Fatalf("%+v: element %d: %g, expected %g", c, i, out[i], want[i])
					}
				}
				for _, workers := range []int{2, 3} {
					o, dx, dp := attention(t, workers, narrow(qkv.data), narrow(position.data), dout, x, table, c.window, c.shift)
					for k, pair := range [][2][]float32{{out, o}, {dqkv, dx}, {dposition, dp}} {
						for i, v := range pair[0] {
							if pair[1][i] != v {
								t.Fatalf("%+v: array %d element %d is %g with %d workers, %g with one", c, k, i, pair[1][i], workers, v)
							}
						}
					}
				}
			}
		})
	}
}

// TestWindowAttentionIsLocal cuts an image at window borders: what lies a window
// away from the cut keeps its bits.
func TestWindowAttentionIsLocal(t *testing.T) {
	const channels, heads, window, shift, h, w = 6, 2, 4, 2, 16, 20
	rng := rand.New(rand.NewPCG(17, 18))
	side := 2*window - 1
	position := narrow(random(rng, -1, 1, heads, side*side).data)
	qkv := narrow(random(rng, -2, 2, 1, 3*channels, h, w).data)
	whole, _, _ := attention(t, 1, qkv, position, nil, tensor.Shape{1, 3 * channels, h, w}, tensor.Shape{heads, side * side}, window, shift)
	const y0, x0, ch, cw = 4, 8, 11, 9
	part := make([]float32, 3*channels*ch*cw)
	for c := range 3 * channels {
		for y := range ch {
			copy(part[(c*ch+y)*cw:][:cw], qkv[(c*h+y0+y)*w+x0:])
		}
	}
	cut, _, _ := attention(t, 1, part, position, nil, tensor.Shape{1, 3 * channels, ch, cw}, tensor.Shape{heads, side * side}, window, shift)
	for c := range channels {
		for y := window; y < ch-window; y++ {
			for x := window; x < cw-window; x++ {
				if got, want := cut[(c*ch+y)*cw+x], whole[(c*h+y0+y)*w+x0+x]; got != want {
					t.Fatalf("channel %d, token (%d,%d): %g in the part, %g in the whole", c, x, y, got, want)
				}
			}
		}
	}
}

func TestWindowAttentionRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		x, table      tensor.Shape
		window, shift int
	}{
		"channels": {tensor.Shape{1, 7, 4, 4}, tensor.Shape{1, 9}, 2, 0},
		"heads":    {tensor.Shape{1, 12, 4, 4}, tensor.Shape{3, 9}, 2, 0},
		"table":    {tensor.Shape{1, 12, 4, 4}, tensor.Shape{2, 25}, 2, 0},
		"shift":    {tensor.Shape{1, 12, 4, 4}, tensor.Shape{2, 9}, 2, 2},
		"rank":     {tensor.Shape{12, 4, 4}, tensor.Shape{2, 9}, 2, 0},
	} {
		if _, err := (&windowAttention[float32]{window: c.window, shift: c.shift}).shape([]tensor.Shape{c.x, c.table}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkWindowAttention(b *testing.B) {
	const batch, h, w, heads, window = 4, 32, 32, 6, 8
	for _, channels := range []int{48, 60} {
		for _, shift := range []int{0, 4} {
			rng := rand.New(rand.NewPCG(1, 1))
			side := 2*window - 1
			x, table := tensor.Shape{batch, 3 * channels, h, w}, tensor.Shape{heads, side * side}
			f := &windowAttention[float32]{window: window, shift: shift}
			if _, err := f.shape([]tensor.Shape{x, table}); err != nil {
				b.Fatal(err)
			}
			in := [][]float32{narrow(random(rng, -1, 1, x...).data), narrow(random(rng, -1, 1, table...).data)}
			out, dout := make([]float32, batch*channels*h*w), narrow(random(rng, -1, 1, batch, channels, h, w).data)
			din := [][]float32{make([]float32, len(in[0])), make([]float32, len(in[1]))}
			e := NewEnv(1)
			b.Run(fmt.Sprintf("%d channels, shift %d/forward", channels, shift), func(b *testing.B) {
				for b.Loop() {
					f.forward(e, in, out)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "us/patch")
			})
			b.Run(fmt.Sprintf("%d channels, shift %d/backward", channels, shift), func(b *testing.B) {
				for b.Loop() {
					f.backward(e, in, out, dout, din)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "us/patch")
			})
		}
	}
}

// TestWindowAttentionKeepsImagesApart fills the last image of a batch with NaN
// and infinities: what comes of the first keeps its bits.
func TestWindowAttentionKeepsImagesApart(t *testing.T) {
	for _, c := range attentionCases {
		rng := rand.New(rand.NewPCG(19, 20))
		side := 2*c.window - 1
		x, table := tensor.Shape{2, 3 * c.channels, c.h, c.w}, tensor.Shape{c.heads, side * side}
		qkv, position := narrow(random(rng, -2, 2, x...).data), narrow(random(rng, -1, 1, table...).data)
		dout := narrow(random(rng, -1, 1, 2, c.channels, c.h, c.w).data)
		out, dqkv, _ := attention(t, 1, qkv, position, dout, x, table, c.window, c.shift)
		for _, s := range [][]float32{qkv[len(qkv)/2:], dout[len(dout)/2:]} {
			for i := range s {
				s[i] = float32([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e38, 0}[rng.IntN(5)])
			}
		}
		o, dx, _ := attention(t, 1, qkv, position, dout, x, table, c.window, c.shift)
		for k, pair := range [][2][]float32{{out, o}, {dqkv, dx}} {
			for i := range len(pair[0]) / 2 {
				if pair[1][i] != pair[0][i] {
					t.Fatalf("%+v: array %d element %d is %g beside NaN, %g alone", c, k, i, pair[1][i], pair[0][i])
				}
			}
		}
	}
}
