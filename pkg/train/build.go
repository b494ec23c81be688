package train

import (
	"encoding/json"
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/task"
)

// validationCrop is the side of validation crops in pixels.
const validationCrop = 128

// build makes network and task of an experiment.
func build(cfg config.Experiment) (p parts, err error) {
	if p.net, err = model.New(cfg.Model, cfg.Seed); err != nil {
		return p, err
	}
	if p.average, err = model.New(cfg.Model, cfg.Seed); err != nil {
		return p, err
	}
	deg, err := cfg.Data.Degradation.Resolved()
	if err != nil {
		return p, err
	}
	seen, err := json.Marshal(deg)
	if err != nil {
		return p, err
	}
	p.seen = string(seen)
	train, val, err := datasets(cfg)
	if err != nil {
		return p, err
	}
	sampler, err := data.NewSampler(train, data.SamplerConfig{
		Seed: cfg.Seed, Batch: cfg.Train.Batch, Channels: p.net.Channels(), Patch: cfg.Data.Patch,
		Align: p.net.Align(), Augment: cfg.Data.Augment, Degradation: deg,
	})
	if err != nil {
		return p, err
	}
	var protocols []metric.Protocol
	for _, name := range cfg.Eval.Protocols {
		protocols = append(protocols, metric.Protocol(name))
	}
	if len(protocols) == 0 {
		protocols = task.DefaultProtocols(deg, p.net.Channels())
	}
	p.task = &task.Restore{
		Degradation: deg, Channels: p.net.Channels(), Patch: cfg.Data.Patch, Sampler: sampler,
		LossName: cfg.Train.Loss, Epsilon: cfg.Train.CharbonnierEps,
		Validation: task.Validation{
			Images: val, Crop: validationCrop, Limit: cfg.Eval.Images, Protocols: protocols,
			Workers: workers(cfg.Train.Workers), Seed: cfg.Seed,
		},
	}
	return p, nil
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
