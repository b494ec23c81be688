package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/model"
	"go.yaml.in/yaml/v3"
)

// Print writes an experiment as commented YAML: every key its kind and its model
// have, with what it means and its legal values beside it. Reading the text again
// gives the experiment.
func Print(w io.Writer, e Experiment) error {
	return write(w, reflect.ValueOf(e), "", 0, layout{e.Uses, e.Kind()})
}

// PrintModel writes a resolved model section alone, indented as in an
// experiment.
func PrintModel(w io.Writer, c model.Config) error {
	used := func(key string) bool { return c.Uses(strings.TrimPrefix(key, "model.")) }
	return write(w, reflect.ValueOf(c), "model", 1, layout{used, c.Kind()})
}

// layout says which keys are printed and whose comments stand beside them.
type layout struct {
	used func(key string) bool
	kind model.Kind
}

// write lays out a section with its comments in one column.
func write(w io.Writer, v reflect.Value, key string, depth int, how layout) error {
	var lines []printed
	if err := lay(&lines, v, key, depth, how); err != nil {
		return err
	}
	width := 0
	for _, l := range lines {
		if n := len(l.text); n <= 44 {
			width = max(width, n)
		}
	}
	var buf bytes.Buffer
	for _, l := range lines {
		switch {
		case l.comment == "":
			fmt.Fprintf(&buf, "%s\n", l.text)
		default:
			fmt.Fprintf(&buf, "%-*s  # %s\n", width, l.text, l.comment)
		}
	}
	_, err := w.Write(buf.Bytes())
	return err
}

// printed is one line: a key with its value, and its comment.
type printed struct{ text, comment string }

// lay appends the lines of the struct v, without the keys that are not used.
func lay(lines *[]printed, v reflect.Value, key string, depth int, how layout) error {
	indent := strings.Repeat("  ", depth)
	for _, f := range fieldsOf(v.Type()) {
		full := join(key, f.name)
		fv := v.Field(f.index)
		comment := commentOf(full, how.kind)
		if f.omitempty && fv.IsZero() || !how.used(full) {
			continue
		}
		if f.typ.Kind() == reflect.Struct {
			if depth == 0 && len(*lines) > 0 {
				*lines = append(*lines, printed{})
			}
			*lines = append(*lines, printed{indent + f.name + ":", comment})
			if err := lay(lines, fv, full, depth+1, how); err != nil {
				return err
			}
			continue
		}
		text, err := flow(fv)
		if err != nil {
			return fmt.Errorf("config: %s: %w", full, err)
		}
		*lines = append(*lines, printed{indent + f.name + ": " + text, comment})
	}
	return nil
}

// flow formats a value on one line.
func flow(v reflect.Value) (string, error) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "", fmt.Errorf("found no value in a resolved experiment")
		}
		return flow(v.Elem())
	case reflect.String:
		b, err := yaml.Marshal(v.String())
		s := strings.TrimSuffix(string(b), "\n")
		if err == nil && strings.Contains(s, "\n") {
			s = strconv.Quote(v.String())
		}
		return s, err
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		s := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		return strings.NewReplacer("e-0", "e-", "e+0", "e+").Replace(s), nil
	case reflect.Slice, reflect.Array:
		parts := make([]string, v.Len())
		for i := range parts {
			s, err := flow(v.Index(i))
			if err != nil {
				return "", err
			}
			parts[i] = s
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	}
	return "", fmt.Errorf("no rule to print %s", v.Type())
}
