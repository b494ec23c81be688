package graph

import (
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// Row is a row of a sparse matrix: (row x) = sum over its terms of Value x_Index.
type Row[T kernel.Float] []Term[T]

// Term is a nonzero element of a Row.
type Term[T kernel.Float] struct {
	Index int
	Value T
}

// Incidence returns the rows of the matrix C whose l1 norm TotalVariation
// minimises, over signals x (C,H,W), from the operator omega that Weights computed
// on g: for every filter k, channel c and edge (i,j) inside the image,
//
//	sqrt(a_k) w_ij sum over d of That_cd ((F_k x_d)_i - (F_k x_d)_j)
//
// with w_ij = wbar_ij of both directed edges between two pixels (RandomWalk), or
// sqrt(omega_ij) of one undirected edge (SoftmaxSymmetric).
func Incidence[T kernel.Float](g *Grid, channels int, prior Prior, norm Normalization, omega []T, c Coefficients[T]) []Row[T] {
	that := [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}
	if prior.Coupled {
		for d := range 3 {
			var length float64
			for r := range 3 {
				length += float64(c.T[3*r+d]) * float64(c.T[3*r+d])
			}
			for r := range 3 {
				that[3*r+d] = float64(c.T[3*r+d]) / math.Sqrt(length+1e-12)
			}
		}
	}
	filters, a0, a1 := 1, 1., 0.
	if prior.Slope {
		filters = 3
		a0, a1 = prior.strength(float64(c.Slope[0]), float64(c.Slope[1]))
	}
	// filtered returns (F_k x_d)_i for pixel i = (r, q) as a row.
	filtered := func(k, d, r, q int, scale float64) Row[T] {
		at := func(r, q int) int { return (d*g.H+r)*g.W + q }
		switch {
		case k == 0:
			return Row[T]{{at(r, q), T(scale)}}
		case k == 1 && q+1 < g.W:
			return Row[T]{{at(r, q+1), T(scale)}, {at(r, q), T(-scale)}}
		case k == 2 && r+1 < g.H:
			return Row[T]{{at(r+1, q), T(scale)}, {at(r, q), T(-scale)}}
		}
		return nil
	}
	var all []Row[T]
	for k := range filters {
		strength := a0
		if k > 0 {
			strength = a1
		}
		for ch := range channels {
			edge := func(r, q int, o Offset, weight T) {
				r2, q2 := r+o[0], q+o[1]
				if r2 < 0 || r2 >= g.H || q2 < 0 || q2 >= g.W {
					return
				}
				var row Row[T]
				for d := range channels {
					scale := math.Sqrt(strength) * float64(weight)
					if prior.Coupled {
						scale *= that[3*ch+d]
					} else if d != ch {
						continue
					}
					row = append(row, filtered(k, d, r, q, scale)...)
					row = append(row, filtered(k, d, r2, q2, -scale)...)
				}
				all = append(all, row)
			}
			for r := range g.H {
				for q := range g.W {
					i := g.Base + r*g.Stride + q
					for t, o := range g.Forward {
						to := omega[t*g.PlaneLen+i]
						if !norm.Directed() {
							edge(r, q, o, T(math.Sqrt(float64(to))))
							continue
						}
						edge(r, q, o, to)
						edge(r, q, Offset{-o[0], -o[1]}, omega[(len(g.Forward)+t)*g.PlaneLen+i])
					}
				}
			}
		}
	}
	return all
}

// Published is the ADMM of uGTV as published, with all five multipliers of every
// edge and its slacks (eqs 17-22), in plain loops over the rows of C. It is what
// TotalVariation, which keeps one number for an edge and layer, is held to.
//
// With gamma the penalty of the layer and qt the thresholded slacks, a layer is
//
//	z   = -1/gamma - (mua + mub + mud + mue)/(2 gamma) + (qt1 + qt2)/2
//	(C'C + H'H) x = C'(mua - mub + mud - mue)/(2 gamma) - H'muc/gamma - C'(qt1 - qt2)/2 + H'y
//	q1  = (z - Cx)/2 + (mua - mud + gamma qt1)/(2 gamma)
//	q2  = (z + Cx)/2 + (mub - mue + gamma qt2)/(2 gamma)
//	qt1 = max(0, q1 + mud/gamma),  qt2 = max(0, q2 + mue/gamma)
//	mua += gamma (z - Cx - q1),  mub += gamma (z + Cx - q2),  muc += gamma (Hx - y)
//	mud += gamma (q1 - qt1),     mue += gamma (q2 - qt2)
//
// where the paper prints mud in both halves of the threshold. With Exact, x stays
// y on samples, the x-step solves the rows of missing entries without H, and there
// is no muc.
type Published[T kernel.Float] struct {
	C          []Row[T]
	Y, Mask    []T // (N): samples, and 1 on them
	Gamma      []T // of each layer
	Mu         T   // start of the multipliers
	Constraint Constraint
	FromZero   bool // start at qt = 0 instead of at the slacks of z = |Cx|
	// Solve is the x-step of layer l = 0, 1, ...: it turns the present x (N) into
	// the solution of A x = b, exactly or not; see Steps.
	Solve func(l int, x, b []T)
}

// Times computes dst (N) = A v: C'C v + H'H v (Multiplier), or C'C v on missing
// entries and 0 on samples (Exact).
func (p *Published[T]) Times(dst, v []T) {
	clear(dst)
	for _, row := range p.C {
		e := row.times(v)
		for _, t := range row {
			dst[t.Index] += t.Value * e
		}
	}
	for i, m := range p.Mask {
		switch {
		case p.Constraint == Multiplier:
			dst[i] += m * v[i]
		case m != 0:
			dst[i] = 0
		}
	}
}

func (r Row[T]) times(x []T) (e T) {
	for _, t := range r {
		e += t.Value * x[t.Index]
	}
	return e
}

// Steps returns the unrolled conjugate gradient of steps iterations a layer as
// Solve: g = A x - b, v = g, then x -= alpha v, g -= alpha A v, v = g + beta v,
// with alpha and beta (layers*steps).
func (p *Published[T]) Steps(steps int, alpha, beta []T) func(l int, x, b []T) {
	return func(l int, x, b []T) {
		g, av := make([]T, len(x)), make([]T, len(x))
		p.Times(g, x)
		for i := range g {
			if p.Constraint == Multiplier || p.Mask[i] == 0 {
				g[i] -= b[i]
			}
		}
		v := append([]T(nil), g...)
		for k := l * steps; k < (l+1)*steps; k++ {
			p.Times(av, v)
			for i := range x {
				x[i] -= alpha[k] * v[i]
				g[i] -= alpha[k] * av[i]
				v[i] = g[i] + beta[k]*v[i]
			}
		}
	}
}

// Run computes the layers on x (N), samples in place with Exact, in place.
func (p *Published[T]) Run(x []T) {
	m := len(p.C)
	alloc := func(n int, v T) []T {
		s := make([]T, n)
		for i := range s {
			s[i] = v
		}
		return s
	}
	mua, mub, mud, mue := alloc(m, p.Mu), alloc(m, p.Mu), alloc(m, p.Mu), alloc(m, p.Mu)
	qt1, qt2, z := alloc(m, 0), alloc(m, 0), alloc(m, 0)
	muc, b := alloc(len(x), 0), alloc(len(x), 0)
	for i, v := range p.Mask {
		muc[i] = v * p.Mu
	}
	if !p.FromZero {
		for r, row := range p.C {
			e := row.times(x)
			qt1[r], qt2[r] = max(0, -2*e), max(0, 2*e)
		}
	}
	for l, g := range p.Gamma {
		clear(b)
		for r, row := range p.C {
			z[r] = -1/g - (mua[r]+mub[r]+mud[r]+mue[r])/(2*g) + (qt1[r]+qt2[r])/2
			phi := (mua[r]-mub[r]+mud[r]-mue[r])/(2*g) - (qt1[r]-qt2[r])/2
			for _, t := range row {
				b[t.Index] += t.Value * phi
			}
		}
		if p.Constraint == Multiplier {
			for i, v := range p.Mask {
				b[i] += v * (p.Y[i] - muc[i]/g)
			}
		}
		p.Solve(l, x, b)
		for r, row := range p.C {
			e := row.times(x)
			q1 := (z[r]-e)/2 + (mua[r]-mud[r]+g*qt1[r])/(2*g)
			q2 := (z[r]+e)/2 + (mub[r]-mue[r]+g*qt2[r])/(2*g)
			qt1[r], qt2[r] = max(0, q1+mud[r]/g), max(0, q2+mue[r]/g)
			mua[r] += g * (z[r] - e - q1)
			mub[r] += g * (z[r] + e - q2)
			mud[r] += g * (q1 - qt1[r])
			mue[r] += g * (q2 - qt2[r])
		}
		for i, v := range p.Mask {
			muc[i] += g * v * (x[i] - p.Y[i])
		}
	}
}

// Norm returns ||C x||_1.
func (p *Published[T]) Norm(x []T) float64 {
	var sum float64
	for _, row := range p.C {
		sum += math.Abs(float64(row.times(x)))
	}
	return sum
}
