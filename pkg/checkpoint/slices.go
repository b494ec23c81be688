package checkpoint

import (
	"fmt"
	"strconv"
)

// FromState puts named arrays and counters into a file: the arrays as flat
// tensors, the counters as metadata in decimal. It is how the state of an
// optimiser is stored.
func FromState(tensors map[string][]float32, ints map[string]int64) *File {
	f := &File{Metadata: make(map[string]string, len(ints))}
	for name, data := range tensors {
		f.Add(name, []int{len(data)}, data)
	}
	for k, v := range ints {
		f.Metadata[k] = strconv.FormatInt(v, 10)
	}
	return f
}

// ToState is the inverse of FromState.
func ToState(f *File) (tensors map[string][]float32, ints map[string]int64, err error) {
	tensors = make(map[string][]float32, len(f.Tensors))
	for _, t := range f.Tensors {
		tensors[t.Name] = t.Data
	}
	ints = make(map[string]int64, len(f.Metadata))
	for k, v := range f.Metadata {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, nil, &FormatError{File: f.Name, Found: fmt.Sprintf("metadata %s = %s", quoteShort(k), quoteShort(v)), Expected: "an integer"}
		}
		ints[k] = n
	}
	return tensors, ints, nil
}
