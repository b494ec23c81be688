package kernel

import "fmt"

// Depthwise is the shape of a depthwise 2-D convolution (cross-correlation): each
// channel of (Batch,Channels,H,W) meets a kernel of its own, of odd height KH and
// odd width KW, that the batch shares; stride 1, zero padding KH/2 and KW/2. A
// sequence has H and KH 1.
type Depthwise struct {
	Batch, Channels, H, W int
	KH, KW                int
}

// MACs returns the multiply-accumulates of one forward pass, padding included.
func (d Depthwise) MACs() int64 {
	return int64(d.Batch) * int64(d.Channels) * int64(d.H*d.W) * int64(d.KH*d.KW)
}

// DepthwiseForward computes y from x (zero where the index is outside) and
// weight (Channels,KH,KW):
//
//	y[b,c,r,q] = sum over u,v of weight[c,u,v] * x[b,c,r+u-KH/2,q+v-KW/2]
//
// The fast levels go through (u,v) in that order with a fused multiply-add per
// term, padding included, so that the bits of an output depend on the input under
// its weights alone. (A weight that is not finite times the padding is NaN.)
func DepthwiseForward[T Float](s *Scratch[T], workers int, d Depthwise, x, weight, y []T) {
	d.check(len(x), len(weight), len(y))
	if !d.fast(s) {
		depthwiseGeneric(d, x, weight, y)
		return
	}
	d.correlate(any(s).(*Scratch[float32]), workers, asFloat32(x), asFloat32(weight), asFloat32(y), false)
}

// DepthwiseInputGrad computes the gradient with respect to the input from the
// gradient dy of the output, overwriting dx:
//
//	dx[b,c,p,q] = sum over u,v of weight[c,u,v] * dy[b,c,p-u+KH/2,q-v+KW/2]
//
// The fast levels go through (u,v) backwards; else it is as DepthwiseForward.
func DepthwiseInputGrad[T Float](s *Scratch[T], workers int, d Depthwise, dy, weight, dx []T) {
	d.check(len(dx), len(weight), len(dy))
	if !d.fast(s) {
		depthwiseInputGradGeneric(d, dy, weight, dx)
		return
	}
	d.correlate(any(s).(*Scratch[float32]), workers, asFloat32(dy), asFloat32(weight), asFloat32(dx), true)
}

// DepthwiseWeightGrad computes the gradient with respect to the kernels,
// overwriting dweight:
//
//	dweight[c,u,v] = sum over b,r,q of dy[b,c,r,q] * x[b,c,r+u-KH/2,q+v-KW/2]
//
// with the sum over an image as in Dot and the sum over the batch in float64, in
// order. At the fast levels a value of x or dy that is not finite may reach every
// weight of its channel through a product with padding.
func DepthwiseWeightGrad[T Float](s *Scratch[T], workers int, d Depthwise, x, dy, dweight []T) {
	d.check(len(x), len(dweight), len(dy))
	if !d.fast(s) {
		depthwiseWeightGradGeneric(d, x, dy, dweight)
		return
	}
	d.weightGrad(any(s).(*Scratch[float32]), workers, asFloat32(x), asFloat32(dy), asFloat32(dweight))
}

func (d Depthwise) check(input, weight, output int) {
	if d.Batch < 0 || d.Channels < 0 || d.H < 0 || d.W < 0 || d.KH < 1 || d.KW < 1 || d.KH%2 == 0 || d.KW%2 == 0 {
		panic(fmt.Sprintf("kernel: no depthwise convolution of shape %+v", d))
	}
	n := d.Batch * d.Channels * d.H * d.W
	if input < n || output < n || weight < d.Channels*d.KH*d.KW {
		panic(fmt.Sprintf("kernel: depthwise convolution %+v: slices of %d, %d and %d elements are too short", d, input, weight, output))
	}
}

// fast says whether vector kernels serve; s has the element type.
func (d Depthwise) fast(s any) bool {
	_, ok := s.(*Scratch[float32])
	return ok && active > Generic && d.H > 0 && d.W > 0
}

// On a plane padded to rows of W+KW-1 elements the input under tap (u,v) of all
// outputs is one run of memory, shifted by the tap: a convolution is one linear
// combination of KH*KW runs, whose results between the rows nobody reads.

// stride is the length of a padded row, and run that of the outputs' run.
func (d Depthwise) stride() int { return d.W + d.KW - 1 }
func (d Depthwise) run() int    { return (d.H-1)*d.stride() + d.W }

