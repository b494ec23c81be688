package infer

import (
	"context"

	"github.com/unrollnet/unrollnet/pkg/data"
)

// phase returns how many rows and columns (0 or 1 each) a mosaic must be moved
// down and right to begin as the one the network was trained on. Mirroring keeps
// a Bayer pattern, so a network that knows one of the four serves them all. It is
// 0, 0 for every other mask and network.
func (n *Network) phase(s *signal) (dy, dx int) {
	if n.trained.Task != "demosaic" || s.c != 3 || n.net.Channels() != 3 {
		return 0, 0
	}
	want, err := data.BayerMask(n.trained.Pattern, 3, 4, 4)
	if err != nil {
		return 0, 0 // trained on any pattern
	}
	for _, m := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}} {
		if matches(s, want, m[0], m[1]) {
			return m[0], m[1]
		}
	}
	return 0, 0
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

// moved restores s moved down by dy and right by dx, its new first row and
// column mirrored from its second (unknown where there is none), and moves the
// result back.
func (n *Network) moved(ctx context.Context, s *signal, dy, dx int, opt Options) ([]float32, error) {
	h, w := s.h+dy, s.w+dx
	m := &signal{y: make([]float32, s.c*h*w), mask: make([]float32, s.c*h*w), c: s.c, h: h, w: w, owned: true}
	for c := range s.c {
		for y := range h {
			from := y - dy
			if from < 0 {
				from = 1
			}
			if from >= s.h {
				continue
			}
			for _, p := range [][2][]float32{{m.y, s.y}, {m.mask, s.mask}} {
				dst, src := p[0][(c*h+y)*w:][:w], p[1][(c*s.h+from)*s.w:][:s.w]
				copy(dst[dx:], src)
				if dx == 1 && s.w > 1 {
					dst[0] = src[1]
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
			copy(r[(c*s.h+y)*s.w:][:s.w], r[(c*h+y+dy)*w+dx:][:s.w])
		}
	}
	return r[: s.c*s.h*s.w : s.c*s.h*s.w], nil
}
