package optim

import (
	"fmt"
	"slices"
	"sort"
)

// Tensor describes one parameter slice to an optimiser. The order of the
// descriptions is the order of the slices given to Step.
type Tensor struct {
	Name    string
	Len     int     // number of values
	NoDecay bool    // weight decay leaves it alone
	Rate    float64 // factor on the learning rate; 0 for 1
}

func (t Tensor) rate() float64 {
	if t.Rate == 0 {
		return 1
	}
	return t.Rate
}

// State is everything an optimiser or an average remembers between steps:
// arrays, named "<what>/<tensor>", and counters. Restoring it continues with
// the same bits.
type State struct {
	Tensors map[string][]float32
	Ints    map[string]int64
}

// checkTensors refuses repeated or empty names and negative lengths.
func checkTensors(tensors []Tensor) error {
	seen := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		if t.Name == "" || t.Len < 0 || seen[t.Name] {
			return fmt.Errorf("optim: tensor %q of length %d: expected distinct non-empty names and lengths >= 0", t.Name, t.Len)
		}
		seen[t.Name] = true
	}
	return nil
}

// alloc gives one zeroed slice per tensor.
func alloc(tensors []Tensor) [][]float32 {
	out := make([][]float32, len(tensors))
	for i, t := range tensors {
		out[i] = make([]float32, t.Len)
	}
	return out
}

// export copies slices into the state under what/<name>.
func (s *State) export(what string, tensors []Tensor, data [][]float32) {
	for i, t := range tensors {
		s.Tensors[what+"/"+t.Name] = slices.Clone(data[i])
	}
}

// kind is one array per tensor that a state holds.
type kind struct {
	what string
	dst  [][]float32
}

// load copies a state into place. Nothing is changed unless every array is
// there with its length, no other is, and exactly the named counters are there
// and not negative.
func (s State) load(tensors []Tensor, kinds []kind, ints []string) error {
	for _, k := range kinds {
		for _, t := range tensors {
			name := k.what + "/" + t.Name
			v, ok := s.Tensors[name]
			if !ok {
				return fmt.Errorf("optim: state: %s is missing", name)
			}
			if len(v) != t.Len {
				return fmt.Errorf("optim: state: %s: found %d values, expected %d", name, len(v), t.Len)
			}
		}
	}
	if len(s.Tensors) != len(kinds)*len(tensors) {
		return fmt.Errorf("optim: state: found %d tensors, expected %d (first unknown: %s)",
			len(s.Tensors), len(kinds)*len(tensors), s.unknown(tensors, kinds))
	}
	for _, name := range ints {
		if v, ok := s.Ints[name]; !ok || v < 0 {
			return fmt.Errorf("optim: state: counter %q: found %d (present: %t), expected one >= 0", name, v, ok)
		}
	}
	if len(s.Ints) != len(ints) {
		return fmt.Errorf("optim: state: found %d counters, expected %v", len(s.Ints), ints)
	}
	for _, k := range kinds {
		for i, t := range tensors {
			copy(k.dst[i], s.Tensors[k.what+"/"+t.Name])
		}
	}
	return nil
}

// unknown names the first array, by name, that no kind claims.
func (s State) unknown(tensors []Tensor, kinds []kind) string {
	known := make(map[string]bool)
	for _, k := range kinds {
		for _, t := range tensors {
			known[k.what+"/"+t.Name] = true
		}
	}
	var extra []string
	for name := range s.Tensors {
		if !known[name] {
			extra = append(extra, name)
		}
	}
	sort.Strings(extra)
	if len(extra) == 0 {
		return "none"
	}
	return extra[0]
}

// checkStep panics on slices that are not those the optimiser was made for: a
// mistake of the caller, not of the data.
func checkStep(tensors []Tensor, lists ...[][]float32) {
	for _, l := range lists {
		if len(l) != len(tensors) {
			panic(fmt.Sprintf("optim: found %d slices, expected %d", len(l), len(tensors)))
		}
		for i, t := range tensors {
			if len(l[i]) != t.Len {
				panic(fmt.Sprintf("optim: %s: found %d values, expected %d", t.Name, len(l[i]), t.Len))
			}
		}
	}
}
