package kernel

import "fmt"

// Conv is the shape of a 2-D convolution (cross-correlation, as networks use
// the word) with square kernel Size 1 or 3, Stride 1 or 2 and zero padding
// Size/2. Input (Batch,In,H,W), weight (Out,In,Size,Size), bias (Out), output
// (Batch,Out,OutH,OutW).
type Conv struct {
	Batch, In, Out, H, W int
	Size, Stride         int
}

// OutH returns the height of the output, ceil(H/Stride).
func (c Conv) OutH() int { return (c.H + c.Stride - 1) / c.Stride }

// OutW returns the width of the output, ceil(W/Stride).
func (c Conv) OutW() int { return (c.W + c.Stride - 1) / c.Stride }

// MACs returns the multiply-accumulates of one forward pass.
func (c Conv) MACs() int64 {
	return int64(c.Batch) * int64(c.Out) * int64(c.OutH()) * int64(c.OutW()) * int64(c.In*c.Size*c.Size)
}

// ConvForward computes y from x (zero where the input index is outside):
//
//	y[b,o,r,q] = bias[o] + sum over i,u,v of weight[o,i,u,v] * x[b,i,r*Stride+u-Size/2,q*Stride+v-Size/2]
//
// then max(0, .) if relu, where NaN stays NaN. bias may be nil.
//
// The fast levels go through (i,u,v) in that order for every output, with a fused
// multiply-add per term, padding included: the bits of an output depend on the
// input values under its weights alone, not on its place, the image size, the
// batch or the workers. (A weight that is not finite times the padding is NaN.)
func ConvForward[T Float](s *Scratch[T], workers int, c Conv, x, weight, bias, y []T, relu bool) {
	c.check(len(x), len(weight), len(y))
	if bias != nil && len(bias) < c.Out {
		panic("kernel: ConvForward: bias is shorter than Out")
	}
	if fast, ok := any(s).(*Scratch[float32]); ok && active > Generic {
		convForwardFast(fast, workers, c, asFloat32(x), asFloat32(weight), asFloat32(bias), asFloat32(y), relu)
		return
	}
	convForwardGeneric(c, x, weight, bias, y, relu)
}

// ConvInputGrad computes the gradient with respect to the input from the
// gradient dy of the output, overwriting dx:
//
//	dx[b,i,p,q] = sum over o,u,v of weight[o,i,u,v] * dy[b,o,r,t]  with r*Stride+u-Size/2 = p, t*Stride+v-Size/2 = q
//
// What ConvForward says of the bits of an output holds here for dx.
func ConvInputGrad[T Float](s *Scratch[T], workers int, c Conv, dy, weight, dx []T) {
	c.check(len(dx), len(weight), len(dy))
	if fast, ok := any(s).(*Scratch[float32]); ok && active > Generic {
		convInputGradFast(fast, workers, c, asFloat32(dy), asFloat32(weight), asFloat32(dx))
		return
	}
	convInputGradGeneric(c, dy, weight, dx)
}

// ConvWeightGrad computes the gradients with respect to weight and bias,
// overwriting dweight and dbias (dbias may be nil):
//
//	dweight[o,i,u,v] = sum over b,r,q of dy[b,o,r,q] * x[b,i,r*Stride+u-Size/2,q*Stride+v-Size/2]
//	dbias[o]         = sum over b,r,q of dy[b,o,r,q]
//
// Sums run over the pixels of an image first, in an order fixed by its size, then
// over the batch in order. At the fast levels a value of x or dy that is not
// finite may reach every weight of its channel through a product with padding.
func ConvWeightGrad[T Float](s *Scratch[T], workers int, c Conv, x, dy, dweight, dbias []T) {
	c.check(len(x), len(dweight), len(dy))
	if dbias != nil && len(dbias) < c.Out {
		panic("kernel: ConvWeightGrad: dbias is shorter than Out")
	}
	if fast, ok := any(s).(*Scratch[float32]); ok && active > Generic {
		convWeightGradFast(fast, workers, c, asFloat32(x), asFloat32(dy), asFloat32(dweight))
	} else {
		convWeightGradGeneric(c, x, dy, dweight)
	}
	if dbias != nil {
		pixels := c.OutH() * c.OutW()
		for o := range c.Out {
			var sum float64
			for b := range c.Batch {
				sum += Sum(dy[(b*c.Out+o)*pixels:][:pixels])
			}
			dbias[o] = T(sum)
		}
	}
}

