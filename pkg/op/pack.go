package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Pack joins images along the channels after folding p x p blocks of pixels into
// channels (space to depth): with h = ceil(H/p), w = ceil(W/p), images
// (B,C_k,H,W) become (B, p*p*(C_1+C_2+...), h, w), channel
// ((offset_k+c)*p+dy)*p+dx at (r, q) holding pixel (p*r+dy, p*q+dx), zero
// outside. states (B,S_k,h,w), already at that size, follow unchanged. constants
// says how many of the images, counted from the last, need no gradient.
func Pack(e *Env, p int, images []*G.Node, constants int, states ...*G.Node) (*G.Node, error) {
	n := len(images)
	in := append(append([]*G.Node{}, images...), states...)
	return applyAny(e, &pack[float32]{p: p, images: n, constants: constants}, &pack[float64]{p: p, images: n, constants: constants}, in...)
}

type pack[T kernel.Float] struct {
	p, images, constants int
	in                   []tensor.Shape
	h, w, channels       int
}

func (f *pack[T]) String() string { return fmt.Sprintf("pack(%d)", f.p) }

func (f *pack[T]) wants() []bool {
	w := make([]bool, len(f.in))
	for i := range w {
		w[i] = i >= f.images || i < f.images-f.constants
	}
	return w
}

func (f *pack[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	for i, s := range in {
		if err := rank(fmt.Sprintf("input %d", i), s, 4); err != nil {
			return nil, err
		}
	}
	H, W := in[0][2], in[0][3]
	f.in, f.h, f.w, f.channels = in, (H+f.p-1)/f.p, (W+f.p-1)/f.p, 0
	for i, s := range in {
		want := tensor.Shape{in[0][0], s[1], H, W}
		if i >= f.images {
			want = tensor.Shape{in[0][0], s[1], f.h, f.w}
		}
		if err := sameShape(fmt.Sprintf("input %d", i), s, want); err != nil {
			return nil, err
		}
		if i < f.images {
			f.channels += s[1] * f.p * f.p
		} else {
			f.channels += s[1]
		}
	}
	return tensor.Shape{in[0][0], f.channels, f.h, f.w}, nil
}

func (f *pack[T]) forward(e *Env, in [][]T, out []T) {
	hw := f.h * f.w
	for b := range f.in[0][0] {
		at := b * f.channels * hw
		for i, s := range f.in {
			n := s[1] * s[2] * s[3]
			src := in[i][b*n:][:n]
			if i >= f.images {
				at += copy(out[at:], src)
				continue
			}
			for c := range s[1] {
				spaceToDepth(out[at:][:f.p*f.p*hw], src[c*s[2]*s[3]:][:s[2]*s[3]], f.p, s[2], s[3])
				at += f.p * f.p * hw
			}
		}
	}
}

func (f *pack[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	hw := f.h * f.w
	for b := range f.in[0][0] {
		at := b * f.channels * hw
		for i, s := range f.in {
			n := s[1] * s[2] * s[3]
			if i >= f.images {
				at += copy(din[i][b*n:][:n], dout[at:])
				continue
			}
			for c := range s[1] {
				if din[i] != nil {
					depthToSpace(din[i][b*n+c*s[2]*s[3]:][:s[2]*s[3]], dout[at:][:f.p*f.p*hw], f.p, s[2], s[3])
				}
				at += f.p * f.p * hw
			}
		}
	}
}

// spaceToDepth folds an image (h,w) into dst (p*p,ceil(h/p),ceil(w/p)), zero
// where the image has no pixel.
func spaceToDepth[T kernel.Float](dst, src []T, p, h, w int) {
	if p == 1 {
		copy(dst, src)
		return
	}
	ph, pw := (h+p-1)/p, (w+p-1)/p
	for k := range p * p {
		dy, dx := k/p, k%p
		for r := range ph {
			row := dst[(k*ph+r)*pw:][:pw]
			y := r*p + dy
			if y >= h {
				clear(row)
				continue
			}
			line := src[y*w:][:w]
			for q := range row {
				if x := q*p + dx; x < w {
					row[q] = line[x]
				} else {
					row[q] = 0
				}
			}
		}
	}
}

// depthToSpace is the inverse of spaceToDepth, and its adjoint.
func depthToSpace[T kernel.Float](dst, src []T, p, h, w int) {
	if p == 1 {
		copy(dst, src)
		return
	}
	ph, pw := (h+p-1)/p, (w+p-1)/p
	for y := range h {
		line := dst[y*w:][:w]
		for dx := range p {
			row := src[(((y%p)*p+dx)*ph+y/p)*pw:][:pw]
			for q := range row {
				if x := q*p + dx; x < w {
					line[x] = row[q]
				}
			}
		}
	}
}

// Unpack unfolds channels [from, from+channels*p*p) of x (B,S,h,w) into an image
// (B,channels,height,width), the inverse of Pack's folding.
func Unpack(e *Env, p int, x *G.Node, from, channels, height, width int) (*G.Node, error) {
	return applyAny(e, &unpack[float32]{p: p, from: from, channels: channels, h: height, w: width},
		&unpack[float64]{p: p, from: from, channels: channels, h: height, w: width}, x)
}

type unpack[T kernel.Float] struct {
	p, from, channels, h, w int
	in                      tensor.Shape
}

func (f *unpack[T]) String() string { return fmt.Sprintf("unpack(%d)", f.p) }

func (f *unpack[T]) wants() []bool { return []bool{true} }

func (f *unpack[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	if x[1] < f.from+f.channels*f.p*f.p || x[2] != (f.h+f.p-1)/f.p || x[3] != (f.w+f.p-1)/f.p {
		return nil, fmt.Errorf("input has shape %v, expected one that holds (%d,%d,%d) folded by %d from channel %d", x, f.channels, f.h, f.w, f.p, f.from)
	}
	f.in = x
	return tensor.Shape{x[0], f.channels, f.h, f.w}, nil
}

func (f *unpack[T]) each(do func(image, folded int)) {
	hw := f.in[2] * f.in[3]
	for b := range f.in[0] {
		for c := range f.channels {
			do((b*f.channels+c)*f.h*f.w, (b*f.in[1]+f.from+c*f.p*f.p)*hw)
		}
	}
}

func (f *unpack[T]) forward(e *Env, in [][]T, out []T) {
	n := f.p * f.p * f.in[2] * f.in[3]
	f.each(func(image, folded int) {
		depthToSpace(out[image:][:f.h*f.w], in[0][folded:][:n], f.p, f.h, f.w)
	})
}

func (f *unpack[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	n := f.p * f.p * f.in[2] * f.in[3]
	if f.channels*f.p*f.p < f.in[1] {
		clear(din[0])
	}
	f.each(func(image, folded int) {
		spaceToDepth(din[0][folded:][:n], dout[image:][:f.h*f.w], f.p, f.h, f.w)
	})
}
