// Package task ties data to networks: what an example consists of, what loss a
// network is trained on, how it is measured, and what a saved sample looks
// like. The training loop knows tasks only through the interface Task.
package task

import (
	"context"
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	G "gorgonia.org/gorgonia"
)

// Task is something a network can be trained for: Restore, Classify, Language.
// Its methods return an error for a network of another kind.
type Task interface {
	// Inputs lists what an example consists of, in the order of Batch and Loss.
	Inputs() []Input
	// Batch fills dst[i] with input i of all examples of a step, one after the
	// other. It depends on step alone.
	Batch(step int, dst [][]float32) error
	// Loss adds net and the loss to a graph whose inputs have the shapes of
	// Input.Of; the loss is the mean over examples and elements.
	Loss(b *nn.Builder, net model.Model, in []*G.Node) (*G.Node, error)
	// Columns names the columns of a Report's rows.
	Columns() []string
	// Validate measures net on the validation part of the data. It depends on
	// the parameters alone.
	Validate(ctx context.Context, net model.Model) (Report, error)
}

// Sampler is a Task that can show what a network does to its validation data.
type Sampler interface {
	// Sample returns picture i.
	Sample(net model.Model, i int) (*imageio.Image, error)
}

// Input is one named array of an example; Shape has no axis of examples.
type Input struct {
	Name  string
	Shape []int
	Last  bool // the axis of examples comes last, not first; Shape is all ones
}

// Size returns the number of elements of one example.
func (x Input) Size() int {
	n := 1
	for _, d := range x.Shape {
		n *= d
	}
	return n
}

// Of returns the shape of the array of n examples.
func (x Input) Of(n int) []int {
	if x.Last {
		return append(append([]int(nil), x.Shape...), n)
	}
	return append([]int{n}, x.Shape...)
}

// Report is what Validate measured.
type Report struct {
	Examples int    // measured
	Unit     string // what they are: images, symbols

	// The figure by which networks are compared.
	Name   string
	Value  float64
	Lower  bool // is better
	Digits int  // after the point, for people

	Rows  []Row          // of validation.csv
	Event map[string]any // of the row in log.jsonl
}

// Row is one figure of a Report.
type Row struct {
	Name   string   // in charts, such as psnr_rgb
	Value  float64  // the figure
	Fields []string // what Columns names
}

// Better says whether r is a better validation than one of the value v. A figure
// that is no number is never better.
func (r Report) Better(v float64) bool {
	switch {
	case math.IsNaN(r.Value):
		return false
	case math.IsNaN(v):
		return true
	case r.Lower:
		return r.Value < v
	}
	return r.Value > v
}

// wrongKind says that a network cannot be used for a task.
func wrongKind(net model.Model, want model.Kind) error {
	return fmt.Errorf("model.type: found %s, of kind %q, expected a network of kind %q", net.Config().Type, net.Config().Kind(), want)
}
