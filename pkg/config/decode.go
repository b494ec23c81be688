package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits against hostile files: an experiment has some eighty keys.
const (
	maxFileBytes = 1 << 20
	maxNodes     = 1 << 16
)

// Error says what is wrong with an experiment: where (file:line, a variable of
// the environment or a --set), which key, and what was found and expected.
type Error struct {
	Where string // "configs/x.yaml:12", "UNROLLNET_SEED", "--set seed=x"; may be empty
	Key   string // "schedule.lr"; may be empty
	Msg   string
}

func (e *Error) Error() string {
	s := e.Msg
	if e.Key != "" {
		s = e.Key + ": " + s
	}
	if e.Where != "" {
		s = e.Where + ": " + s
	}
	return s
}

// decoder fills a struct from a YAML tree, strictly: unknown and repeated keys,
// wrong types, numbers out of range and values left empty are errors.
type decoder struct {
	name    string // of the file, for positions
	oneLine bool   // name says it all: values from the environment or --set
	root    reflect.Value
	nodes   int
	origin  map[string]string // dotted key -> where its value came from
}

// where is the position of a node for messages.
func (d *decoder) where(n *yaml.Node) string {
	if d.oneLine {
		return d.name
	}
	return d.name + ":" + strconv.Itoa(n.Line)
}

