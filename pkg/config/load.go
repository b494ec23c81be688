package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// EnvPrefix begins the name of a variable that sets a key: schedule.lr is
// UNROLLNET_SCHEDULE_LR.
const EnvPrefix = "UNROLLNET"

// Load reads an experiment: defaults, then the file at path, then variables of
// the environment, then sets ("key=value" in YAML syntax), each over the one
// before. The result is resolved and valid.
func Load(path string, sets []string) (Experiment, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Experiment{}, &Error{Where: path, Msg: "found no such file, expected an experiment in YAML"}
	case err != nil:
		return Experiment{}, &Error{Where: path, Msg: err.Error()}
	case info.IsDir():
		return Experiment{}, &Error{Where: path, Msg: "found a folder, expected an experiment in YAML"}
	case info.Size() > maxFileBytes:
		return Experiment{}, &Error{Where: path, Msg: fmt.Sprintf("found %d bytes, expected an experiment of a few kilobytes", info.Size())}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Experiment{}, &Error{Where: path, Msg: err.Error()}
	}
	return Parse(path, text, sets)
}

// Parse is Load for a file already read; name is used in messages.
func Parse(name string, text []byte, sets []string) (Experiment, error) {
	e := Default()
	root := reflect.ValueOf(&e).Elem()
	d := &decoder{name: name, root: root, origin: map[string]string{}}
	node, err := parseYAML(name, text)
	if err != nil {
		return Experiment{}, err
	}
	if node != nil {
		if err := d.decode(node, "", root); err != nil {
			return Experiment{}, err
		}
	}
	if err := override(root, sets, d.origin); err != nil {
		return Experiment{}, err
	}
	if err := zeros(root, d.origin); err != nil {
		return Experiment{}, place(err, d.origin, name)
	}
	if e.Model, err = e.Model.Resolved(); err == nil {
		err = e.settle(d.origin)
	}
	if err == nil {
		err = e.resolveData()
	}
	if err == nil {
		if len(e.Eval.Protocols) == 0 && e.Uses("eval.protocols") {
			e.Eval.Protocols = Protocols(e.Data.Degradation.Task)
		}
		err = e.validate()
	}
	if err != nil {
		return Experiment{}, place(err, d.origin, name)
	}
	return e, nil
}

// zeros refuses a 0 that was written down for a number of the model which cannot
// be 0: it must not pass for a value left out.
func zeros(root reflect.Value, origin map[string]string) error {
	for _, l := range leaves {
		if _, written := origin[l.key]; !written || !strings.HasPrefix(l.key, "model.") || l.key == "model.window" {
			continue
		}
		if fidelity := leafValue(root, "model.plat.fidelity").String(); l.key == "model.plat.mu" {
			if root.FieldByIndex(l.path).Float() == 0 && fidelity != "" && fidelity != "none" {
				return fmt.Errorf("%s: found 0, expected more, the weight of model.plat.fidelity %s", l.key, fidelity)
			}
			continue // of no fidelity, 0 is the only value
		}
		switch v := root.FieldByIndex(l.path); v.Kind() {
		case reflect.Int, reflect.Float64:
			if v.IsZero() {
				return fmt.Errorf("%s: found 0, expected %s", l.key, comments[l.key])
			}
		}
	}
	return nil
}

// override lays variables of the environment and sets over the file. Viper
// decides which of the two wins; the text it returns is decoded as strictly as
// the file.
func override(root reflect.Value, sets []string, origin map[string]string) error {
	v := viper.New()
	v.SetEnvPrefix(EnvPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	where := map[string]string{}

	known := map[string]string{} // variable -> key
	bind := func(variable, key string) error {
		if old, taken := known[variable]; taken && old != key {
			return fmt.Errorf("config: keys %s and %s share the variable %s", old, key, variable)
		}
		known[variable] = key
		return nil
	}
	for _, l := range leaves {
		if err := bind(envName(l.key), l.key); err != nil {
			return err
		}
	}
	for alias, key := range synonyms {
		if err := bind(envName(alias), key); err != nil {
			return err
		}
	}
	for _, entry := range os.Environ() {
		variable, value, _ := strings.Cut(entry, "=")
		if value == "" {
			continue // as good as unset
		}
		key, ok := known[variable]
		if !ok {
			if s := sectionOf(variable); s != "" {
				names := make([]string, 0, len(known))
				for n := range known {
					names = append(names, n)
				}
				sort.Strings(names)
				return &Error{Where: "environment", Key: variable,
					Msg: "unknown variable" + didYouMean(variable, names) + ", expected the name of a key such as " + envName("schedule.lr")}
			}
			continue
		}
		if old := where[key]; old != "" {
			return &Error{Where: "environment", Key: variable, Msg: fmt.Sprintf("found beside %s, expected one of the two", old)}
		}
		where[key] = variable
		if err := v.BindEnv(key, variable); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	for _, s := range sets {
		key, value, ok := strings.Cut(s, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			return &Error{Where: "--set " + s, Msg: "found no key=value, expected for example schedule.lr=3e-4"}
		}
		l, ok := leafByKey(key)
		if !ok {
			return &Error{Where: "--set " + s, Key: key, Msg: "unknown key" + unknownHint(key)}
		}
		v.Set(l.key, value)
		where[l.key] = "--set " + s
	}

	for _, l := range leaves {
		if where[l.key] == "" {
			continue
		}
		text := v.GetString(l.key)
		node, err := parseYAML(where[l.key], []byte(text))
		if err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.Where, e.Key = where[l.key], l.key
			}
			return err
		}
		if node == nil {
			if l.typ.Kind() != reflect.String {
				return &Error{Where: where[l.key], Key: l.key, Msg: "found nothing, expected " + expected(l.typ)}
			}
			node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str"}
		}
		if l.typ.Kind() == reflect.String && node.Kind == yaml.ScalarNode {
			// A shell has eaten the quotes: name=007 means the text.
			node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
		}
		d := &decoder{name: where[l.key], oneLine: true, root: root, origin: origin}
		if err := d.decode(node, l.key, root.FieldByIndex(l.path)); err != nil {
			return err
		}
	}
	return nil
}

// envName returns the variable that sets a key.
func envName(key string) string {
	return EnvPrefix + "_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// sectionOf returns the section whose keys a variable's name looks like, or "".
func sectionOf(variable string) string {
	for _, f := range fieldsOf(reflect.TypeFor[Experiment]()) {
		if f.typ.Kind() == reflect.Struct && strings.HasPrefix(variable, envName(f.name)+"_") {
			return f.name
		}
	}
	return ""
}

var keyFirst = regexp.MustCompile(`^([a-z][a-z0-9_.]*): `)

// place adds to an error that begins with a key where the value of the key came
// from: the line of the file, a variable or a --set.
func place(err error, origin map[string]string, name string) error {
	m := keyFirst.FindStringSubmatch(err.Error())
	if m == nil {
		return &Error{Where: name, Msg: err.Error()}
	}
	where := name
	for k := m[1]; ; {
		if at, ok := origin[k]; ok {
			where = at
			break
		}
		i := strings.LastIndexByte(k, '.')
		if i < 0 {
			break
		}
		k = k[:i]
	}
	return &Error{Where: where, Key: m[1], Msg: err.Error()[len(m[0]):]}
}
