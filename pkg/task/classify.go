package task

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// Classify is the task of telling classes of images apart: input x (C,H,W) is an
// image, label the number of its class.
type Classify struct {
	Channels, Height, Width int
	Sampler                 *data.LabelledSampler
	Smoothing               float64 // of labels: the share of probability spread evenly over all classes

	// How a network is measured while it trains.
	Images  data.LabelledImages
	Limit   int // images used, spread evenly over Images; 0 for all
	Workers int

	forward forwardCache
}

// Inputs implements Task.
func (c *Classify) Inputs() []Input {
	return []Input{{Name: "x", Shape: []int{c.Channels, c.Height, c.Width}}, {Name: "label", Shape: []int{1}, Last: true}}
}

// Batch implements Task.
func (c *Classify) Batch(step int, dst [][]float32) error {
	return c.Sampler.Batch(step, dst[0], dst[1])
}

// Loss implements Task: the mean of -sum over k of t_k log p_k, p the network's
// probabilities and t that of the label, 1 less Smoothing, with Smoothing spread
// over all classes.
func (c *Classify) Loss(b *nn.Builder, m model.Model, in []*G.Node) (*G.Node, error) {
	net, ok := m.(model.Classifier)
	if !ok {
		return nil, wrongKind(m, model.Classify)
	}
	logits, err := net.Classify(b, in[0])
	if err != nil {
		return nil, err
	}
	return op.CrossEntropy(b.Env, logits, in[1], c.Smoothing)
}

// figureColumns are the columns of tasks whose figures stand in rows of their own.
var figureColumns = []string{"examples", "figure", "value"}

// figureRows makes rows of names and values.
func figureRows(examples int, names []string, values []float64) []Row {
	var rows []Row
	for i, n := range names {
		rows = append(rows, Row{n, values[i], []string{strconv.Itoa(examples), n, number(values[i])}})
	}
	return rows
}

// Columns implements Task.
func (c *Classify) Columns() []string { return figureColumns }

// Validate implements Task; networks are compared by the share of images whose
// class they find.
func (c *Classify) Validate(ctx context.Context, m model.Model) (Report, error) {
	net, ok := m.(model.Classifier)
	if !ok {
		return Report{}, wrongKind(m, model.Classify)
	}
	r, err := evaluateClassifier(ctx, &c.forward, net, c.Images, ClassifyOptions{Limit: c.Limit, Workers: c.Workers})
	if err != nil {
		return Report{}, err
	}
	return Report{Examples: r.Images, Unit: "images", Name: "top1", Value: float64(r.Top1), Digits: 4,
		Rows:  figureRows(r.Images, []string{"top1", "top5", "loss"}, []float64{float64(r.Top1), float64(r.Top5), float64(r.Loss)}),
		Event: map[string]any{"examples": r.Images, "top1": r.Top1, "top5": r.Top5, "loss": r.Loss}}, nil
}

// Sample implements Sampler: validation images 64 i to 64 i + 63 on a sheet, those
// framed whose class the network does not find, in black (in red, if images are
// in colour).
func (c *Classify) Sample(m model.Model, i int) (*imageio.Image, error) {
	net, ok := m.(model.Classifier)
	if !ok {
		return nil, wrongKind(m, model.Classify)
	}
	const side, frame = 8, 2
	ch, h, w := c.Channels, c.Height, c.Width
	sheet := imageio.New(ch, side*(h+2*frame), side*(w+2*frame))
	for j := range sheet.Pix {
		sheet.Pix[j] = 1
	}
	n := min(side*side, c.Images.Len()-side*side*i)
	if n <= 0 {
		return sheet, nil
	}
	found := make([]int, n)
	err := classifyAll(context.Background(), &c.forward, net, n, c.Workers, func(j int, x []float32) (int, error) {
		label, err := c.Images.Example(side*side*i+j, x)
		if err != nil {
			return 0, err
		}
		y0, x0 := j/side*(h+2*frame), j%side*(w+2*frame)
		for k := range ch {
			for row := range h {
				copy(sheet.Pix[(k*sheet.H+y0+frame+row)*sheet.W+x0+frame:][:w], x[(k*h+row)*w:][:w])
			}
		}
		return label, nil
	}, func(j, label int, logits []float64) error {
		found[j] = predicted(logits)
		if found[j] == label {
			return nil
		}
		y0, x0 := j/side*(h+2*frame), j%side*(w+2*frame)
		for k := range ch {
			if ch == 3 && k == 0 {
				continue
			}
			for y := range h + 2*frame {
				for x := range w + 2*frame {
					if y < frame || y >= h+frame || x < frame || x >= w+frame {
						sheet.Pix[(k*sheet.H+y0+y)*sheet.W+x0+x] = 0
					}
				}
			}
		}
		return nil
	})
	return sheet, err
}

