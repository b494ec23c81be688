package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// faultFS passes operations on to OS and makes the n-th one that changes
// something fail. With dead set, all later ones fail too, as after kill -9 or a
// power cut, and files that were not flushed by then lose their content.
type faultFS struct {
	n     int // operation to fail, counted from 1; 0 = none
	dead  bool
	count int
	dirty map[string]bool
}

var errPower = errors.New("power cut")

// fail counts an operation and says how it fails.
func (f *faultFS) fail() error {
	f.count++
	switch {
	case f.n == 0 || f.count < f.n:
		return nil
	case f.count == f.n:
		if f.dead {
			for name := range f.dirty {
				os.Truncate(name, 0)
			}
			return errPower
		}
		return &fs.PathError{Op: "write", Path: "disk", Err: syscall.ENOSPC}
	case f.dead:
		return errPower
	}
	return nil
}

func (f *faultFS) OpenFile(name string, flag int, perm fs.FileMode) (Handle, error) {
	if flag&os.O_WRONLY != 0 {
		if err := f.fail(); err != nil {
			return nil, err
		}
	}
	h, err := OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultHandle{h, f, name}, nil
}

type faultHandle struct {
	Handle
	f    *faultFS
	name string
}

func (h *faultHandle) Write(b []byte) (int, error) {
	if err := h.f.fail(); err != nil {
		n, _ := h.Handle.Write(b[:len(b)/2])
		return n, err
	}
	if h.f.dirty == nil {
		h.f.dirty = make(map[string]bool)
	}
	h.f.dirty[h.name] = true
	return h.Handle.Write(b)
}

func (h *faultHandle) Sync() error {
	if err := h.f.fail(); err != nil {
		return err
	}
	delete(h.f.dirty, h.name)
	return nil // the real disk need not be waited for
}

func (h *faultHandle) Close() error {
	err := h.Handle.Close()
	if ferr := h.f.fail(); ferr != nil {
		return ferr
	}
	return err
}

func (f *faultFS) MkdirAll(name string, perm fs.FileMode) error {
	if err := f.fail(); err != nil {
		return err
	}
	return OS.MkdirAll(name, perm)
}
func (f *faultFS) ReadDir(name string) ([]fs.DirEntry, error) { return OS.ReadDir(name) }
func (f *faultFS) Stat(name string) (fs.FileInfo, error)      { return OS.Stat(name) }
func (f *faultFS) Rename(from, to string) error {
	if err := f.fail(); err != nil {
		return err
	}
	for name := range f.dirty { // a file keeps its fate under the new name
		if rest, ok := strings.CutPrefix(name, from); ok {
			delete(f.dirty, name)
			f.dirty[to+rest] = true
		}
	}
	return OS.Rename(from, to)
}
func (f *faultFS) Remove(name string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return OS.Remove(name)
}
func (f *faultFS) RemoveAll(name string) error {
	if err := f.fail(); err != nil {
		// Interrupted half-way: one entry is gone.
		if entries, rerr := OS.ReadDir(name); rerr == nil && len(entries) > 0 {
			OS.Remove(filepath.Join(name, entries[0].Name()))
		}
		return err
	}
	return OS.RemoveAll(name)
}
func (f *faultFS) SyncDir(name string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return nil
}
func (f *faultFS) Lock(name string) (io.Closer, error) { return OS.Lock(name) }

// snap makes a checkpoint whose content tells version and step.
func snap(step, version int) *Snapshot {
	file := func(kind int) *File {
		f := &File{Metadata: map[string]string{"version": fmt.Sprint(version)}}
		f.Add("w", []int{3}, []float32{float32(step), float32(version), float32(kind)})
		return f
	}
	return &Snapshot{Step: step, Model: file(1), EMA: file(2), Optimizer: file(3),
		State: json.RawMessage(fmt.Sprintf(`{"step":%d,"version":%d}`, step, version))}
}

