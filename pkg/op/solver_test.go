package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/graph"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// denseSystem assembles A = U Q (x) (sum over k of a_k F_k' L F_k) as a matrix
// over C*N entries, from the definitions and nothing of the package but L, which
// it reads off column by column.
func denseSystem(h, w, channels int, norm graph.Normalization, grid *graph.Grid, omega []float64, missing []float64, t, slope []float64) [][]float64 {
	n := h * w
	zero := func(r, c int) [][]float64 {
		m := make([][]float64, r)
		for i := range m {
			m[i] = make([]float64, c)
		}
		return m
	}
	mul := func(a, b [][]float64) [][]float64 {
		m := zero(len(a), len(b[0]))
		for i := range a {
			for k, v := range a[i] {
				if v != 0 {
					for j := range b[k] {
						m[i][j] += v * b[k][j]
					}
				}
			}
		}
		return m
	}
	transpose := func(a [][]float64) [][]float64 {
		m := zero(len(a[0]), len(a))
		for i := range a {
			for j := range a[i] {
				m[j][i] = a[i][j]
			}
		}
		return m
	}
	weights := graph.Weights[float64]{Grid: grid, Normalization: norm}
	L := zero(n, n)
	for j := range n {
		e, x, y := make([]float64, n), make([]float64, grid.PlaneLen), make([]float64, grid.PlaneLen)
		e[j] = 1
		graph.Pad(grid, x, e)
		weights.Apply(y, omega, x)
		graph.Unpad(grid, e, y)
		for i := range n {
			L[i][j] = e[i]
		}
	}
	S := L
	if slope != nil {
		f1, f2 := zero(n, n), zero(n, n)
		for r := range h {
			for c := range w {
				i := r*w + c
				if c+1 < w {
					f1[i][i], f1[i][i+1] = -1, 1
				}
				if r+1 < h {
					f2[i][i], f2[i][i+w] = -1, 1
				}
			}
		}
		a0, a1 := math.Log1p(math.Exp(slope[0])), math.Log1p(math.Exp(slope[1]))/4
		p1, p2 := mul(transpose(f1), mul(L, f1)), mul(transpose(f2), mul(L, f2))
		S = zero(n, n)
		for i := range n {
			for j := range n {
				S[i][j] = a0*L[i][j] + a1*(p1[i][j]+p2[i][j])
			}
		}
	}
	A := zero(channels*n, channels*n)
	for c := range channels {
		for d := range channels {
			q := 0.
			if t == nil && c == d {
				q = 1
			} else if t != nil {
				var cd, cc, dd float64
				for k := range 3 {
					cd += t[3*k+c] * t[3*k+d]
					cc += t[3*k+c] * t[3*k+c]
					dd += t[3*k+d] * t[3*k+d]
				}
				q = cd / math.Sqrt((cc+1e-12)*(dd+1e-12))
			}
			for i := range n {
				for j := range n {
					A[c*n+i][d*n+j] = missing[c*n+i] * q * S[i][j]
				}
			}
		}
	}
	return A
}

