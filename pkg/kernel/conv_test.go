package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// naiveForward is the sum of ConvForward's comment, term by term.
func naiveForward(c Conv, x, weight, bias []float64, relu bool) []float64 {
	oh, ow := c.OutH(), c.OutW()
	y := make([]float64, c.Batch*c.Out*oh*ow)
	c.eachTerm(func(y0, x0, w0 int) { y[y0] += weight[w0] * x[x0] })
	for j := range y {
		if bias != nil {
			y[j] += bias[j/(oh*ow)%c.Out]
		}
		if relu && y[j] < 0 {
			y[j] = 0
		}
	}
	return y
}

// eachTerm calls f with the indices of output, input and weight of every product
// in a convolution.
func (c Conv) eachTerm(f func(y, x, w int)) {
	for b := range c.Batch {
		for o := range c.Out {
			for r := range c.OutH() {
				for q := range c.OutW() {
					for i := range c.In {
						for u := range c.Size {
							for v := range c.Size {
								h, w := r*c.Stride+u-c.Size/2, q*c.Stride+v-c.Size/2
								if h >= 0 && h < c.H && w >= 0 && w < c.W {
									f(((b*c.Out+o)*c.OutH()+r)*c.OutW()+q, ((b*c.In+i)*c.H+h)*c.W+w, ((o*c.In+i)*c.Size+u)*c.Size+v)
								}
							}
						}
					}
				}
			}
		}
	}
}

// convShapes is a spread of sizes around the kernels' tiles.
func convShapes() []Conv {
	var shapes []Conv
	for _, size := range []int{1, 3} {
		for _, stride := range []int{1, 2} {
			for _, hw := range [][2]int{{1, 1}, {1, 7}, {2, 3}, {5, 1}, {7, 5}, {6, 8}, {3, 16}, {9, 17}, {4, 31}, {5, 32}, {3, 33}, {4, 64}, {2, 70}} {
				for _, io := range [][2]int{{1, 1}, {2, 3}, {3, 7}, {5, 13}} {
					shapes = append(shapes, Conv{Batch: 2, In: io[0], Out: io[1], H: hw[0], W: hw[1], Size: size, Stride: stride})
				}
			}
			shapes = append(shapes,
				Conv{Batch: 1, In: 24, Out: 48, H: 32, W: 32, Size: size, Stride: stride},
				Conv{Batch: 1, In: 150, Out: 6, H: 40, W: 33, Size: size, Stride: stride},
				Conv{Batch: 3, In: 6, Out: 24, H: 13, W: 12, Size: size, Stride: stride},
				Conv{Batch: 1, In: 4, Out: 18, H: 200, W: 16, Size: size, Stride: stride})
		}
	}
	return shapes
}

func TestConvGenericMatchesDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range convShapes() {
		if c.MACs() > 1e6 {
			continue
		}
		oh, ow := c.OutH(), c.OutW()
		_, x, _ := guardedRandom(t, rng, "x", c.Batch*c.In*c.H*c.W)
		_, w, _ := guardedRandom(t, rng, "w", c.Out*c.In*c.Size*c.Size)
		_, bias, _ := guardedRandom(t, rng, "bias", c.Out)
		_, dy, _ := guardedRandom(t, rng, "dy", c.Batch*c.Out*oh*ow)
		wantY := naiveForward(c, x, w, bias, true)
		wantX, wantW, wantB := make([]float64, len(x)), make([]float64, len(w)), make([]float64, c.Out)
		c.eachTerm(func(y, x0, w0 int) {
			wantX[x0] += w[w0] * dy[y]
			wantW[w0] += x[x0] * dy[y]
		})
		for j, g := range dy {
			wantB[j/(oh*ow)%c.Out] += g
		}
		y, dx, dw, db := make([]float64, len(dy)), make([]float64, len(x)), make([]float64, len(w)), make([]float64, c.Out)
		ConvForward(nil, 1, c, x, w, bias, y, true)
		ConvInputGrad(nil, 1, c, dy, w, dx)
		ConvWeightGrad(nil, 1, c, x, dy, dw, db)
		for name, p := range map[string][2][]float64{"y": {y, wantY}, "dx": {dx, wantX}, "dw": {dw, wantW}, "db": {db, wantB}} {
			for i := range p[0] {
				if math.Abs(p[0][i]-p[1][i]) > 1e-12*float64(len(dy)+9*c.In) {
					t.Fatalf("%+v: %s[%d] = %v, want %v", c, name, i, p[0][i], p[1][i])
				}
			}
		}
	}
}

