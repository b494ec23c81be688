package infer

import (
	"context"
	"fmt"
	"image"
	"math"
	"slices"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// Classifier is a trained network ready to say what images show. It may be used
// by several goroutines at once.
type Classifier struct {
	name    string
	net     model.Classifier
	classes []string
	passes  passes
}

// Probability is how likely a classifier finds a class.
type Probability struct {
	Class string  `json:"class"`
	P     float64 `json:"p"`
}

// OpenClassifier returns the classifier called nameOrPath: the name of an embedded
// one or the path of a safetensors file, which describes itself. A name that is
// neither gives a *NotFoundError, a network of another kind a *KindError; a file
// that is damaged gives an error that names what was found.
func OpenClassifier(nameOrPath string) (*Classifier, error) {
	m, trained, err := open(nameOrPath, model.Classify)
	if err != nil {
		return nil, err
	}
	net, ok := m.(model.Classifier)
	if !ok {
		return nil, fmt.Errorf("%s: found type %s, which classifies nothing", nameOrPath, m.Config().Type)
	}
	if err := trained.Validate(net.Classes()); err != nil {
		return nil, fmt.Errorf("%s: metadata %q: %w", nameOrPath, model.MetaTask, err)
	}
	return NewClassifier(nameOrPath, net, trained.Classes)
}

// NewClassifier wraps a network that is already built; classes names what it tells
// apart, in the order of its outputs. The parameters are read in place: they may
// be changed between predictions, not during one.
func NewClassifier(name string, net model.Classifier, classes []string) (*Classifier, error) {
	if len(classes) != net.Classes() {
		return nil, fmt.Errorf("classes: found %d names, expected %d, one for each class of the network", len(classes), net.Classes())
	}
	return &Classifier{name: name, net: net, classes: slices.Clone(classes)}, nil
}

// Name returns the name or path the classifier was opened by.
func (c *Classifier) Name() string { return c.name }

// Classes returns the names of the classes, in the order of the network's outputs.
func (c *Classifier) Classes() []string { return slices.Clone(c.classes) }

// Params returns the number of learned scalars.
func (c *Classifier) Params() int { return c.net.Params().Count() }

// Model returns the network itself: configuration, parameters, input.
func (c *Classifier) Model() model.Classifier { return c.net }

// Predict returns how likely each class is for img, the likeliest first (classes
// that are equally likely in the order of the network's outputs). The image may
// have any size: its middle is brought to the network's input as by
// Fit, gray for a network of one channel.
func (c *Classifier) Predict(ctx context.Context, img image.Image) ([]Probability, error) {
	return c.PredictImage(ctx, imageio.FromImage(img))
}

// PredictImage is Predict for decoded files.
func (c *Classifier) PredictImage(ctx context.Context, img *imageio.Image) ([]Probability, error) {
	x, err := c.Fit(img)
	if err != nil {
		return nil, err
	}
	p, err := c.PredictPlanar(ctx, x)
	if err != nil {
		return nil, err
	}
	return c.Sorted(p), nil
}

// Fit returns img as the network would be given it, samples (C,H,W) in [0,1]: the
// middle resampled as data.Resample does, gray or colour as data.WithChannels
// does, without transparency; what training does with folders of images.
func (c *Classifier) Fit(img *imageio.Image) ([]float32, error) {
	if img.W < 1 || img.H < 1 || img.C != 1 && img.C != 3 || len(img.Pix) != img.C*img.H*img.W {
		return nil, fmt.Errorf("image: found %d channels of %dx%d, expected 1 or 3 of at least 1x1", img.C, img.W, img.H)
	}
	ch, h, w := c.net.Input()
	opaque := *img
	opaque.Alpha = nil
	return data.WithChannels(data.Resample(&opaque, w, h), ch).Pix, nil
}

// PredictPlanar returns the probability of each class for samples x (C,H,W) in
// [0,1], in the order of the network's outputs: exp(l_k) / sum over j of exp(l_j)
// of its logits l. A sample or logit that is not finite is an error, and so is a
// context that has ended.
func (c *Classifier) PredictPlanar(ctx context.Context, x []float32) ([]float64, error) {
	ch, h, w := c.net.Input()
	if len(x) != ch*h*w {
		return nil, fmt.Errorf("image: found %d samples, expected %d channels of %dx%d", len(x), ch, w, h)
	}
	if i := notFinite(x); i >= 0 {
		k, py, px := place(i, h, w)
		return nil, fmt.Errorf("image: found %v at channel %d, pixel (%d,%d), expected a finite number", x[i], k, px, py)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var p []float64
	err := c.passes.with(len(x), func() (*pass, error) {
		return newPass(c.net.Params(), c.net.Classify, 1, ch, h, w)
	}, func(one *pass) error {
		copy(one.in, x)
		logits, err := one.run(len(c.classes))
		if err != nil {
			return err
		}
		if i := notFinite(logits); i >= 0 {
			return fmt.Errorf("found the logit %v of class %q, expected a finite number: the network does not fit this image or its weights are damaged", logits[i], c.classes[i])
		}
		p = softmax(logits, 1)
		return nil
	})
	return p, err
}

// Sorted names the probabilities p of the classes, the likeliest first.
func (c *Classifier) Sorted(p []float64) []Probability {
	out := make([]Probability, len(p))
	for i, v := range p {
		out[i] = Probability{c.classes[i], v}
	}
	slices.SortStableFunc(out, func(a, b Probability) int {
		switch {
		case a.P > b.P:
			return -1
		case a.P < b.P:
			return 1
		}
		return 0
	})
	return out
}

// softmax returns exp(l_i/t) / sum over j of exp(l_j/t), t > 0.
func softmax(l []float32, t float64) []float64 {
	top := math.Inf(-1)
	for _, v := range l {
		top = max(top, float64(v))
	}
	out := make([]float64, len(l))
	sum := 0.
	for i, v := range l {
		out[i] = math.Exp((float64(v) - top) / t)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}
