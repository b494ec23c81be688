package model

import (
	"maps"
	"slices"
)

// architecture is what a type of network is made of. Each is described, and
// built, in the file of its name.
type architecture struct {
	// presets are complete sets of hyper-parameters, by name: default, paper
	// where there is a published form, and tiny, for tests.
	presets map[string]Config
	// uses says whether the architecture has a key beyond those common to all:
	// type, preset, channels, blocks, heads, mask_input, consistency.
	uses func(key string) bool
	// check holds the keys of a resolved configuration against each other.
	check func(c Config) error
	build func(c Config, seed uint64) (Network, error)
}

var architectures = map[string]architecture{
	"swin": swinArchitecture,
	"uglr": uglrArchitecture,
	"ugpl": ugplArchitecture,
	"ugtv": ugtvArchitecture,
}

// Types names what Config.Type may be: the architectures, sorted by name.
var Types = slices.Sorted(maps.Keys(architectures))

// PresetsOf returns the presets of a type: default first, then by name.
func PresetsOf(typ string) []string {
	names := slices.Sorted(maps.Keys(architectures[typ].presets))
	return append([]string{"default"}, slices.DeleteFunc(names, func(s string) bool { return s == "default" })...)
}

// New returns the network cfg describes with parameters initialised from seed,
// or an error that names the offending key.
func New(cfg Config, seed uint64) (Network, error) {
	cfg, err := cfg.Resolved()
	if err != nil {
		return nil, err
	}
	return architectures[cfg.Type].build(cfg, seed)
}
