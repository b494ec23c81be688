package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/task"
)

// validationCrop is the side of validation crops in pixels.
const validationCrop = 128

// build makes network and task of an experiment. Errors begin with the key at
// fault, or with the file.
func build(cfg config.Experiment) (p parts, err error) {
	if p.net, err = model.Build(cfg.Model, cfg.Seed); err != nil {
		return p, err
	}
	if p.average, err = model.Build(cfg.Model, cfg.Seed); err != nil {
		return p, err
	}
	var seen any
	switch net := p.net.(type) {
	case model.Network:
		p.task, seen, err = buildRestore(cfg, net)
	case model.Classifier:
		p.task, seen, err = buildClassify(cfg, net)
	case model.LanguageModel:
		p.task, seen, err = buildLanguage(cfg, net)
	default:
		err = fmt.Errorf("model.type: found %s, expected a network that can be trained", cfg.Model.Type)
	}
	if err != nil {
		return p, err
	}
	text, err := json.Marshal(seen)
	p.seen = string(text)
	return p, err
}

func buildRestore(cfg config.Experiment, net model.Network) (task.Task, any, error) {
	deg, err := cfg.Data.Degradation.Resolved()
	if err != nil {
		return nil, nil, err
	}
	train, val, err := datasets(cfg)
	if err != nil {
		return nil, nil, err
	}
	sampler, err := data.NewSampler(train, data.SamplerConfig{
		Seed: cfg.Seed, Batch: cfg.Train.Batch, Channels: net.Channels(), Patch: cfg.Data.Patch,
		Align: net.Align(), Augment: cfg.Data.Augment, Degradation: deg,
	})
	if err != nil {
		return nil, nil, err
	}
	var protocols []metric.Protocol
	for _, name := range cfg.Eval.Protocols {
		protocols = append(protocols, metric.Protocol(name))
	}
	if len(protocols) == 0 {
		protocols = task.DefaultProtocols(deg, net.Channels())
	}
	return &task.Restore{
		Degradation: deg, Channels: net.Channels(), Patch: cfg.Data.Patch, Sampler: sampler,
		LossName: cfg.Train.Loss, Epsilon: cfg.Train.CharbonnierEps,
		Validation: task.Validation{
			Images: val, Crop: validationCrop, Limit: cfg.Eval.Images, Protocols: protocols,
			Workers: workers(cfg.Train.Workers), Seed: cfg.Seed,
		},
	}, deg, nil
}

// datasets opens the training and the validation images: another folder, or
// those held out of the training folder.
func datasets(cfg config.Experiment) (train, val data.Dataset, err error) {
	d := cfg.Data
	if d.Train == "" {
		return nil, nil, fmt.Errorf("data.train: found nothing, expected a folder of images, or %q", data.SyntheticName)
	}
	open := func(dir, part string) (data.Dataset, error) {
		opt := data.Options{Part: part, CacheBytes: int64(d.CacheMB) << 20}
		if d.CacheMB == 0 {
			opt.CacheBytes = -1
		}
		if part != data.PartAll {
			opt.Every, opt.Offset = d.Holdout.Every, d.Holdout.Offset
		}
		return data.Open(dir, opt, cfg.Seed)
	}
	if d.Val != "" {
		if train, err = open(d.Train, data.PartAll); err == nil {
			val, err = open(d.Val, data.PartAll)
		}
		return train, val, err
	}
	if train, err = open(d.Train, data.PartTrain); err == nil {
		val, err = open(d.Train, data.PartVal)
	}
	return train, val, err
}

func buildClassify(cfg config.Experiment, net model.Classifier) (task.Task, any, error) {
	d := cfg.Data
	if d.Train == "" {
		return nil, nil, fmt.Errorf("data.train: found nothing, expected a folder of labelled images")
	}
	c, h, w := net.Input()
	train, val := data.PartTrain, data.PartVal
	valKey, valDir := "data.train", d.Train
	if d.Val != "" {
		train, val, valKey, valDir = data.PartAll, data.PartAll, "data.val", d.Val
	}
	images, err := OpenLabelled("data.train", d.Train, train, cfg, net)
	if err != nil {
		return nil, nil, err
	}
	held, err := OpenLabelled(valKey, valDir, val, cfg, net)
	if err != nil {
		return nil, nil, err
	}
	if err := SameClasses(valKey, valDir, held.Classes(), images.Classes()); err != nil {
		return nil, nil, err
	}
	sampler, err := data.NewLabelledSampler(images, data.LabelledSamplerConfig{Seed: cfg.Seed, Batch: cfg.Train.Batch, Labelled: d.Labelled})
	if err != nil {
		return nil, nil, err
	}
	return &task.Classify{
		Channels: c, Height: h, Width: w, Sampler: sampler, Smoothing: cfg.Train.LabelSmoothing,
		Images: held, Limit: cfg.Eval.Images, Workers: workers(cfg.Train.Workers),
	}, data.Trained{Task: data.Classify, Classes: images.Classes()}, nil
}