func TestConvMatchesGeneric(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		var s Scratch[float32]
		// Dirty scratch memory: what is left there must not show.
		for i, dirty := 0, s.Take(1<<20); i < len(dirty); i++ {
			dirty[i] = poison
		}
		s.Release(Mark{})
		for n, c := range convShapes() {
			oh, ow := c.OutH(), c.OutW()
			x, x64, checkX := guardedRandom(t, rng, "x", c.Batch*c.In*c.H*c.W)
			w, w64, checkW := guardedRandom(t, rng, "weight", c.Out*c.In*c.Size*c.Size)
			bias, bias64, checkBias := guardedRandom(t, rng, "bias", c.Out)
			dy, dy64, checkDY := guardedRandom(t, rng, "dy", c.Batch*c.Out*oh*ow)
			y, checkY := guarded(t, "y", len(dy))
			dx, checkDX := guarded(t, "dx", len(x))
			dw, checkDW := guarded(t, "dweight", len(w))
			db, checkDB := guarded(t, "dbias", c.Out)
			y64, dx64, dw64, db64 := make([]float64, len(dy)), make([]float64, len(x)), make([]float64, len(w)), make([]float64, c.Out)
			relu := n%2 == 0
			if n%3 == 0 {
				bias, bias64 = nil, nil
			}
			ConvForward(nil, 1, c, x64, w64, bias64, y64, relu)
			ConvInputGrad(nil, 1, c, dy64, w64, dx64)
			ConvWeightGrad(nil, 1, c, x64, dy64, dw64, db64)
			var first [][]float32
			for _, workers := range []int{1, 2, 3} {
				for _, out := range [][]float32{y, dx, dw, db} {
					for i := range out {
						out[i] = poison
					}
				}
				ConvForward(&s, workers, c, x, w, bias, y, relu)
				ConvInputGrad(&s, workers, c, dy, w, dx)
				ConvWeightGrad(&s, workers, c, x, dy, dw, db)
				for i, out := range [][]float32{y, dx, dw, db} {
					if workers == 1 {
						first = append(first, append([]float32(nil), out...))
					}
					sameBits(t, fmt.Sprintf("%+v workers %d output %d", c, workers, i), first[i], out)
				}
			}
			name := fmt.Sprintf("%+v: ", c)
			area := c.Size * c.Size
			closeTo(t, name+"y", y, y64, gemmTolerance(c.In*area))
			closeTo(t, name+"dx", dx, dx64, gemmTolerance(c.Out*area))
			closeTo(t, name+"dweight", dw, dw64, gemmTolerance(c.Batch*oh*ow))
			closeTo(t, name+"dbias", db, db64, gemmTolerance(c.Batch*oh*ow))
			for _, check := range []func(){checkX, checkW, checkBias, checkDY, checkY, checkDX, checkDW, checkDB} {
				check()
			}
		}
	})
}

// crop copies rows h0.. and columns w0.. of every plane of (planes,h,w).
func crop(x []float32, planes, h, w, h0, w0, ch, cw int) []float32 {
	out := make([]float32, planes*ch*cw)
	for p := range planes {
		for r := range ch {
			copy(out[(p*ch+r)*cw:][:cw], x[(p*h+h0+r)*w+w0:])
		}
	}
	return out
}

// An output two pixels inside a crop has the bits it has in the whole image,
// wherever the crop lies and however large it is; so has an input gradient.
func TestConvPositionIndependent(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 10))
		const h, w = 38, 77
		for _, size := range []int{1, 3} {
			for _, stride := range []int{1, 2} {
				c := Conv{Batch: 1, In: 9, Out: 14, H: h, W: w, Size: size, Stride: stride}
				x, _, _ := guardedRandom(t, rng, "x", c.In*h*w)
				weight, _, _ := guardedRandom(t, rng, "w", c.Out*c.In*size*size)
				bias, _, _ := guardedRandom(t, rng, "bias", c.Out)
				dy, _, _ := guardedRandom(t, rng, "dy", c.Out*c.OutH()*c.OutW())
				y, dx := make([]float32, len(dy)), make([]float32, len(x))
				ConvForward(nil, 1, c, x, weight, bias, y, false)
				ConvInputGrad(nil, 1, c, dy, weight, dx)
				for _, z := range [][4]int{{0, 0, 38, 64}, {2, 4, 20, 32}, {10, 30, 9, 17}, {30, 60, 8, 17}, {6, 2, 16, 48}, {4, 8, 5, 6}} {
					p := c
					h0, w0 := z[0], z[1]
					p.H, p.W = z[2], z[3]
					part := make([]float32, c.Out*p.OutH()*p.OutW())
					ConvForward(nil, 2, p, crop(x, c.In, h, w, h0, w0, p.H, p.W), weight, bias, part, false)
					whole := crop(y, c.Out, c.OutH(), c.OutW(), h0/stride, w0/stride, p.OutH(), p.OutW())
					inner := func(v []float32, planes, h, w int) []float32 { return crop(v, planes, h, w, 2, 2, h-4, w-4) }
					if p.OutH() > 4 && p.OutW() > 4 {
						sameBits(t, fmt.Sprintf("y of %+v at %v", p, z), inner(whole, c.Out, p.OutH(), p.OutW()), inner(part, c.Out, p.OutH(), p.OutW()))
					}
					partX := make([]float32, c.In*p.H*p.W)
					ConvInputGrad(nil, 2, p, crop(dy, c.Out, c.OutH(), c.OutW(), h0/stride, w0/stride, p.OutH(), p.OutW()), weight, partX)
					wholeX := crop(dx, c.In, h, w, h0, w0, p.H, p.W)
					sameBits(t, fmt.Sprintf("dx of %+v at %v", p, z), inner(wholeX, c.In, p.H, p.W), inner(partX, c.In, p.H, p.W))
				}
			}
		}
	})
}

