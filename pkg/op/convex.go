package op

import (
	"fmt"
	"math"
)

// Mechanism names how a head mixes tokens and channels.
type Mechanism string

// The mechanisms. X (s,d) are the tokens of an example, sigma is the activation.
const (
	SelfAttention Mechanism = "attention" // sigma(X W1 X^T) X W2, W1 (d,d), W2 (d,c)
	Mixer         Mechanism = "mixer"     // sigma(W1 X) W2, W1 (s,s), W2 (d,c)
	Fourier       Mechanism = "fno"       // sigma(circ(X) w) v^T, w (s,d), v (c)
	BlockFourier  Mechanism = "block-fno" // the same for each of B groups of channels
	Perceptron    Mechanism = "mlp"       // sigma(X w) v^T, w (d), v (c)
	Linear        Mechanism = "linear"    // X w v^T: no gates
)

// Mechanisms returns all mechanisms.
func Mechanisms() []Mechanism {
	return []Mechanism{SelfAttention, Mixer, Fourier, BlockFourier, Perceptron, Linear}
}

// ConvexHead is a two-layer head f(X) = sum over heads of B(sigma(z(w)), v) on
// tokens X (s,d), z being linear in the first layer w and B bilinear, as
// analysed by Sahiner et al., "Unraveling attention via convex duality" (ICML
// 2022). Heads that share an activation pattern enter f only through the matrix
// Z = sum vec(w) vec(v)^T, in which f is linear: a block of the convex problem.
//
// The pattern of block j on an example is M_j = 1{z(h_j) >= 0} for a fixed gate
// h_j (gated ReLU). A gate of zeros has the pattern of ones, which makes the
// head linear.
//
// Block j belongs to gate j/B and channel group j%B, where B is Blocks for
// block-fno and 1 for the others. It is an a x b matrix, row-major:
//
//	attention  d*d    x d*c   f[t,p] += sum_{k',k,l} X[t,k'] (sum_u M[t,u] X[u,k] X[u,l]) Z[(k',k),(l,p)]
//	mixer      s*s    x d*c   f[t,p] += sum_{k,l} M[t,l] X[k,l] Z[(t,k),(l,p)]
//	fno        s*d    x c     f[t,p] += sum_{u,l} M[t] X[t-u,l] Z[(u,l),p]
//	block-fno  s*d/B  x c     (x c/B if Strict: group g yields outputs g*c/B..(g+1)*c/B-1 alone)
//	mlp        d      x c     f[t,p] += sum_l M[t] X[t,l] Z[l,p]
//
// t-u is modulo s, or modulo Height and Width in the two directions where these
// are set. With Pooled, f is the mean over the tokens t. All is multiplied by
// Scale.
type ConvexHead struct {
	Mechanism Mechanism `json:"mechanism"`
	Tokens    int       `json:"tokens"`   // s
	Channels  int       `json:"channels"` // d
	Outputs   int       `json:"outputs"`  // c
	Gates     int       `json:"gates"`    // number of gates, at least 1
	Blocks    int       `json:"blocks,omitempty"`
	Strict    bool      `json:"strict,omitempty"`
	Height    int       `json:"height,omitempty"`
	Width     int       `json:"width,omitempty"`
	Pooled    bool      `json:"pooled"`
	Scale     float64   `json:"scale"`
}