// Classification is what EvaluateClassifier measured.
type Classification struct {
	Model   string   `json:"model"`
	Task    string   `json:"task"` // classify
	Data    string   `json:"data"`
	Part    string   `json:"part,omitempty"`
	Images  int      `json:"images"`
	Params  int      `json:"params"`
	Top1    Score    `json:"top1"` // share of images whose class is the most probable one
	Top5    Score    `json:"top5"` // share of images whose class is among the five most probable
	Loss    Score    `json:"loss"` // mean of -log p(class), nats
	Classes []string `json:"classes"`
	// Confusion[i][j] is the number of images of class i taken for class j.
	Confusion [][]int `json:"confusion"`
	Noise     float64 `json:"noise,omitempty"`
	Occlude   float64 `json:"occlude,omitempty"`
	Seconds   float64 `json:"seconds"` // on the clock
}

// ClassifyOptions says how EvaluateClassifier measures. The zero value measures
// all images as they are.
type ClassifyOptions struct {
	Limit   int     // images measured, spread evenly over the set; 0 for all
	Workers int     // graphs at work, at least 1
	Noise   float64 // sigma of Gaussian noise put on images, in 8-bit units; values are held in [0,1]
	Occlude float64 // share of the area of an image under a square of mid-gray whose place is drawn, less than 1
	Seed    uint64  // of noise and places; image i draws from (Seed, i)
	Done    func(n int)
}

// EvaluateClassifier measures net on images. The result does not depend on
// opt.Workers. Model, Data, Part and Seconds are left
// to the caller.
func EvaluateClassifier(ctx context.Context, net model.Classifier, images data.LabelledImages, opt ClassifyOptions) (Classification, error) {
	return evaluateClassifier(ctx, &forwardCache{}, net, images, opt)
}

func evaluateClassifier(ctx context.Context, cache *forwardCache, net model.Classifier, images data.LabelledImages, opt ClassifyOptions) (Classification, error) {
	c, h, w := net.Input()
	if ic, ih, iw := images.Shape(); ic != c || ih != h || iw != w {
		return Classification{}, fmt.Errorf("images: found %d channels of %d x %d, expected %d of %d x %d, those of the network", ic, ih, iw, c, h, w)
	}
	k := net.Classes()
	if n := len(images.Classes()); n != k {
		return Classification{}, fmt.Errorf("classes: found %d, expected %d, those of the network", n, k)
	}
	total := images.Len()
	n := total
	if opt.Limit > 0 {
		n = min(n, opt.Limit)
	}
	if n == 0 {
		return Classification{}, fmt.Errorf("evaluation: found no images, expected at least one")
	}
	losses, ranks, labels, taken := make([]float64, n), make([]int, n), make([]int, n), make([]int, n)
	err := classifyAll(ctx, cache, net, n, opt.Workers, func(i int, x []float32) (int, error) {
		at := i * total / n
		label, err := images.Example(at, x)
		if err != nil {
			return 0, err
		}
		if label < 0 || label >= k {
			return 0, fmt.Errorf("image %d: found label %d, expected 0 to %d", at, label, k-1)
		}
		if opt.Noise > 0 {
			rng := data.Rand(opt.Seed, 0, uint64(at))
			for j, v := range x {
				x[j] = float32(min(max(float64(v)+rng.NormFloat64()*opt.Noise/255, 0), 1))
			}
		}
		if opt.Occlude > 0 {
			occlude(x, c, h, w, opt.Occlude, opt.Seed, uint64(at))
		}
		return label, nil
	}, func(i, label int, logits []float64) error {
		labels[i], taken[i] = label, predicted(logits)
		losses[i], ranks[i] = surprise(logits, label)
		if math.IsNaN(losses[i]) || math.IsInf(losses[i], 0) {
			return fmt.Errorf("image %d: the network's outputs are not finite", i*total/n)
		}
		return nil
	}, opt.Done)
	if err != nil {
		return Classification{}, err
	}
	r := Classification{Task: string(model.Classify), Images: n, Params: net.Params().Count(), Classes: images.Classes(),
		Confusion: make([][]int, k), Noise: opt.Noise, Occlude: opt.Occlude}
	for i := range r.Confusion {
		r.Confusion[i] = make([]int, k)
	}
	var top1, top5 int
	var loss float64
	for i, rank := range ranks {
		r.Confusion[labels[i]][taken[i]]++
		loss += losses[i]
		if rank < 1 {
			top1++
		}
		if rank < 5 {
			top5++
		}
	}
	r.Top1, r.Top5, r.Loss = Score(float64(top1)/float64(n)), Score(float64(top5)/float64(n)), Score(loss/float64(n))
	return r, nil
}