// OpenLabelled opens a part of the labelled images that the key of an experiment
// names, for a classifier whose shape and number of classes they must have.
// (Folders of images are brought to its shape.)
func OpenLabelled(key, dir, part string, cfg config.Experiment, net model.Classifier) (data.LabelledImages, error) {
	c, h, w := net.Input()
	opt := data.LabelledOptions{Format: cfg.Data.Labelled.Format, Part: part, Every: cfg.Data.Holdout.Every, Offset: cfg.Data.Holdout.Offset,
		Channels: c, Height: h, Width: w}
	images, err := data.OpenLabelled(dir, opt)
	if err != nil {
		// Is it the shape? Then the remedy is in the model section.
		opt.Channels, opt.Height, opt.Width = 0, 0, 0
		if any, err := data.OpenLabelled(dir, opt); err == nil {
			if ac, ah, aw := any.Shape(); ah != h || aw != w {
				return nil, fmt.Errorf("%s: found [%d, %d], expected [%d, %d], the size of the images of %s", keyOf(cfg, "image"), h, w, ah, aw, dir)
			} else if ac != c {
				return nil, fmt.Errorf("model.channels: found %d, expected %d, those of the images of %s", c, ac, dir)
			}
		}
		return nil, openError(key, err)
	}
	if n := len(images.Classes()); n != net.Classes() {
		return nil, fmt.Errorf("%s: found %d, expected %d, the classes of %s", keyOf(cfg, "classes"), net.Classes(), n, dir)
	}
	return images, nil
}

// keyOf returns the key of the model section that ends in a word, the section's
// own where the architecture has none.
func keyOf(cfg config.Experiment, word string) string {
	for _, k := range config.Keys() {
		if strings.HasPrefix(k, "model.") && strings.HasSuffix(k, "."+word) && cfg.Uses(k) {
			return k
		}
	}
	return "model"
}

// SameClasses checks that images of dir, named by a key, are of the classes that
// a network knows, in their order.
func SameClasses(key, dir string, found, expected []string) error {
	for i := range min(len(found), len(expected)) {
		if found[i] != expected[i] {
			return fmt.Errorf("%s: found class %d of %s to be %q, expected %q, that of the network", key, i, dir, found[i], expected[i])
		}
	}
	if len(found) != len(expected) {
		return fmt.Errorf("%s: found %d classes in %s, expected %d, those of the network", key, len(found), dir, len(expected))
	}
	return nil
}

// DataError is what is wrong with the data that an experiment names.
type DataError struct{ Err error }

func (e *DataError) Error() string { return e.Err.Error() }
func (e *DataError) Unwrap() error { return e.Err }

// openError is a DataError, or where a path does not exist an error of the key
// that names it.
func openError(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", key, err)
	}
	return &DataError{err}
}

func buildLanguage(cfg config.Experiment, net model.LanguageModel) (task.Task, any, error) {
	d := cfg.Data
	if d.Train == "" {
		return nil, nil, fmt.Errorf("data.train: found nothing, expected a text file")
	}
	holdout := d.Holdout
	if d.Val != "" {
		holdout = config.Holdout{}
	}
	corpus, err := data.OpenText(d.Train, d.Text, holdout.Every, holdout.Offset)
	if err != nil {
		return nil, nil, openError("data.train", err)
	}
	vocabulary := corpus.Vocabulary()
	if n := vocabulary.Len(); n != net.Symbols() {
		return nil, nil, fmt.Errorf("%s: found %d, expected %d, the %s of %s", keyOf(cfg, "symbols"), net.Symbols(), n, vocabulary.Unit, d.Train)
	}
	key, path := "data.train", d.Train
	var held *data.Sequences
	if d.Val == "" {
		held, err = corpus.Part(data.PartVal)
	} else {
		key, path = "data.val", d.Val
		var c *data.Corpus
		if c, err = data.OpenTextAs(d.Val, d.Text, 0, 0, vocabulary); err == nil {
			held, err = c.Part(data.PartAll)
		}
	}
	if err != nil {
		return nil, nil, openError(key, err)
	}
	if held.Windows(net.Context()) == 0 {
		// The longest context there is a window of.
		most := sort.Search(net.Context(), func(n int) bool { return held.Windows(n+1) == 0 })
		return nil, nil, fmt.Errorf("%s: found %d, expected at most %d, one less than the longest piece of the validation text of %s (data.text.block?)", keyOf(cfg, "context"), net.Context(), most, path)
	}
	sampler, err := data.NewTextSampler(corpus, cfg.Seed, cfg.Train.Batch, net.Context())
	if err != nil {
		return nil, nil, &DataError{err}
	}
	return &task.Language{
		Context: net.Context(), Sampler: sampler, Smoothing: cfg.Train.LabelSmoothing,
		Text: held, Limit: cfg.Eval.Images, Workers: workers(cfg.Train.Workers),
	}, data.Trained{Task: data.Language, Vocabulary: &vocabulary}, nil
}