// same says whether got is snap(step, version).
func same(got *Snapshot, step, version int) bool {
	want := snap(step, version)
	if got.Step != step || string(got.State) != string(want.State) || got.Model == nil || got.EMA == nil || got.Optimizer == nil {
		return false
	}
	for _, p := range [][2]*File{{got.Model, want.Model}, {got.EMA, want.EMA}, {got.Optimizer, want.Optimizer}} {
		a, _ := p[0].Bytes()
		b, _ := p[1].Bytes()
		if string(a) != string(b) {
			return false
		}
	}
	return true
}

func mustSave(t *testing.T, r *Run, s *Snapshot) string {
	t.Helper()
	p, err := r.Save(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSaveAndLatest(t *testing.T) {
	root := filepath.Join(t.TempDir(), "deep", "run")
	r := NewRun(OS, root, 0, func(err error) { t.Errorf("reported: %v", err) })
	if _, err := r.Latest(); !errors.Is(err, ErrNotFound) {
		t.Errorf("no run: found %v, expected ErrNotFound", err)
	}
	if err := r.Lock(); err != nil {
		t.Fatal(err)
	}
	defer r.Unlock()
	if _, err := r.Latest(); !errors.Is(err, ErrNotFound) {
		t.Errorf("empty run: found %v, expected ErrNotFound", err)
	}
	mustSave(t, r, snap(5, 1))
	path := mustSave(t, r, snap(1000, 1))
	if filepath.Base(path) != "step-00001000" {
		t.Errorf("found %s, expected step-00001000", path)
	}
	s, err := r.Latest()
	if err != nil || !same(s, 1000, 1) || s.Path != path {
		t.Errorf("found %+v, %v, expected step 1000", s, err)
	}
	if s, err := Load(OS, filepath.Join(root, "checkpoints", "step-00000005")); err != nil || !same(s, 5, 1) {
		t.Errorf("found %+v, %v, expected step 5", s, err)
	}
	sums, err := os.ReadFile(filepath.Join(path, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range strings.Split(strings.TrimSpace(string(sums)), "\n") {
		names = append(names, line[66:])
	}
	if got := strings.Join(names, " "); got != "ema.safetensors model.safetensors optimizer.safetensors state.json" {
		t.Errorf("SHA256SUMS lists %q", got)
	}
	// The same step once more, other content.
	mustSave(t, r, snap(1000, 2))
	if s, err := r.Latest(); err != nil || !same(s, 1000, 2) {
		t.Errorf("found %+v, %v, expected the replacement", s, err)
	}
	// A run without average and optimiser state.
	bare := snap(2000, 1)
	bare.EMA, bare.Optimizer = nil, nil
	mustSave(t, r, bare)
	if s, err := r.Latest(); err != nil || s.Step != 2000 || s.EMA != nil || s.Optimizer != nil {
		t.Errorf("found %+v, %v, expected step 2000 with a model alone", s, err)
	}
	for _, bad := range []*Snapshot{{Step: 1, State: []byte("{}")}, {Step: 1, Model: &File{}}, {Step: -1, Model: &File{}, State: []byte("{}")}} {
		if _, err := r.Save(bad); err == nil {
			t.Errorf("%+v: found no error, expected one", bad)
		}
	}
}

// TestSameContentSameBytes: two runs that reach the same state leave the same
// files.
func TestSameContentSameBytes(t *testing.T) {
	var all [2]string
	for i := range all {
		r := NewRun(OS, t.TempDir(), 0, nil)
		b, err := os.ReadFile(filepath.Join(mustSave(t, r, snap(7, 3)), "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = string(b)
	}
	if all[0] != all[1] {
		t.Errorf("digests differ:\n%s\n%s", all[0], all[1])
	}
}

func TestDamagedNewestIsPassedOver(t *testing.T) {
	truncate := func(name string, size int64) func(string) error {
		return func(p string) error { return os.Truncate(filepath.Join(p, name), size) }
	}
	for what, damage := range map[string]func(path string) error{
		"flipped bit": func(p string) error {
			name := filepath.Join(p, modelName)
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			b[len(b)-1] ^= 1
			return os.WriteFile(name, b, 0o644)
		},
		"no model":       func(p string) error { return os.Remove(filepath.Join(p, modelName)) },
		"no average":     func(p string) error { return os.Remove(filepath.Join(p, emaName)) },
		"no sums":        func(p string) error { return os.Remove(filepath.Join(p, sumsName)) },
		"empty sums":     truncate(sumsName, 0),
		"cut sums":       truncate(sumsName, 100),
		"cut state":      truncate(stateName, 3),
		"empty folder":   func(p string) error { os.RemoveAll(p); return os.Mkdir(p, 0o755) },
		"zero optimizer": truncate(optimizerName, 0),
	} {
		t.Run(what, func(t *testing.T) {
			var reports []error
			r := NewRun(OS, t.TempDir(), 0, func(err error) { reports = append(reports, err) })
			first := mustSave(t, r, snap(1, 1))
			second := mustSave(t, r, snap(2, 1))
			if err := damage(second); err != nil {
				t.Fatal(err)
			}
			s, err := r.Latest()
			if err != nil || !same(s, 1, 1) {
				t.Fatalf("found %+v, %v, expected step 1", s, err)
			}
			if len(reports) != 1 || !errors.Is(reports[0], ErrDamaged) || !strings.Contains(reports[0].Error(), "step-00000002") {
				t.Errorf("found reports %v, expected one of damage in step 2", reports)
			}
			if err := damage(first); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Latest(); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
				t.Errorf("all damaged: found %v, expected ErrDamaged", err)
			}
		})
	}
	if _, err := Load(OS, filepath.Join(t.TempDir(), "step-00000001")); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing folder: found %v, expected ErrNotFound", err)
	}
}

func stepsOf(t *testing.T, r *Run) string {
	t.Helper()
	s, err := r.Steps()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(s)
}

func TestRetention(t *testing.T) {
	r := NewRun(OS, t.TempDir(), 2, func(err error) { t.Errorf("reported: %v", err) })
	for i := 1; i <= 5; i++ {
		mustSave(t, r, snap(i, 1))
	}
	if got := stepsOf(t, r); got != "[4 5]" {
		t.Errorf("found %s, expected [4 5]", got)
	}
}

// TestLaterStepsStepAside: after the run went on from an earlier step, Latest
// must not jump back to the abandoned course, and nothing of it is deleted.
func TestLaterStepsStepAside(t *testing.T) {
	var reports []error
	r := NewRun(OS, t.TempDir(), 1, func(err error) { reports = append(reports, err) })
	mustSave(t, r, snap(10, 1))
	mustSave(t, r, snap(30, 1))
	mustSave(t, r, snap(20, 2))
	if got := stepsOf(t, r); got != "[20]" {
		t.Errorf("found %s, expected [20]", got)
	}
	if s, err := r.Latest(); err != nil || !same(s, 20, 2) {
		t.Errorf("found %+v, %v, expected step 20", s, err)
	}
	if s, err := Load(OS, filepath.Join(r.dir(), "superseded-step-00000030")); err != nil || !same(s, 30, 1) {
		t.Errorf("found %+v, %v, expected step 30 set aside", s, err)
	}
	if len(reports) != 1 {
		t.Errorf("found reports %v, expected one", reports)
	}
}

func TestLock(t *testing.T) {
	root := t.TempDir()
	a, b := NewRun(OS, root, 0, nil), NewRun(OS, root, 0, nil)
	if err := a.Lock(); err != nil {
		t.Fatal(err)
	}
	err := b.Lock()
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("found %v, expected ErrLocked and the process", err)
	}
	if err := a.Lock(); !errors.Is(err, ErrLocked) {
		t.Errorf("twice: found %v, expected ErrLocked", err)
	}
	if err := a.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := b.Lock(); err != nil {
		t.Errorf("after the unlock: %v", err)
	}
	if err := b.Unlock(); err != nil {
		t.Error(err)
	}
	if err := b.Unlock(); err != nil {
		t.Errorf("second unlock: %v", err)
	}
}

// TestEveryFault makes each operation of a save fail in turn, once as a full
// disk and once as the end of the process, for a new step and for one that is
// there already. The checkpoints found afterwards are whole: the old state or
// the new one, never less.
func TestEveryFault(t *testing.T) {
	for _, dead := range []bool{false, true} {
		for _, next := range []int{1, 2} { // replace step 1, or add step 2
			total := 0
			for n := 0; n == 0 || n <= total; n++ {
				root := t.TempDir()
				if _, err := NewRun(&faultFS{}, root, 1, nil).Save(snap(1, 1)); err != nil {
					t.Fatal(err)
				}
				ffs := &faultFS{n: n, dead: dead}
				_, err := NewRun(ffs, root, 1, nil).Save(snap(next, 2))
				if n == 0 {
					if total = ffs.count; total < 10 || err != nil {
						t.Fatalf("found %d operations, error %v", total, err)
					}
				}
				if err != nil && !dead && (!IsNoSpace(err) || !strings.Contains(err.Error(), "step-")) {
					t.Errorf("operation %d: found %v, expected a named full disk", n, err)
				}

				// A new process: lock, clear up, load.
				r := NewRun(&faultFS{}, root, 1, func(e error) { t.Errorf("operation %d (dead %t): reported %v", n, dead, e) })
				if err := r.Lock(); err != nil {
					t.Fatalf("operation %d: %v", n, err)
				}
				s, lerr := r.Latest()
				if lerr != nil {
					t.Fatalf("operation %d (dead %t, next %d): %v", n, dead, next, lerr)
				}
				isNew, isOld := same(s, next, 2), same(s, 1, 1)
				if !isNew && !isOld {
					t.Errorf("operation %d: found %+v, expected the old or the new checkpoint", n, s)
				}
				if err == nil && !isNew {
					t.Errorf("operation %d: Save succeeded and the new checkpoint is not there", n)
				}
				entries, rerr := os.ReadDir(r.dir())
				if rerr != nil {
					t.Fatal(rerr)
				}
				for _, e := range entries {
					if strings.HasPrefix(e.Name(), ".") {
						t.Errorf("operation %d: leftover %s", n, e.Name())
					}
				}
				// And the run goes on.
				if _, err := r.Save(snap(3, 3)); err != nil {
					t.Errorf("operation %d: next save: %v", n, err)
				}
				r.Unlock()
			}
		}
	}
}

// TestAtomicWriteFaults: whatever fails, the file is the old or the new one, and
// a failure that is not the end of the process leaves no temporary file.
func TestAtomicWriteFaults(t *testing.T) {
	write := func(w io.Writer) error {
		for range 3 {
			if _, err := io.WriteString(w, "new "); err != nil {
				return err
			}
		}
		return nil
	}
	for _, dead := range []bool{false, true} {
		total := 0
		for n := 0; n == 0 || n <= total; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			ffs := &faultFS{n: n, dead: dead}
			err := AtomicWrite(ffs, path, write)
			if n == 0 {
				if total = ffs.count; total < 6 || err != nil {
					t.Fatalf("found %d operations, error %v", total, err)
				}
			}
			b, rerr := os.ReadFile(path)
			if rerr != nil {
				t.Fatal(rerr)
			}
			if got := string(b); got != "new new new " && (err == nil || got != "old") {
				t.Errorf("operation %d (dead %t): found %q after %v", n, dead, got, err)
			}
			if err != nil && !dead && (!IsNoSpace(err) || !strings.Contains(err.Error(), path)) {
				t.Errorf("operation %d: found %v, expected a full disk and the file", n, err)
			}
			if entries, _ := os.ReadDir(dir); !dead && len(entries) != 1 {
				t.Errorf("operation %d: found %d entries, expected 1", n, len(entries))
			}
		}
	}
	// A relative name without a folder.
	t.Chdir(t.TempDir())
	if err := AtomicWrite(OS, "plain", write); err != nil {
		t.Error(err)
	}
	if err := AtomicWrite(OS, filepath.Join("missing", "f"), write); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found %v, expected ErrNotExist", err)
	}
}