// occlude sets a square of the share of the area of image i to mid-gray: its
// side is that of the area, rounded, at most that of the image.
func occlude(x []float32, c, h, w int, share float64, seed, i uint64) {
	side := min(int(math.Round(math.Sqrt(share*float64(h)*float64(w)))), h, w)
	rng := data.Rand(seed, 1, i)
	y0, x0 := rng.IntN(h-side+1), rng.IntN(w-side+1)
	for k := range c {
		for y := y0; y < y0+side; y++ {
			row := x[(k*h+y)*w+x0:][:side]
			for j := range row {
				row[j] = 0.5
			}
		}
	}
}

// predicted returns the class of the largest logit, the first of equals.
func predicted(logits []float64) int {
	best := 0
	for k, v := range logits {
		if v > logits[best] {
			best = k
		}
	}
	return best
}

// surprise returns -log p(label), p being proportional to exp(logits), and how
// many classes come before the label: those of a larger logit, and of equal ones
// those of a smaller number.
func surprise(logits []float64, label int) (loss float64, rank int) {
	top, own := logits[predicted(logits)], logits[label]
	var sum float64
	for k, v := range logits {
		sum += math.Exp(v - top)
		if v > own || v == own && k < label {
			rank++
		}
	}
	return math.Log(sum) + top - own, rank
}

// classifyBatch returns how many images of n values go through a graph at once:
// 64, or fewer where they are large.
func classifyBatch(n int) int { return min(max(1<<20/max(n, 1), 1), 64) }

// classifyAll puts images 0 to n-1 through net, a fixed number at a time, on
// workers graphs. load fills image i and returns its label; use gets the label
// back with the logits. Both are called from several goroutines, with an i of
// their own; done, one for each batch, from one at a time.
func classifyAll(ctx context.Context, cache *forwardCache, net model.Classifier, n, workers int,
	load func(i int, x []float32) (label int, err error), use func(i, label int, logits []float64) error, done ...func(n int),
) error {
	c, h, w := net.Input()
	size, k := c*h*w, net.Classes()
	batch := min(classifyBatch(size), n)
	build := func() (*forward, error) {
		return newForward(net, func(b *nn.Builder, in []*G.Node) (*G.Node, error) {
			return net.Classify(b, in[0])
		}, Input{Name: "x", Shape: []int{batch, c, h, w}})
	}
	return parallel(ctx, (n+batch-1)/batch, workers, func(j int) error {
		from := j * batch
		count := min(batch, n-from)
		x, logits, labels := make([]float32, batch*size), make([]float32, k*batch), make([]int, count)
		for i := range count {
			var err error
			if labels[i], err = load(from+i, x[i*size:(i+1)*size]); err != nil {
				return err
			}
		}
		if err := cache.run(net, [2]int{batch, 0}, build, logits, x); err != nil {
			return err
		}
		one := make([]float64, k)
		for i := range count {
			for m := range one {
				one[m] = float64(logits[m*batch+i])
			}
			if err := use(from+i, labels[i], one); err != nil {
				return err
			}
		}
		return nil
	}, func(j int) {
		for _, f := range done {
			if f != nil {
				f(min(batch, n-j*batch))
			}
		}
	})
}
