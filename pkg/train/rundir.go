package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// describe writes config.yaml and adds a line to runs.jsonl.
func (r *runner) describe() error {
	err := checkpoint.AtomicWrite(r.opt.FS, filepath.Join(r.opt.RunDir, "config.yaml"), func(w io.Writer) error {
		return config.Print(w, r.cfg)
	})
	if err != nil {
		return err
	}
	line, err := json.Marshal(struct {
		Started  string            `json:"started"`
		Step     int               `json:"step"`
		Command  []string          `json:"command,omitempty"`
		Versions map[string]string `json:"versions,omitempty"`
		Go       string            `json:"go"`
		Platform string            `json:"platform"`
		Kernel   string            `json:"kernel"`
		Workers  int               `json:"workers"`
		Replicas int               `json:"replicas"`
	}{r.started.UTC().Format(time.RFC3339), r.state.Step, r.opt.Command, r.opt.Versions, runtime.Version(),
		runtime.GOOS + "/" + runtime.GOARCH, kernel.Active().String(), workers(r.cfg.Train.Workers), len(r.pool.replicas)})
	if err != nil {
		return err
	}
	f, err := r.opt.FS.OpenFile(filepath.Join(r.opt.RunDir, "runs.jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// compareConfig holds the experiment a checkpoint was made by against the
// present one: another model is an error, other differences are reported.
func (r *runner) compareConfig(old json.RawMessage) error {
	var a, b map[string]any
	if err := json.Unmarshal(old, &a); err != nil {
		return fmt.Errorf("%w: state.json: config: %v", checkpoint.ErrDamaged, err)
	}
	if err := json.Unmarshal(r.state.Config, &b); err != nil {
		return err
	}
	for _, d := range differences("", a, b) {
		if strings.HasPrefix(d.key, "model.") {
			return fmt.Errorf("%s: found %v in the checkpoint, expected %v as configured", d.key, d.a, d.b)
		}
		r.opt.Log.Warn("configuration differs from the checkpoint's", "key", d.key, "checkpoint", d.a, "now", d.b)
	}
	return nil
}

type difference struct {
	key  string
	a, b any
}

// differences lists the leaves in which two decoded JSON values differ, by key.
func differences(key string, a, b any) []difference {
	ma, aok := a.(map[string]any)
	mb, bok := b.(map[string]any)
	if !aok || !bok {
		ja, _ := json.Marshal(a)
		jb, _ := json.Marshal(b)
		if bytes.Equal(ja, jb) {
			return nil
		}
		return []difference{{key, string(ja), string(jb)}}
	}
	var keys []string
	for k := range ma {
		keys = append(keys, k)
	}
	for k := range mb {
		if _, both := ma[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var out []difference
	for _, k := range keys {
		full := k
		if key != "" {
			full = key + "." + k
		}
		out = append(out, differences(full, ma[k], mb[k])...)
	}
	return out
}

// rows is a text file of one row for each event, written through at each row.
type rows struct {
	path string
	f    checkpoint.Handle
}

// openRows opens a log for appending. Rows of steps after step, which a run cut
// short has left, and a last row cut short are dropped, so that a resumed run
// does not double them; stepOf says which step a row belongs to. An empty file
// gets header.
func openRows(fsys checkpoint.FS, path, header string, step int, stepOf func(row []byte) (int, bool)) (*rows, error) {
	var old []byte
	if f, err := fsys.OpenFile(path, os.O_RDONLY, 0); err == nil {
		old, err = io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var kept bytes.Buffer
	kept.WriteString(header)
	for row := range bytes.Lines(bytes.TrimPrefix(old, []byte(header))) {
		if n, ok := stepOf(row); ok && n <= step && bytes.HasSuffix(row, []byte("\n")) {
			kept.Write(row)
		}
	}
	if !bytes.Equal(kept.Bytes(), old) {
		err := checkpoint.AtomicWrite(fsys, path, func(w io.Writer) error {
			_, err := w.Write(kept.Bytes())
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	return &rows{path, f}, nil
}

func (r *rows) write(row string) error {
	if _, err := io.WriteString(r.f, row+"\n"); err != nil {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	return nil
}

func (r *rows) close() error { return errors.Join(r.f.Sync(), r.f.Close()) }