// Check returns an error that names what is wrong with h.
func (h ConvexHead) Check() error {
	for _, v := range []struct {
		what string
		n    int
	}{{"tokens", h.Tokens}, {"channels", h.Channels}, {"outputs", h.Outputs}, {"gates", h.Gates}} {
		if v.n < 1 {
			return fmt.Errorf("%s: found %d, expected at least 1", v.what, v.n)
		}
	}
	fourier := h.Mechanism == Fourier || h.Mechanism == BlockFourier
	switch {
	case h.Mechanism == Linear && h.Gates != 1:
		return fmt.Errorf("gates: found %d, expected 1 for the linear head, which has no activation", h.Gates)
	case h.Mechanism == BlockFourier && (h.Blocks < 1 || h.Channels%h.Blocks != 0):
		return fmt.Errorf("blocks: found %d, expected a divisor of the %d channels", h.Blocks, h.Channels)
	case h.Mechanism != BlockFourier && h.Blocks != 0:
		return fmt.Errorf("blocks: found %d for %s, expected none: only block-fno has them", h.Blocks, h.Mechanism)
	case h.Strict && h.Mechanism != BlockFourier:
		return fmt.Errorf("strict: found for %s, expected for block-fno only", h.Mechanism)
	case h.Strict && h.Outputs%h.Blocks != 0:
		return fmt.Errorf("blocks: found %d, expected a divisor of the %d outputs", h.Blocks, h.Outputs)
	case (h.Height != 0 || h.Width != 0) && !fourier:
		return fmt.Errorf("grid: found %d x %d for %s, expected for fno and block-fno only", h.Height, h.Width, h.Mechanism)
	case (h.Height != 0 || h.Width != 0) && (h.Height < 1 || h.Width < 1 || h.Height*h.Width != h.Tokens):
		return fmt.Errorf("grid: found %d x %d, expected the %d tokens", h.Height, h.Width, h.Tokens)
	case !(h.Scale > 0) || math.IsInf(h.Scale, 0):
		return fmt.Errorf("scale: found %v, expected a finite number > 0", h.Scale)
	}
	for _, m := range Mechanisms() {
		if h.Mechanism == m {
			return nil
		}
	}
	return fmt.Errorf("mechanism: found %q, expected one of %v", h.Mechanism, Mechanisms())
}

// SquareGrid returns the side of the square the tokens form, or an error.
func SquareGrid(tokens int) (int, error) {
	side := int(math.Round(math.Sqrt(float64(tokens))))
	if tokens < 1 || side*side != tokens {
		return 0, fmt.Errorf("%d tokens form no square, which a 2-D grid without stated height and width needs", tokens)
	}
	return side, nil
}

// groups returns B.
func (h ConvexHead) groups() int { return max(h.Blocks, 1) }

// BlockCount returns the number of blocks, J.
func (h ConvexHead) BlockCount() int { return h.Gates * h.groups() }

// blockOutputs returns how many outputs a block adds to.
func (h ConvexHead) blockOutputs() int {
	if h.Strict {
		return h.Outputs / h.Blocks
	}
	return h.Outputs
}

// BlockShape returns the rows (a) and columns (b) of every block.
func (h ConvexHead) BlockShape() (rows, cols int) {
	s, d := h.Tokens, h.Channels/h.groups()
	switch h.Mechanism {
	case SelfAttention:
		return d * d, d * h.Outputs
	case Mixer:
		return s * s, d * h.Outputs
	case Fourier, BlockFourier:
		return s * d, h.blockOutputs()
	}
	return d, h.Outputs
}

// Size returns the number of elements of all blocks.
func (h ConvexHead) Size() int {
	a, b := h.BlockShape()
	return h.BlockCount() * a * b
}

// Rows returns the rows of the output of one example: 1 if pooled, else s.
func (h ConvexHead) Rows() int {
	if h.Pooled {
		return 1
	}
	return h.Tokens
}

// hidden returns the number of elements of z(w) for one example.
func (h ConvexHead) hidden() int {
	switch h.Mechanism {
	case SelfAttention:
		return h.Tokens * h.Tokens
	case Mixer:
		return h.Tokens * h.Channels
	}
	return h.Tokens
}

// blockFeatures returns how many features a block has in a row; see
// ConvexFeatures.
func (h ConvexHead) blockFeatures() int {
	s, d := h.Tokens, h.Channels/h.groups()
	switch h.Mechanism {
	case SelfAttention:
		return d * d * d
	case Mixer:
		if h.Pooled {
			return s * s * d
		}
		return s * d
	case Fourier, BlockFourier:
		return s * d
	}
	return d
}

// Features returns the length of a row of ConvexFeatures.
func (h ConvexHead) Features() int { return h.BlockCount() * h.blockFeatures() }

// shift returns the token that circular shift u brings to t.
func (h ConvexHead) shift(t, u int) int {
	if h.Height == 0 {
		return (t - u + h.Tokens) % h.Tokens
	}
	y := (t/h.Width - u/h.Width + h.Height) % h.Height
	x := (t%h.Width - u%h.Width + h.Width) % h.Width
	return y*h.Width + x
}