// taps returns the runs of plane under each tap in order, backwards if flipped.
func (d Depthwise) taps(plane []float32, flipped bool) [][]float32 {
	runs := make([][]float32, 0, d.KH*d.KW)
	for u := range d.KH {
		for v := range d.KW {
			runs = append(runs, plane[u*d.stride()+v:][:d.run()])
		}
	}
	if flipped {
		for i, j := 0, len(runs)-1; i < j; i, j = i+1, j-1 {
			runs[i], runs[j] = runs[j], runs[i]
		}
	}
	return runs
}

// inside is the place of the image's first pixel in a padded plane.
func (d Depthwise) inside() int { return d.KH/2*d.stride() + d.KW/2 }

// correlate computes DepthwiseForward, or DepthwiseInputGrad if flipped: a
// correlation with the kernel turned by half a turn.
func (d Depthwise) correlate(s *Scratch[float32], workers int, x, weight, y []float32, flipped bool) {
	defer s.Release(s.Mark())
	workers = max(1, min(workers, d.Channels))
	size := (d.H + d.KH - 1) * d.stride()
	// Zero once: images overwrite the inside of the plane only.
	planes := s.TakeZero(workers * size)
	sums := s.Take(workers * d.run())
	pixels, area := d.H*d.W, d.KH*d.KW
	Parallel(workers, d.Channels, func(worker, lo, hi int) {
		plane, sum := planes[worker*size:][:size], sums[worker*d.run():][:d.run()]
		runs := d.taps(plane, flipped)
		for c := lo; c < hi; c++ {
			w := weight[c*area:][:area]
			for b := range d.Batch {
				i := (b*d.Channels + c) * pixels
				CopyRows(plane[d.inside():], d.stride(), x[i:][:pixels], d.W, d.H, d.W)
				LinearCombination(sum, w, runs...)
				CopyRows(y[i:][:pixels], d.W, sum, d.stride(), d.H, d.W)
			}
		}
	})
}

func (d Depthwise) weightGrad(s *Scratch[float32], workers int, x, dy, dweight []float32) {
	defer s.Release(s.Mark())
	workers = max(1, min(workers, d.Channels))
	size := (d.H + d.KH - 1) * d.stride()
	planes := s.TakeZero(workers * size)
	grads := s.TakeZero(workers * d.run()) // rows of dy, with zeros between them
	pixels, area := d.H*d.W, d.KH*d.KW
	Parallel(workers, d.Channels, func(worker, lo, hi int) {
		plane, grad := planes[worker*size:][:size], grads[worker*d.run():][:d.run()]
		runs := d.taps(plane, false)
		sums := make([]float64, area)
		for c := lo; c < hi; c++ {
			clear(sums)
			for b := range d.Batch {
				i := (b*d.Channels + c) * pixels
				CopyRows(plane[d.inside():], d.stride(), x[i:][:pixels], d.W, d.H, d.W)
				CopyRows(grad, d.stride(), dy[i:][:pixels], d.W, d.H, d.W)
				for t, run := range runs {
					sums[t] += Dot(grad, run)
				}
			}
			for t, v := range sums {
				dweight[c*area+t] = float32(v)
			}
		}
	})
}

// each calls f for every row of outputs and tap that meets the input: n outputs
// from index out on and n inputs from index in on meet at weight index w.
func (d Depthwise) each(f func(out, in, w, n int)) {
	for b := range d.Batch {
		for c := range d.Channels {
			at := (b*d.Channels + c) * d.H * d.W
			for u := range d.KH {
				for v := range d.KW {
					shift := v - d.KW/2 // the input's column less the output's
					q0, q1 := max(0, -shift), min(d.W, d.W-shift)
					if q0 >= q1 {
						continue
					}
					for r := range d.H {
						if p := r + u - d.KH/2; p >= 0 && p < d.H {
							f(at+r*d.W+q0, at+p*d.W+q0+shift, (c*d.KH+u)*d.KW+v, q1-q0)
						}
					}
				}
			}
		}
	}
}

func depthwiseGeneric[T Float](d Depthwise, x, weight, y []T) {
	clear(y[:d.Batch*d.Channels*d.H*d.W])
	d.each(func(out, in, w, n int) { axpyGeneric(weight[w], x[in:][:n], y[out:][:n]) })
}

func depthwiseInputGradGeneric[T Float](d Depthwise, dy, weight, dx []T) {
	clear(dx[:d.Batch*d.Channels*d.H*d.W])
	d.each(func(out, in, w, n int) { axpyGeneric(weight[w], dy[out:][:n], dx[in:][:n]) })
}

func depthwiseWeightGradGeneric[T Float](d Depthwise, x, dy, dweight []T) {
	sums := make([]float64, d.Channels*d.KH*d.KW)
	d.each(func(out, in, w, n int) { sums[w] += dotGeneric(dy[out:][:n], x[in:][:n]) })
	for i, v := range sums {
		dweight[i] = T(v)
	}
}
