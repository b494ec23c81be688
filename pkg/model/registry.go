package model

import (
	"fmt"
	"maps"
	"slices"
)

// architecture is what a type of network is made of. Each is described, and
// built, in the file of its name.
type architecture struct {
	// presets are complete sets of hyper-parameters, by name: default, paper
	// where there is a published form, and tiny, for tests.
	presets map[string]Config
	kind    Kind
	// uses says whether the architecture has a key beyond those common to all:
	// type, preset, blocks, heads; those of restoration networks (channels,
	// mask_input, consistency) it need not name if it is one.
	uses func(key string) bool
	// check holds the keys of a resolved configuration against each other.
	check func(c Config) error
	build func(c Config, seed uint64) (Model, error)
}

// has says whether the architecture has a key that is not common to all.
func (a architecture) has(key string) bool {
	switch key {
	case "channels", "mask_input", "consistency":
		if a.kind == Restore {
			return true
		}
	}
	return a.uses(key)
}

var architectures = map[string]architecture{
	"plat-lm":  platLMArchitecture,
	"plat-vit": platViTArchitecture,
	"swin":     swinArchitecture,
	"uglr":     uglrArchitecture,
	"ugpl":     ugplArchitecture,
	"ugtv":     ugtvArchitecture,
}

// Types names what Config.Type may be: the architectures, sorted by name.
var Types = slices.Sorted(maps.Keys(architectures))

// PresetsOf returns the presets of a type: default first, then by name.
func PresetsOf(typ string) []string {
	names := slices.Sorted(maps.Keys(architectures[typ].presets))
	return append([]string{"default"}, slices.DeleteFunc(names, func(s string) bool { return s == "default" })...)
}

// Build returns the network cfg describes with parameters initialised from seed,
// or an error that names the offending key. Its interface is that of
// Config.Kind: Network, Classifier or LanguageModel.
func Build(cfg Config, seed uint64) (Model, error) {
	cfg, err := cfg.Resolved()
	if err != nil {
		return nil, err
	}
	return architectures[cfg.Type].build(cfg, seed)
}

// New is Build for restoration networks.
func New(cfg Config, seed uint64) (Network, error) {
	m, err := Build(cfg, seed)
	if err != nil {
		return nil, err
	}
	n, ok := m.(Network)
	if !ok {
		return nil, fmt.Errorf("model.type: found %s, a network to %s, expected one that restores images", cfg.Type, m.Config().Kind())
	}
	return n, nil
}

// Kind returns what networks of the architecture c.Type are for; "" for an
// unknown one.
func (c Config) Kind() Kind {
	if c.Type == "" {
		c.Type = defaultType
	}
	return architectures[c.Type].kind
}
