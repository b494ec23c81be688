// Package task ties data to networks: what an example consists of, what loss a
// network is trained on, how it is measured, and what a saved sample looks
// like. The training loop knows tasks only through the interface Task.
package task

import (
	"context"

	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	G "gorgonia.org/gorgonia"
)

// Task is something a network can be trained for.
type Task interface {
	// Inputs lists what an example consists of, in the order of Batch and Loss.
	Inputs() []Input
	// Batch fills dst[i] with input i of all examples of a step, one after the
	// other. It depends on step alone.
	Batch(step int, dst [][]float32) error
	// Loss adds net and the loss to a graph whose inputs are given with a
	// leading axis of examples; the loss is the mean over examples and elements.
	Loss(b *nn.Builder, net model.Network, in []*G.Node) (*G.Node, error)
	// Validate measures net on the validation part of the data. It depends on
	// the parameters alone.
	Validate(ctx context.Context, net model.Network) (Result, error)
	// Score is the figure of a validation by which networks are compared,
	// higher is better, and its name.
	Score(Result) (name string, value float64)
	// Sample returns a picture of what net does to the validation example i.
	Sample(net model.Network, i int) (*imageio.Image, error)
}

// Input is one named array of an example; Shape has no axis of examples.
type Input struct {
	Name  string
	Shape []int
}

// Size returns the number of elements of one example.
func (x Input) Size() int {
	n := 1
	for _, d := range x.Shape {
		n *= d
	}
	return n
}
