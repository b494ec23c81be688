// Package graph holds what is computed on pixel graphs: neighbourhoods, edge
// weights from features, Laplacian operators, and the unrolled conjugate
// gradient with its adjoint. It knows slices, not autodiff.
package graph

import "github.com/unrollnet/unrollnet/pkg/kernel"

// Offset is a neighbour's place relative to a pixel: rows down, columns right.
type Offset = [2]int

// Grid is an H x W pixel graph on padded planes: every pixel is joined to the
// pixels at the forward offsets and at their opposites. Each edge is stored once,
// at the pixel it leaves in forward direction. Padding holds zeros, so stencils
// need no border case: a missing neighbour is an edge of weight zero.
type Grid struct {
	H, W    int
	Forward []Offset // each with dy > 0, or dy = 0 and dx > 0
	Radius  int      // largest |dy| or |dx|, at least 1

	Stride, Base, PlaneLen int // see kernel.Stencil

	half       kernel.Stencil // one tap per forward offset
	undirected kernel.Stencil // taps of a symmetric graph, both directions
	directed   kernel.Stencil // taps of a directed graph: planes of Forward, then of the opposites
	transposed kernel.Stencil // the directed graph with its arrows reversed
	outward    kernel.Stencil // one tap per directed plane
}

const lane = 16 // kernels work on multiples of this many columns

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// NewGrid returns the graph of an h x w image with the given forward offsets.
func NewGrid(h, w int, forward []Offset) *Grid {
	g := &Grid{H: h, W: w, Forward: forward, Radius: 1}
	for _, o := range forward {
		g.Radius = max(g.Radius, o[0], o[1], -o[1])
	}
	g.Stride = roundUp(w+g.Radius, lane)
	g.Base = g.Radius*g.Stride + roundUp(g.Radius, lane)
	g.PlaneLen = roundUp(g.Base+(h+g.Radius)*g.Stride+g.Radius, lane)
	base := kernel.Stencil{Rows: h, Cols: w, Padded: roundUp(w, lane), Stride: g.Stride, Base: g.Base, PlaneLen: g.PlaneLen}
	g.half, g.undirected, g.directed, g.transposed, g.outward = base, base, base, base, base
	tap := func(s *kernel.Stencil, edge, offset int) {
		s.Edge = append(s.Edge, edge)
		s.Offset = append(s.Offset, offset)
	}
	n := len(forward)
	for t, o := range forward {
		off := g.shift(o)
		to, from := t*g.PlaneLen, (n+t)*g.PlaneLen
		tap(&g.half, to, off)
		tap(&g.undirected, to, off)
		tap(&g.undirected, to-off, -off)
		tap(&g.directed, to, off)
		tap(&g.directed, from, -off)
		tap(&g.transposed, from+off, off)
		tap(&g.transposed, to-off, -off)
		tap(&g.outward, to, off)
		tap(&g.outward, from, -off)
	}
	return g
}

func (g *Grid) shift(o Offset) int { return o[0]*g.Stride + o[1] }

// rows returns the part of a plane from its first pixel to the end of its last
// row, moved by shift elements.
func rows[T kernel.Float](g *Grid, plane []T, shift int) []T {
	lo := g.Base + shift
	return plane[lo : lo+g.H*g.Stride]
}

// Pad copies dense planes (n,H,W) into padded ones (n,PlaneLen) whose padding is
// zero already.
func Pad[T kernel.Float](g *Grid, dst, src []T) {
	for p := 0; p*g.H*g.W < len(src); p++ {
		for r := range g.H {
			copy(dst[p*g.PlaneLen+g.Base+r*g.Stride:][:g.W], src[(p*g.H+r)*g.W:][:g.W])
		}
	}
}

// Unpad copies padded planes (n,PlaneLen) into dense ones (n,H,W).
func Unpad[T kernel.Float](g *Grid, dst, src []T) {
	for p := 0; p*g.H*g.W < len(dst); p++ {
		for r := range g.H {
			copy(dst[(p*g.H+r)*g.W:][:g.W], src[p*g.PlaneLen+g.Base+r*g.Stride:][:g.W])
		}
	}
}

// clearColumns zeroes columns [from, Stride) of every row of a plane.
func clearColumns[T kernel.Float](g *Grid, plane []T, from int) {
	for r := range g.H {
		i := g.Base + r*g.Stride
		clear(plane[i+from : i+g.Stride])
	}
}

// clearOutside zeroes, on the plane of forward offset o, every edge that leaves
// the image and the padding.
func clearOutside[T kernel.Float](g *Grid, plane []T, o Offset) {
	clearColumns(g, plane, max(g.W-max(o[1], 0), 0))
	for r := range g.H {
		i := g.Base + r*g.Stride
		switch {
		case r+o[0] >= g.H:
			clear(plane[i : i+g.Stride])
		case o[1] < 0:
			clear(plane[i:][:min(-o[1], g.W)])
		}
	}
}