// check panics unless the shape is legal and the slices have the lengths of
// input, weight and output.
func (c Conv) check(input, weight, output int) {
	if c.Size != 1 && c.Size != 3 || c.Stride != 1 && c.Stride != 2 || c.Batch < 0 || c.In < 0 || c.Out < 0 || c.H < 0 || c.W < 0 {
		panic(fmt.Sprintf("kernel: no convolution of shape %+v", c))
	}
	if input < c.Batch*c.In*c.H*c.W || weight < c.Out*c.In*c.Size*c.Size || output < c.Batch*c.Out*c.OutH()*c.OutW() {
		panic(fmt.Sprintf("kernel: convolution %+v: slices of %d, %d and %d elements are too short", c, input, weight, output))
	}
}

// span returns the outputs q0 <= q < q1 along one axis, of n inputs and outs
// outputs, for which tap v meets an input.
func (c Conv) span(v, n, outs int) (q0, q1 int) {
	d := v - c.Size/2 // input index is q*Stride+d
	if d < 0 {
		q0 = (-d + c.Stride - 1) / c.Stride
	}
	q1 = outs
	for q1 > q0 && (q1-1)*c.Stride+d >= n {
		q1--
	}
	return q0, q1
}

// convRows calls f for every row of outputs (b,o,r) and tap (i,u,v) that meets
// the input: the outputs from index out on and the inputs from index in on, n of
// them, meet at weight index w. The order is b, o, i, u, v, r.
func (c Conv) convRows(f func(out, in, w, n int)) {
	oh, ow := c.OutH(), c.OutW()
	for b := range c.Batch {
		for o := range c.Out {
			for i := range c.In {
				for u := range c.Size {
					r0, r1 := c.span(u, c.H, oh)
					for v := range c.Size {
						q0, q1 := c.span(v, c.W, ow)
						for r := r0; r < r1; r++ {
							f(((b*c.Out+o)*oh+r)*ow+q0,
								((b*c.In+i)*c.H+r*c.Stride+u-c.Size/2)*c.W+q0*c.Stride+v-c.Size/2,
								((o*c.In+i)*c.Size+u)*c.Size+v, q1-q0)
						}
					}
				}
			}
		}
	}
}

func convForwardGeneric[T Float](c Conv, x, weight, bias, y []T, relu bool) {
	y = y[:c.Batch*c.Out*c.OutH()*c.OutW()]
	clear(y)
	c.convRows(func(out, in, w, n int) {
		dst, a := y[out:][:n], weight[w]
		if c.Stride == 1 {
			axpyGeneric(a, x[in:][:n], dst)
			return
		}
		for q := range dst {
			dst[q] += a * x[in+q*c.Stride]
		}
	})
	pixels := c.OutH() * c.OutW()
	for j, s := range y {
		if bias != nil {
			s += bias[j/pixels%c.Out]
		}
		if relu && s < 0 {
			s = 0
		}
		y[j] = s
	}
}

func convInputGradGeneric[T Float](c Conv, dy, weight, dx []T) {
	clear(dx[:c.Batch*c.In*c.H*c.W])
	c.convRows(func(out, in, w, n int) {
		src, a := dy[out:][:n], weight[w]
		if c.Stride == 1 {
			axpyGeneric(a, src, dx[in:][:n])
			return
		}
		for q, g := range src {
			dx[in+q*c.Stride] += a * g
		}
	})
}

func convWeightGradGeneric[T Float](c Conv, x, dy, dweight []T) {
	clear(dweight[:c.Out*c.In*c.Size*c.Size])
	c.convRows(func(out, in, w, n int) {
		var sum T
		for q, g := range dy[out:][:n] {
			sum += g * x[in+q*c.Stride]
		}
		dweight[w] += sum
	})
}