func (d *decoder) errorf(n *yaml.Node, key, format string, args ...any) error {
	return &Error{Where: d.where(n), Key: key, Msg: fmt.Sprintf(format, args...)}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parseYAML reads the single document in data and returns its root node, nil if
// the document is empty.
func parseYAML(name string, data []byte) (*yaml.Node, error) {
	if len(data) > maxFileBytes {
		return nil, &Error{Where: name, Msg: fmt.Sprintf("found more than %d bytes, expected an experiment of a few kilobytes", maxFileBytes)}
	}
	syntax := func(err error) error {
		msg, where := err.Error(), name
		if m := yamlLine.FindStringSubmatch(msg); m != nil {
			msg = msg[len(m[0]):]
			if m[1] != "" {
				where += ":" + m[1]
			}
		}
		return &Error{Where: where, Msg: "found no valid YAML: " + msg}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntax(err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, &Error{Where: fmt.Sprintf("%s:%d", name, second.Line), Msg: "found a second document, expected one"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntax(err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	return doc.Content[0], nil
}

// resolve follows aliases and counts nodes, so that a file whose aliases
// multiply costs no more than maxNodes.
func (d *decoder) resolve(n *yaml.Node, key string) (*yaml.Node, error) {
	d.nodes++
	if d.nodes > maxNodes {
		return nil, d.errorf(n, key, "found more than %d values with the aliases followed, expected an experiment", maxNodes)
	}
	for hops := 0; n.Kind == yaml.AliasNode; hops++ {
		if n.Alias == nil || hops > 8 {
			return nil, d.errorf(n, key, "found an alias that leads nowhere, expected a value")
		}
		n = n.Alias
	}
	return n, nil
}

// describe names what a node holds, for "found ..." in messages.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	v := n.Value
	if len(v) > 40 {
		v = v[:40] + "..."
	}
	return strconv.Quote(v)
}

// decode stores node n into v, whose dotted key is key.
func (d *decoder) decode(n *yaml.Node, key string, v reflect.Value) error {
	n, err := d.resolve(n, key)
	if err != nil {
		return err
	}
	d.origin[key] = d.where(n)
	switch v.Kind() {
	case reflect.Struct:
		return d.decodeStruct(n, key, v)
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := d.decode(n, key, p.Elem()); err != nil {
			return err
		}
		v.Set(p)
		return nil
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return d.errorf(n, key, "found %s, expected a list such as %s", describe(n), example(v.Type()))
		}
		if len(n.Content) == 0 {
			v.SetZero() // an empty list and none are one thing
			return nil
		}
		out := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), 64))
		for i, c := range n.Content {
			e := reflect.New(v.Type().Elem()).Elem()
			if err := d.decode(c, fmt.Sprintf("%s[%d]", key, i), e); err != nil {
				return err
			}
			out = reflect.Append(out, e)
		}
		v.Set(out)
		return nil
	case reflect.Array:
		if n.Kind != yaml.SequenceNode || len(n.Content) != v.Len() {
			found := describe(n)
			if n.Kind == yaml.SequenceNode {
				found = fmt.Sprintf("%d values", len(n.Content))
			}
			return d.errorf(n, key, "found %s, expected %d values such as %s", found, v.Len(), example(v.Type()))
		}
		for i, c := range n.Content {
			if err := d.decode(c, fmt.Sprintf("%s[%d]", key, i), v.Index(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if n.Kind != yaml.ScalarNode {
		return d.errorf(n, key, "found %s, expected %s", describe(n), expected(v.Type()))
	}
	return d.decodeScalar(n, key, v)
}

func (d *decoder) decodeScalar(n *yaml.Node, key string, v reflect.Value) error {
	wrong := func() error {
		return d.errorf(n, key, "found %s, expected %s", describe(n), expected(v.Type()))
	}
	switch v.Kind() {
	case reflect.String:
		if n.Tag != "!!str" {
			return wrong()
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.Tag != "!!bool" || n.Value != "true" && n.Value != "false" {
			return wrong()
		}
		v.SetBool(n.Value == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var x int64
		if n.Tag != "!!int" || n.Decode(&x) != nil || v.OverflowInt(x) {
			return wrong()
		}
		v.SetInt(x)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var x uint64
		if n.Tag != "!!int" || n.Decode(&x) != nil || v.OverflowUint(x) {
			return wrong()
		}
		v.SetUint(x)
	case reflect.Float32, reflect.Float64:
		var x float64
		if n.Tag != "!!float" && n.Tag != "!!int" || n.Decode(&x) != nil || math.IsNaN(x) || math.IsInf(x, 0) || v.OverflowFloat(x) {
			return wrong()
		}
		v.SetFloat(x)
	default:
		return fmt.Errorf("config: no rule to decode %s into %s", key, v.Type())
	}
	return nil
}

func (d *decoder) decodeStruct(n *yaml.Node, key string, v reflect.Value) error {
	if n.Kind != yaml.MappingNode {
		what := "a section with keys"
		if key == "" {
			what = "an experiment with sections such as model and data"
		}
		return d.errorf(n, key, "found %s, expected %s", describe(n), what)
	}
	fields := fieldsOf(v.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		kn := n.Content[i]
		if kn.Kind != yaml.ScalarNode || kn.Tag != "!!str" {
			return d.errorf(kn, key, "found a key that is not a plain word, expected one of %s", strings.Join(fieldNames(fields), ", "))
		}
		name := kn.Value
		full := join(key, name)
		f, ok := fieldByName(fields, name)
		if target, also := synonyms[full]; !ok && also {
			if at, dup := d.origin[target]; dup {
				return d.errorf(kn, full, "found beside %s (%s), expected one of the two", target, at)
			}
			if err := d.decode(n.Content[i+1], target, leafValue(d.root, target)); err != nil {
				return err
			}
			continue
		}
		if !ok {
			return d.errorf(kn, full, "unknown key%s, expected one of %s", unknownHint(full), strings.Join(fieldNames(fields), ", "))
		}
		if first, dup := seen[f.name]; dup {
			return d.errorf(kn, full, "found a second time, expected once (first on line %d)", first)
		}
		seen[f.name] = kn.Line
		if at, dup := d.origin[join(key, f.name)]; dup && !d.oneLine {
			return d.errorf(kn, full, "found a second time under another name, expected once (first at %s)", at)
		}
		if err := d.decode(n.Content[i+1], join(key, f.name), v.Field(f.index)); err != nil {
			return err
		}
	}
	return nil
}

// expected names the type of a scalar for messages.
func expected(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return `text (quote it: "...")`
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return t.Kind().String()
}

// example is what a list of this type may look like.
func example(t reflect.Type) string {
	switch t.Elem().Kind() {
	case reflect.String:
		return "[rgb]"
	case reflect.Array:
		return "[[0, 1], [1, 0]]"
	case reflect.Float64:
		return "[0.5, 0.9]"
	}
	return "[1, 2]"
}

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

// field is one key of a section.
type field struct {
	name      string
	index     int
	typ       reflect.Type
	omitempty bool // zero means unset: the key belongs to another task or choice
}

// fieldsOf lists the keys of a section in the order they are declared.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		out = append(out, field{name, i, f.Type, slices.Contains(strings.Split(options, ","), "omitempty")})
	}
	return out
}

func fieldByName(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func fieldNames(fields []field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

// leaf is a key that holds a value rather than a section.
type leaf struct {
	key  string // dotted
	path []int  // field indices from the root
	typ  reflect.Type
	// optional: zero means unset
	optional bool
}

// leavesOf lists the leaves of a struct type in order.
func leavesOf(t reflect.Type, prefix string, path []int) []leaf {
	var out []leaf
	for _, f := range fieldsOf(t) {
		p := append(append([]int(nil), path...), f.index)
		if f.typ.Kind() == reflect.Struct {
			out = append(out, leavesOf(f.typ, join(prefix, f.name), p)...)
			continue
		}
		out = append(out, leaf{join(prefix, f.name), p, f.typ, f.omitempty})
	}
	return out
}

// leaves lists the values of an experiment in order.
var leaves = leavesOf(reflect.TypeFor[Experiment](), "", nil)

// leafByKey finds a leaf by its dotted key or a synonym.
func leafByKey(key string) (leaf, bool) {
	if k, ok := synonyms[key]; ok {
		key = k
	}
	for _, l := range leaves {
		if l.key == key {
			return l, true
		}
	}
	return leaf{}, false
}

// leafValue returns the value of a leaf inside an experiment.
func leafValue(root reflect.Value, key string) reflect.Value {
	l, ok := leafByKey(key)
	if !ok {
		panic("config: no key " + key)
	}
	return root.FieldByIndex(l.path)
}

// Keys returns the dotted key of every value of an experiment, in order.
func Keys() []string {
	out := make([]string, len(leaves))
	for i, l := range leaves {
		out[i] = l.key
	}
	return out
}

// unknownHint suggests what an unknown dotted key may have meant: a key of
// nearly that name, or the same last word in another section.
func unknownHint(full string) string {
	keys := Keys()
	if !strings.Contains(full, ".") {
		keys = append(fieldNames(fieldsOf(reflect.TypeFor[Experiment]())), keys...)
	}
	if n := Nearest(full, keys); n != "" {
		return " (did you mean " + n + "?)"
	}
	last := full[strings.LastIndexByte(full, '.')+1:]
	for _, k := range Keys() {
		if k == last || strings.HasSuffix(k, "."+last) {
			return " (did you mean " + k + "?)"
		}
	}
	return ""
}
