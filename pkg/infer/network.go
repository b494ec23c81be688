package infer

import (
	"encoding/json"
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// Network is a trained network ready to restore images. It may be used by
// several goroutines at once.
type Network struct {
	name    string
	net     model.Network
	trained data.Degradation
	engine  *engine
}

// Open returns the network called nameOrPath: the name of an embedded one (see
// weights.Names) or the path of a safetensors file, which describes itself. A
// name that is neither gives a *NotFoundError, a network of another kind a
// *KindError; a file that is damaged or holds something else gives an error that
// names what was found.
func Open(nameOrPath string) (*Network, error) {
	f, err := read(nameOrPath)
	if err != nil {
		return nil, err
	}
	return fromFile(nameOrPath, f)
}

// fromFile builds the network a weight file describes.
func fromFile(name string, f *checkpoint.File) (*Network, error) {
	m, err := model.LoadModel(f)
	if err != nil {
		return nil, err
	}
	net, ok := m.(model.Network)
	if !ok {
		return nil, &KindError{name, m.Config().Type, m.Config().Kind(), model.Restore}
	}
	var d data.Degradation
	text, ok := f.Metadata[model.MetaTask]
	if !ok {
		return nil, fmt.Errorf("%s: no metadata %q, expected the degradation the network was trained on", name, model.MetaTask)
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return nil, fmt.Errorf("%s: metadata %q: %w", name, model.MetaTask, err)
	}
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("%s: metadata %q: %w", name, model.MetaTask, err)
	}
	return New(name, net, d), nil
}

// New wraps a network that is already built; trained is the degradation it
// undoes. The parameters are read in place: they may be changed between
// restorations, as training does, not during one.
func New(name string, net model.Network, trained data.Degradation) *Network {
	return &Network{name: name, net: net, trained: trained, engine: &engine{net: net, cache: lanes{net: net}}}
}

// Name returns the name or path the network was opened by.
func (n *Network) Name() string { return n.name }

// Task returns what the network was trained for: demosaic, scale or fill.
func (n *Network) Task() string { return n.trained.Task }

// Trained returns the degradation the network was trained to undo.
func (n *Network) Trained() data.Degradation { return n.trained }

// Model returns the network itself: configuration, parameters, blocks.
func (n *Network) Model() model.Network { return n.net }

// Params returns the number of learned scalars.
func (n *Network) Params() int { return n.net.Params().Count() }

// ReceptiveField returns the side, in pixels, of the square of the image that a
// pixel of the result may depend on through the blocks (the initial
// interpolation aside): 2 sum_t Reach(t) + 1.
func (n *Network) ReceptiveField() int {
	r := 0
	for t := range n.net.Blocks() {
		r += n.net.Reach(t)
	}
	return 2*r + 1
}

// Restorer returns the network as a Restorer.
func (n *Network) Restorer() *Restorer {
	return &Restorer{Name: n.name, Task: n.Task(), Params: n.Params(), Network: n}
}
