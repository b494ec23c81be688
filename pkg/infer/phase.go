package infer

import (
	"context"

	"github.com/unrollnet/unrollnet/pkg/data"
)

// margin is how many rows and columns, 0 or 1 of each, a mosaic gets before its
// first and after its last.
type margin struct{ top, left, bottom, right int }

// phase returns the margin with which a mosaic begins as the one the network was
// trained on. Mirroring keeps a Bayer pattern, so a network that knows one of the
// four serves them all. A network without graphs gets an even number of rows and
// columns besides, as it had in training: half of a transformer's last tokens would
// be empty, where pixels of a graph simply have fewer neighbours. The margin is empty
// for every other mask and network.
func (n *Network) phase(s *signal) (m margin) {
	if n.trained.Task != "demosaic" || s.c != 3 || n.net.Channels() != 3 {
		return m
	}
	want, err := data.BayerMask(n.trained.Pattern, 3, 4, 4)
	if err != nil {
		return m // trained on any pattern
	}
	for _, at := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}} {
		if matches(s, want, at[0], at[1]) {
			m.top, m.left = at[0], at[1]
			if !n.net.Config().Uses("normalization") {
				m.bottom, m.right = (s.h+m.top)%2, (s.w+m.left)%2
			}
			return m
		}
	}
	return m
}

// matches says whether the mask of s is that of the mosaic cell (3,4,4) from
// (dy,dx) on, everywhere: pixel (y,x) knows what the cell knows at (y+dy,x+dx).
func matches(s *signal, cell []float32, dy, dx int) bool {
	for c := range 3 {
		for y := range s.h {
			row := s.mask[(c*s.h+y)*s.w:][:s.w]
			want := cell[c*16+(y+dy)%2*4:][:4]
			for x, v := range row {
				if v != want[(x+dx)%2] {
					return false
				}
			}
		}
	}
	return true
}

// moved restores s with a margin, mirrored at its outermost rows and columns
// (unknown where there is no row or column to mirror), and cuts that off the result.
func (n *Network) moved(ctx context.Context, s *signal, g margin, opt Options) ([]float32, error) {
	h, w := s.h+g.top+g.bottom, s.w+g.left+g.right
	m := &signal{y: make([]float32, s.c*h*w), mask: make([]float32, s.c*h*w), c: s.c, h: h, w: w, owned: true}
	for c := range s.c {
		for y := range h {
			from := y - g.top
			switch {
			case from < 0:
				from = 1
			case from >= s.h:
				from = s.h - 2
			}
			if from < 0 || from >= s.h {
				continue
			}
			for _, p := range [][2][]float32{{m.y, s.y}, {m.mask, s.mask}} {
				dst, src := p[0][(c*h+y)*w:][:w], p[1][(c*s.h+from)*s.w:][:s.w]
				copy(dst[g.left:], src)
				if s.w > 1 {
					if g.left == 1 {
						dst[0] = src[1]
					}
					if g.right == 1 {
						dst[w-1] = src[s.w-2]
					}
				}
			}
		}
	}
	if s.owned {
		s.y, s.mask = nil, nil
	}
	r, err := n.engine.run(ctx, m, opt)
	if err != nil {
		return nil, err
	}
	for c := range s.c {
		for y := range s.h {
			copy(r[(c*s.h+y)*s.w:][:s.w], r[(c*h+y+g.top)*w+g.left:][:s.w])
		}
	}
	return r[: s.c*s.h*s.w : s.c*s.h*s.w], nil
}
