package config

import (
	"fmt"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// keysOf are the keys, or sections, that experiments of some kinds alone have.
// Those of the model section are the model's business.
var keysOf = map[string][]model.Kind{
	"data.degradation":      {model.Restore},
	"data.patch":            {model.Restore},
	"data.augment":          {model.Restore},
	"data.cache_mb":         {model.Restore},
	"data.labelled":         {model.Classify},
	"data.text":             {model.Language},
	"train.charbonnier_eps": {model.Restore},
	"train.label_smoothing": {model.Classify, model.Language},
	"eval.protocols":        {model.Restore},
}

// does says what networks of a kind do.
var does = map[model.Kind]string{model.Restore: "restores images", model.Classify: "classifies images", model.Language: "predicts text"}

// Kind returns what the experiment's network is for.
func (e Experiment) Kind() model.Kind { return e.Model.Kind() }

// Uses says whether the experiment has a key or section: those of the model
// section are those of its type, others may belong to another kind of network.
func (e Experiment) Uses(key string) bool {
	if k, ok := strings.CutPrefix(key, "model."); ok {
		return e.Model.Uses(k)
	}
	return kindHas(e.Kind(), key)
}

// kindHas says whether experiments of a kind have a key outside the model section.
func kindHas(kind model.Kind, key string) bool {
	for k, kinds := range keysOf {
		if key != k && !strings.HasPrefix(key, k+".") {
			continue
		}
		for _, have := range kinds {
			if have == kind {
				return true
			}
		}
		return false
	}
	return true
}

// settle makes an experiment whose kind is not that of the defaults one of its
// kind: keys that only others have are refused where they were written (origin)
// and emptied, and keys left out get the defaults of the kind.
func (e *Experiment) settle(origin map[string]string) error {
	kind := e.Kind()
	if kind == "" {
		return nil // the model section says what is wrong
	}
	for _, l := range leaves {
		if _, written := origin[l.key]; written && !kindHas(kind, l.key) {
			return fmt.Errorf("%s: found beside model.type %s, which %s and has no such key", l.key, e.Model.Type, does[kind])
		}
	}
	d := defaultsOf(kind)
	set := func(key string, apply func()) {
		if _, written := origin[key]; !written {
			apply()
		}
	}
	if kind == model.Restore {
		return nil
	}
	e.Data.Degradation, e.Data.Patch, e.Data.Augment, e.Data.CacheMB = d.Data.Degradation, d.Data.Patch, d.Data.Augment, d.Data.CacheMB
	e.Train.CharbonnierEps = d.Train.CharbonnierEps
	set("train.loss", func() { e.Train.Loss = d.Train.Loss })
	set("train.batch", func() { e.Train.Batch = d.Train.Batch })
	set("train.micro_batch", func() { e.Train.MicroBatch = min(d.Train.MicroBatch, e.Train.Batch) })
	return nil
}

// defaultsOf returns the experiment that an empty file of a kind stands for, its
// model aside.
func defaultsOf(kind model.Kind) Experiment {
	e := Default()
	if kind == model.Restore {
		return e
	}
	e.Data.Degradation, e.Data.Patch, e.Data.Augment, e.Data.CacheMB = data.Degradation{}, 0, false, 0
	e.Train.CharbonnierEps, e.Train.Loss = 0, "cross_entropy"
	switch kind {
	case model.Classify:
		e.Train.Batch, e.Train.MicroBatch = 128, 32
	case model.Language:
		e.Train.Batch, e.Train.MicroBatch = 8, 4
	}
	return e
}

// resolveData fills in and checks the parts of the data section that the kind
// has.
func (e *Experiment) resolveData() (err error) {
	switch e.Kind() {
	case model.Restore:
		e.Data.Degradation, err = e.Data.Degradation.Resolved()
	case model.Classify:
		e.Data.Labelled, err = e.Data.Labelled.Resolved()
	case model.Language:
		e.Data.Text, err = e.Data.Text.Resolved()
	}
	if err == nil && e.Kind() != model.Restore && (e.Data.Train == Generated || e.Data.Val == Generated) {
		key := "data.train"
		if e.Data.Train != Generated {
			key = "data.val"
		}
		want := "a folder of labelled images"
		if e.Kind() == model.Language {
			want = "a text file"
		}
		return fmt.Errorf("%s: found %s, which are pictures to restore, expected %s", key, Generated, want)
	}
	return err
}