// A NaN or infinity in the input reaches exactly the outputs over it, through
// the ReLU as well.
func TestConvNonFinite(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		for _, size := range []int{1, 3} {
			for _, stride := range []int{1, 2} {
				c := Conv{Batch: 2, In: 3, Out: 7, H: 11, W: 37, Size: size, Stride: stride}
				x := make([]float64, c.Batch*c.In*c.H*c.W)
				w := make([]float64, c.Out*c.In*size*size)
				for i := range x {
					x[i] = 1
				}
				for i := range w {
					w[i] = float64(i%5) - 1.5
				}
				x[4*c.W+8], x[(c.In+2)*c.H*c.W-1], x[len(x)-9*c.W] = math.NaN(), math.Inf(1), math.Inf(-1)
				want := naiveForward(c, x, w, nil, true)
				x32, w32, y := make([]float32, len(x)), make([]float32, len(w)), make([]float32, len(want))
				for i, v := range x {
					x32[i] = float32(v)
				}
				for i, v := range w {
					w32[i] = float32(v)
				}
				ConvForward(nil, 1, c, x32, w32, nil, y, true)
				for i, g := range y {
					if math.IsNaN(float64(g)) != math.IsNaN(want[i]) {
						t.Fatalf("%+v: y[%d] = %v, want %v", c, i, g, want[i])
					}
				}
				closeTo(t, fmt.Sprintf("%+v: y", c), y, want, 1e-5)

				dy, dx, dx64 := make([]float32, len(y)), make([]float32, len(x)), make([]float64, len(x))
				for i := range dy {
					dy[i] = 1
				}
				dy[3*c.OutW()+5] = float32(math.NaN())
				dy[len(dy)-1] = float32(math.Inf(1))
				dy64 := make([]float64, len(dy))
				for i, v := range dy {
					dy64[i] = float64(v)
				}
				ConvInputGrad(nil, 1, c, dy, w32, dx)
				convInputGradGeneric(c, dy64, w, dx64)
				for i, g := range dx {
					if math.IsNaN(float64(g)) != math.IsNaN(dx64[i]) {
						t.Fatalf("%+v: dx[%d] = %v, want %v", c, i, g, dx64[i])
					}
				}
				dw, dw64 := make([]float32, len(w)), make([]float64, len(w))
				ConvWeightGrad(nil, 1, c, x32, dy, dw, nil)
				convWeightGradGeneric(c, x, dy64, dw64)
				for i, g := range dw64 {
					if math.IsNaN(g) && !math.IsNaN(float64(dw[i])) {
						t.Fatalf("%+v: dweight[%d] = %v, want NaN", c, i, dw[i])
					}
				}
			}
		}
	})
}

func TestConvEmpty(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		for _, c := range []Conv{
			{Batch: 0, In: 2, Out: 3, H: 4, W: 5, Size: 3, Stride: 1},
			{Batch: 1, In: 0, Out: 3, H: 4, W: 5, Size: 3, Stride: 2},
			{Batch: 1, In: 2, Out: 0, H: 4, W: 5, Size: 3, Stride: 1},
			{Batch: 1, In: 2, Out: 3, H: 0, W: 5, Size: 1, Stride: 1},
		} {
			x := make([]float32, c.Batch*c.In*c.H*c.W)
			w := make([]float32, c.Out*c.In*c.Size*c.Size)
			y := make([]float32, c.Batch*c.Out*c.OutH()*c.OutW())
			bias, db := make([]float32, c.Out), make([]float32, c.Out)
			for i := range w {
				w[i] = 5
			}
			for i := range bias {
				bias[i] = 2
			}
			ConvForward(nil, 1, c, x, w, bias, y, true)
			for i, v := range y {
				if v != 2 {
					t.Errorf("%+v: y[%d] = %v, want the bias 2", c, i, v)
				}
			}
			for i := range x {
				x[i] = 7
			}
			ConvInputGrad(nil, 1, c, y, w, x)
			for i, v := range x {
				if v != 0 {
					t.Errorf("%+v: dx[%d] = %v, want 0", c, i, v)
				}
			}
			ConvWeightGrad(nil, 1, c, x, y, w, db)
			for i, v := range w {
				if v != 0 {
					t.Errorf("%+v: dweight[%d] = %v, want 0", c, i, v)
				}
			}
		}
	})
}