// TestSolverEqualsElementaryNodes runs the same iterations as a Gorgonia graph of
// matrix products, sums and scalar multiples, and compares the solution and the
// gradients with respect to the start, the step sizes and (one channel, plain
// prior) the edge weights.
func TestSolverEqualsElementaryNodes(t *testing.T) {
	const h, w, steps, layers = 4, 5, 3, 2
	for name, norm := range normalizations {
		for _, prior := range []graph.Prior{{}, {Slope: true}, {Coupled: true}, {Coupled: true, Slope: true}} {
			t.Run(fmt.Sprintf("%s/%+v", name, prior), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(9, 9))
				channels := 1
				if prior.Coupled {
					channels = 3
				}
				n := channels * h * w
				grid := graph.NewGrid(h, w, window(2))
				f, a := random(rng, -1, 1, 2, h, w), random(rng, -1, 1, 2, 2)
				weights := graph.Weights[float64]{Grid: grid, Dim: 2, Normalization: norm}
				omega := input{shape: []int{1, 1, norm.Planes(grid), grid.PlaneLen}, data: make([]float64, norm.Planes(grid)*grid.PlaneLen)}
				weights.Forward(nil, omega.data, f.data, a.data)

				x, mask := random(rng, 0, 1, 1, channels, h, w), random(rng, 0, 1, 1, channels, h, w)
				missing := make([]float64, n)
				for i, v := range mask.data {
					mask.data[i] = math.Round(v)
					missing[i] = 1 - mask.data[i]
				}
				alpha, beta := random(rng, .2, .8, 1, layers, steps), random(rng, .1, .5, 1, layers, steps)
				ins := []input{x, x.fixed(), mask.fixed(), omega, alpha, beta}
				var colour, slope []float64
				if prior.Coupled {
					c := random(rng, -1, 1, 1, 3, 3)
					colour = c.data
					ins = append(ins, c)
				}
				if prior.Slope {
					s := random(rng, -1, 1, 1, 2)
					slope = s.data
					ins = append(ins, s)
				}
				r := random(rng, -1, 1, n).data
				_, grads, got := run(t, func(e *Env, in []*G.Node) (*G.Node, error) {
					var c, s *G.Node
					rest := in[6:]
					if prior.Coupled {
						c, rest = rest[0], rest[1:]
					}
					if prior.Slope {
						s = rest[0]
					}
					return ConjugateGradient(e, SolverConfig{Grid: grid, Layers: layers, Steps: steps, Prior: prior, Normalization: norm},
						in[0], in[1], in[2], in[3], in[4], in[5], c, s)
				}, ins, r, true)

				// The same from elementary nodes.
				A := denseSystem(h, w, channels, norm, grid, omega.data, missing, colour, slope)
				var flat []float64
				for _, row := range A {
					flat = append(flat, row...)
				}
				g := G.NewGraph()
				matrix := G.NewMatrix(g, tensor.Float64, G.WithShape(n, n), G.WithName("A"), G.WithValue(tensor.New(tensor.WithShape(n, n), tensor.WithBacking(flat))))
				vector := func(name string, d []float64) *G.Node {
					return G.NewVector(g, tensor.Float64, G.WithShape(n), G.WithName(name), G.WithValue(tensor.New(tensor.WithShape(n), tensor.WithBacking(append([]float64(nil), d...)))))
				}
				scalar := func(name string, v float64) *G.Node {
					return G.NewScalar(g, tensor.Float64, G.WithName(name), G.WithValue(v))
				}
				start := vector("x", x.data)
				z := start
				var al, be G.Nodes
				for l := range layers {
					res := G.Must(G.Mul(matrix, z))
					v := res
					for k := range steps {
						i := l*steps + k
						al = append(al, scalar(fmt.Sprint("alpha", i), alpha.data[i]))
						z = G.Must(G.Sub(z, G.Must(G.Mul(al[len(al)-1], v))))
						if k == steps-1 {
							break
						}
						be = append(be, scalar(fmt.Sprint("beta", i), beta.data[i]))
						res = G.Must(G.Sub(res, G.Must(G.Mul(al[len(al)-1], G.Must(G.Mul(matrix, v))))))
						v = G.Must(G.Add(res, G.Must(G.Mul(be[len(be)-1], v))))
					}
				}
				cost := G.Must(G.Sum(G.Must(G.HadamardProd(vector("r", r), z))))
				var zValue G.Value
				G.Read(z, &zValue)
				wrt := append(append(G.Nodes{start, matrix}, al...), be...)
				dw, err := G.Grad(cost, wrt...)
				if err != nil {
					t.Fatal(err)
				}
				values := make([]G.Value, len(dw))
				for i := range dw {
					G.Read(dw[i], &values[i])
				}
				m := G.NewTapeMachine(g)
				defer m.Close()
				if err := m.RunAll(); err != nil {
					t.Fatal(err)
				}

				same := func(what string, got, want float64) {
					t.Helper()
					if !(math.Abs(got-want) <= 1e-11*math.Max(1, math.Abs(want))) {
						t.Errorf("%s: %.15g, elementary nodes give %.15g", what, got, want)
					}
				}
				for i, v := range zValue.Data().([]float64) {
					same(fmt.Sprintf("solution %d", i), got[i], v)
				}
				dx := values[0].Data().([]float64)
				for i, v := range dx {
					if missing[i] != 0 { // samples are not read from the estimate
						same(fmt.Sprintf("gradient of x %d", i), grads[0][i], v)
					}
				}
				for i := range al {
					same("gradient of alpha", grads[2][i], values[2+i].Data().(float64))
				}
				for i := range be {
					same("gradient of beta", grads[3][i/(steps-1)*steps+i%(steps-1)], values[2+len(al)+i].Data().(float64))
				}
				if prior == (graph.Prior{}) {
					dA := values[1].Data().([]float64)
					for t2, o := range grid.Forward {
						for r := range h {
							for c := range w {
								r2, c2 := r+o[0], c+o[1]
								if r2 >= h || c2 < 0 || c2 >= w {
									continue
								}
								i, j := r*w+c, r2*w+c2
								at := t2*grid.PlaneLen + grid.Base + r*grid.Stride + c
								// A = U (diag - Omega): the rows of samples are zero.
								want := -dA[i*n+j]*missing[i] - dA[j*n+i]*missing[j]
								if norm.Directed() {
									want = -dA[i*n+j] * missing[i]
								}
								same(fmt.Sprintf("gradient of edge %d-%d", i, j), grads[1][at], want)
							}
						}
					}
				}
			})
		}
	}
}
