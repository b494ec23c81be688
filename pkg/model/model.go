// Package model holds the architectures, one file each, and what they share: how
// a network is configured, built, loaded and saved.
package model

import (
	"github.com/unrollnet/unrollnet/pkg/nn"
	G "gorgonia.org/gorgonia"
)

// Model is any network of this program.
type Model interface {
	// Config returns the resolved configuration.
	Config() Config
	// Params returns the parameters.
	Params() *nn.Params
}

// Kind is what a network is for.
type Kind string

// The kinds: each names the interface its networks implement.
const (
	Restore  Kind = "restore"  // Network
	Classify Kind = "classify" // Classifier
	Language Kind = "language" // LanguageModel
)

// Classifier tells classes of images apart.
type Classifier interface {
	Model
	// Input returns the shape of its images.
	Input() (channels, height, width int)
	// Classes returns the number of classes (K).
	Classes() int
	// Classify adds the network: images x (B,C,H,W) with values in [0,1] to logits
	// (1,K,1,B), the logarithms of the classes' probabilities up to a constant.
	Classify(b *nn.Builder, x *G.Node) (*G.Node, error)
}

// LanguageModel predicts the next symbol of a text.
type LanguageModel interface {
	Model
	// Symbols returns the number of symbols (S).
	Symbols() int
	// Context returns the most symbols it looks at.
	Context() int
	// Predict adds the network: symbols (B,n), whole numbers from 0 to S-1, n at
	// most Context, to logits (1,S,B,n) of the symbol that follows each, of which it
	// sees that one and those before.
	Predict(b *nn.Builder, symbols *G.Node) (*G.Node, error)
}

// Network is an image restoration network: from samples of an image and the
// mask that says where they are to the whole image. Signals and masks are
// (B,C,H,W) with values in [0,1] and {0,1}.
type Network interface {
	Model
	// Channels returns C: 3, or 1.
	Channels() int
	// Blocks returns the number of blocks in series.
	Blocks() int
	// Reach returns how many pixels away block t looks, in each direction.
	Reach(t int) int
	// Align returns what the origin of a tile or training patch must be a
	// multiple of for the block to see the image as it would see the whole.
	Align() int
	// State returns the channels (S) of what block t hands to block t+1 beside
	// the estimate, and the factor by which its height and width are smaller;
	// 0 channels for nothing.
	State(t int) (channels, factor int)
	// Block adds block t: from the estimate x, the samples y (read only where the
	// mask is 1), the mask, and the state of the block before (nil where
	// State(t-1) is empty) to the next estimate and state. With
	// Config().Consistency "hard" estimates hold the samples, so x may stand for y.
	Block(b *nn.Builder, t int, x, y, mask, state *G.Node) (next, nextState *G.Node, err error)
	// Forward adds the whole network: initial interpolation of the samples y
	// (zero where the mask is zero), then all blocks.
	Forward(b *nn.Builder, y, mask *G.Node) (*G.Node, error)
}