func TestConvRefusesBadShapes(t *testing.T) {
	good := Conv{Batch: 1, In: 2, Out: 3, H: 4, W: 5, Size: 3, Stride: 1}
	x, w, y := make([]float32, 40), make([]float32, 54), make([]float32, 60)
	for name, f := range map[string]func(){
		"size":   func() { c := good; c.Size = 5; ConvForward(nil, 1, c, x, w, nil, y, false) },
		"stride": func() { c := good; c.Stride = 3; ConvForward(nil, 1, c, x, w, nil, y, false) },
		"x":      func() { ConvForward(nil, 1, good, x[:39], w, nil, y, false) },
		"w":      func() { ConvInputGrad(nil, 1, good, y, w[:53], x) },
		"y":      func() { ConvWeightGrad(nil, 1, good, x, y[:59], w, nil) },
		"bias":   func() { ConvForward(nil, 1, good, x, w, x[:2], y, false) },
		"dbias":  func() { ConvWeightGrad(nil, 1, good, x, y, w, x[:2]) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestConvAllocatesNothing(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		var s Scratch[float32]
		for _, c := range []Conv{
			{Batch: 2, In: 8, Out: 12, H: 16, W: 16, Size: 3, Stride: 1},
			{Batch: 2, In: 5, Out: 7, H: 9, W: 13, Size: 3, Stride: 2},
			{Batch: 2, In: 8, Out: 12, H: 16, W: 16, Size: 1, Stride: 1},
			{Batch: 2, In: 3, Out: 3, H: 9, W: 13, Size: 1, Stride: 2},
		} {
			x, w, y := make([]float32, c.Batch*c.In*c.H*c.W), make([]float32, c.Out*c.In*c.Size*c.Size), make([]float32, c.Batch*c.Out*c.OutH()*c.OutW())
			bias := make([]float32, c.Out)
			if n := testing.AllocsPerRun(5, func() {
				ConvForward(&s, 1, c, x, w, bias, y, true)
				ConvInputGrad(&s, 1, c, y, w, x)
				ConvWeightGrad(&s, 1, c, x, y, w, bias)
			}); n != 0 {
				t.Errorf("%+v: %v allocations per call", c, n)
			}
		}
	})
}

func BenchmarkConv(b *testing.B) {
	for _, c := range []Conv{
		{Batch: 4, In: 48, Out: 48, H: 64, W: 64, Size: 3, Stride: 1},
		{Batch: 8, In: 48, Out: 48, H: 32, W: 32, Size: 3, Stride: 1},
		{Batch: 8, In: 24, Out: 48, H: 32, W: 32, Size: 3, Stride: 1},
		{Batch: 8, In: 48, Out: 96, H: 32, W: 32, Size: 1, Stride: 1},
		{Batch: 8, In: 48, Out: 192, H: 32, W: 32, Size: 1, Stride: 1},
		{Batch: 4, In: 6, Out: 24, H: 64, W: 64, Size: 3, Stride: 1},
		{Batch: 4, In: 24, Out: 24, H: 64, W: 64, Size: 3, Stride: 1},
		{Batch: 4, In: 48, Out: 48, H: 64, W: 64, Size: 3, Stride: 2},
	} {
		x, w, y := make([]float32, c.Batch*c.In*c.H*c.W), make([]float32, c.Out*c.In*c.Size*c.Size), make([]float32, c.Batch*c.Out*c.OutH()*c.OutW())
		bias := make([]float32, c.Out)
		var s Scratch[float32]
		for _, l := range Available()[1:] {
			for _, pass := range []struct {
				name string
				f    func()
			}{
				{"forward", func() { ConvForward(&s, 1, c, x, w, bias, y, true) }},
				{"input", func() { ConvInputGrad(&s, 1, c, y, w, x) }},
				{"weight", func() { ConvWeightGrad(&s, 1, c, x, y, w, bias) }},
			} {
				b.Run(fmt.Sprintf("%dx%d_%d-%d_%dx%d_s%d/%s/%v", c.Size, c.Size, c.In, c.Out, c.H, c.W, c.Stride, pass.name, l), func(b *testing.B) {
					defer Force(l)()
					benchFlops(b, l, 2*c.MACs(), pass.f)
				})
			}
		}
	}
}
