package kernel

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
// then max(0, .) if relu. bias may be nil.
func ConvForward[T Float](s *Scratch[T], workers int, c Conv, x, weight, bias, y []T, relu bool) {
	convForwardGeneric(c, x, weight, bias, y, relu)
}

// ConvInputGrad computes the gradient with respect to the input from the
// gradient dy of the output, overwriting dx:
//
//	dx[b,i,p,q] = sum over o,u,v of weight[o,i,u,v] * dy[b,o,r,t]  with r*Stride+u-Size/2 = p, t*Stride+v-Size/2 = q
func ConvInputGrad[T Float](s *Scratch[T], workers int, c Conv, dy, weight, dx []T) {
	convInputGradGeneric(c, dy, weight, dx)
}

// ConvWeightGrad computes the gradients with respect to weight and bias,
// overwriting dweight and dbias (dbias may be nil):
//
//	dweight[o,i,u,v] = sum over b,r,q of dy[b,o,r,q] * x[b,i,r*Stride+u-Size/2,q*Stride+v-Size/2]
//	dbias[o]         = sum over b,r,q of dy[b,o,r,q]
func ConvWeightGrad[T Float](s *Scratch[T], workers int, c Conv, x, dy, dweight, dbias []T) {
	convWeightGradGeneric(c, x, dy, dweight, dbias)
}

func convForwardGeneric[T Float](c Conv, x, weight, bias, y []T, relu bool) {
	oh, ow, p := c.OutH(), c.OutW(), c.Size/2
	for b := range c.Batch {
		for o := range c.Out {
			out := y[(b*c.Out+o)*oh*ow:][:oh*ow]
			for r := range oh {
				for q := range ow {
					var sum T
					for i := range c.In {
						for u := range c.Size {
							h := r*c.Stride + u - p
							if h < 0 || h >= c.H {
								continue
							}
							for v := range c.Size {
								w := q*c.Stride + v - p
								if w >= 0 && w < c.W {
									sum += weight[((o*c.In+i)*c.Size+u)*c.Size+v] * x[((b*c.In+i)*c.H+h)*c.W+w]
								}
							}
						}
					}
					if bias != nil {
						sum += bias[o]
					}
					if relu && sum < 0 {
						sum = 0
					}
					out[r*ow+q] = sum
				}
			}
		}
	}
}

func convInputGradGeneric[T Float](c Conv, dy, weight, dx []T) {
	oh, ow, p := c.OutH(), c.OutW(), c.Size/2
	clear(dx[:c.Batch*c.In*c.H*c.W])
	for b := range c.Batch {
		for o := range c.Out {
			for r := range oh {
				for q := range ow {
					g := dy[((b*c.Out+o)*oh+r)*ow+q]
					for i := range c.In {
						for u := range c.Size {
							h := r*c.Stride + u - p
							if h < 0 || h >= c.H {
								continue
							}
							for v := range c.Size {
								w := q*c.Stride + v - p
								if w >= 0 && w < c.W {
									dx[((b*c.In+i)*c.H+h)*c.W+w] += weight[((o*c.In+i)*c.Size+u)*c.Size+v] * g
								}
							}
						}
					}
				}
			}
		}
	}
}

func convWeightGradGeneric[T Float](c Conv, x, dy, dweight, dbias []T) {
	oh, ow, p := c.OutH(), c.OutW(), c.Size/2
	clear(dweight[:c.Out*c.In*c.Size*c.Size])
	if dbias != nil {
		clear(dbias[:c.Out])
	}
	for b := range c.Batch {
		for o := range c.Out {
			for r := range oh {
				for q := range ow {
					g := dy[((b*c.Out+o)*oh+r)*ow+q]
					if dbias != nil {
						dbias[o] += g
					}
					for i := range c.In {
						for u := range c.Size {
							h := r*c.Stride + u - p
							if h < 0 || h >= c.H {
								continue
							}
							for v := range c.Size {
								w := q*c.Stride + v - p
								if w >= 0 && w < c.W {
									dweight[((o*c.In+i)*c.Size+u)*c.Size+v] += x[((b*c.In+i)*c.H+h)*c.W+w] * g
								}
							}
						}
					}
				}
			}
		}
	}
}
