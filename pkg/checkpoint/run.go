package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Names inside a run directory and a checkpoint.
const (
	checkpointsDir = "checkpoints"
	lockName       = "lock"
	stepPrefix     = "step-"
	tmpPrefix      = ".tmp-"
	oldPrefix      = ".old-"
	deletePrefix   = ".del-"
	asidePrefix    = "superseded-"
	modelName      = "model.safetensors"
	emaName        = "ema.safetensors"
	optimizerName  = "optimizer.safetensors"
	stateName      = "state.json"
	sumsName       = "SHA256SUMS"
)

// maxSmall bounds state.json and SHA256SUMS.
const maxSmall = 16 << 20

// Snapshot is everything a training run needs to go on.
type Snapshot struct {
	Step      int
	Model     *File           // required
	EMA       *File           // nil where the run keeps no average
	Optimizer *File           // nil where there is no state
	State     json.RawMessage // counters and the like, a JSON value; required
	Path      string          // folder it was loaded from
}

// Run is a run directory. Its methods are for one goroutine at a time.
type Run struct {
	root   string
	keep   int
	fsys   FS
	report func(error)
	lock   io.Closer
}

// NewRun describes the run directory root; nothing is touched yet. keep is the
// number of checkpoints to retain, 0 for all. report, which may be nil, gets
// what was survived: damaged checkpoints that were passed over, leftovers that
// could not be removed.
func NewRun(fsys FS, root string, keep int, report func(error)) *Run {
	if report == nil {
		report = func(error) {}
	}
	return &Run{root: root, keep: keep, fsys: fsys, report: report}
}

// Root returns the path of the run directory.
func (r *Run) Root() string { return r.root }

func (r *Run) dir() string { return filepath.Join(r.root, checkpointsDir) }

// Lock creates the run directory where it is missing, takes its lock and clears
// away what a killed process may have left. ErrLocked where another process
// trains in it.
func (r *Run) Lock() error {
	if r.lock != nil {
		return fmt.Errorf("%s: %w", r.root, ErrLocked)
	}
	if err := r.fsys.MkdirAll(r.dir(), 0o755); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	l, err := r.fsys.Lock(filepath.Join(r.root, lockName))
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	if err := r.recover(); err != nil {
		l.Close()
		return fmt.Errorf("run directory: %w", err)
	}
	r.lock = l
	return nil
}

// Unlock gives the lock back; without a lock it does nothing.
func (r *Run) Unlock() error {
	if r.lock == nil {
		return nil
	}
	err := r.lock.Close()
	r.lock = nil
	return err
}

// recover puts back a checkpoint that was moved aside for a replacement which
// never arrived, and removes unfinished and half-deleted ones.
func (r *Run) recover() error {
	entries, err := r.fsys.ReadDir(r.dir())
	if err != nil {
		return err
	}
	have := make(map[string]bool, len(entries))
	for _, e := range entries {
		have[e.Name()] = true
	}
	for _, e := range entries {
		path := filepath.Join(r.dir(), e.Name())
		if name, ok := strings.CutPrefix(e.Name(), oldPrefix); ok && !have[name] {
			if err := r.fsys.Rename(path, filepath.Join(r.dir(), name)); err != nil {
				return err
			}
			continue
		}
		for _, p := range []string{tmpPrefix, oldPrefix, deletePrefix} {
			if strings.HasPrefix(e.Name(), p) {
				if err := r.fsys.RemoveAll(path); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// stepName gives step-00001000 for 1000.
func stepName(step int) string { return fmt.Sprintf("%s%08d", stepPrefix, step) }

// parseStep is the inverse of stepName; false for any other name.
func parseStep(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, stepPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || stepName(n) != name {
		return 0, false
	}
	return n, true
}

// Steps lists the checkpoints of the run in rising order, without looking into
// them. A run directory that is not there gives ErrNotFound.
func (r *Run) Steps() ([]int, error) {
	entries, err := r.fsys.ReadDir(r.dir())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: checkpoints: %w", r.root, ErrNotFound)
		}
		return nil, err
	}
	var steps []int
	for _, e := range entries {
		if n, ok := parseStep(e.Name()); ok && e.IsDir() {
			steps = append(steps, n)
		}
	}
	sort.Ints(steps)
	return steps, nil
}

// Save writes a checkpoint, whole or not at all, and returns its folder. Then
// it deletes the oldest beyond the number to keep. Checkpoints of later steps,
// which an earlier course of the run left, are renamed to superseded-step-N, so
// that Latest continues the present course. What fails after the checkpoint is
// in place is reported, not returned.
func (r *Run) Save(s *Snapshot) (path string, err error) {
	name := stepName(s.Step)
	path = filepath.Join(r.dir(), name)
	defer func() {
		if err != nil {
			path, err = "", fmt.Errorf("checkpoint %s: %w", filepath.Join(r.dir(), name), err)
		}
	}()
	if s.Step < 0 || s.Model == nil || !json.Valid(s.State) {
		return "", errors.New("found no model or no JSON state, expected both and a step >= 0")
	}
	if err := r.fsys.MkdirAll(r.dir(), 0o755); err != nil {
		return "", err
	}
	tmp := filepath.Join(r.dir(), tmpPrefix+name)
	if err := r.fsys.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := r.writeAll(tmp, s); err != nil {
		r.fsys.RemoveAll(tmp) // the first error is the one to tell
		return "", err
	}
	if err := r.replace(tmp, name); err != nil {
		r.fsys.RemoveAll(tmp)
		return "", err
	}
	r.retain(s.Step)
	return path, nil
}

// writeAll fills the new folder tmp and flushes it.
func (r *Run) writeAll(tmp string, s *Snapshot) error {
	if err := r.fsys.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	type part struct {
		name  string
		write func(io.Writer) error
	}
	parts := []part{ // in the order of names, which is that of SHA256SUMS
		{modelName, s.Model.Write},
		{stateName, func(w io.Writer) error { _, err := w.Write(s.State); return err }},
	}
	if s.Optimizer != nil {
		parts = slices.Insert(parts, 1, part{optimizerName, s.Optimizer.Write})
	}
	if s.EMA != nil {
		parts = slices.Insert(parts, 0, part{emaName, s.EMA.Write})
	}
	var sums bytes.Buffer
	for _, p := range parts {
		h := sha256.New()
		if err := r.writeOne(filepath.Join(tmp, p.name), func(w io.Writer) error {
			return p.write(io.MultiWriter(w, h))
		}); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", h.Sum(nil), p.name)
	}
	if err := r.writeOne(filepath.Join(tmp, sumsName), func(w io.Writer) error {
		_, err := w.Write(sums.Bytes())
		return err
	}); err != nil {
		return err
	}
	return r.fsys.SyncDir(tmp)
}

// writeOne writes and flushes one file.
func (r *Run) writeOne(path string, write func(io.Writer) error) error {
	f, err := r.fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// replace renames tmp to name. A checkpoint already there steps aside first and
// comes back if the rename fails; if the process dies in between, Lock brings
// it back.
func (r *Run) replace(tmp, name string) error {
	path, old := filepath.Join(r.dir(), name), filepath.Join(r.dir(), oldPrefix+name)
	moved := false
	if _, err := r.fsys.Stat(path); err == nil {
		if err := r.fsys.RemoveAll(old); err != nil {
			return err
		}
		if err := r.fsys.Rename(path, old); err != nil {
			return err
		}
		moved = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.fsys.Rename(tmp, path); err != nil {
		if moved {
			if berr := r.fsys.Rename(old, path); berr != nil {
				return errors.Join(err, berr)
			}
		}
		return err
	}
	if err := r.fsys.SyncDir(r.dir()); err != nil {
		return err
	}
	if moved {
		if err := r.fsys.RemoveAll(old); err != nil {
			r.report(err)
		}
	}
	return nil
}

// retain moves later checkpoints aside and deletes the oldest beyond the number
// to keep; failures are reported.
func (r *Run) retain(step int) {
	steps, err := r.Steps()
	if err != nil {
		r.report(err)
		return
	}
	for len(steps) > 0 && steps[len(steps)-1] > step {
		name := stepName(steps[len(steps)-1])
		steps = steps[:len(steps)-1]
		aside := filepath.Join(r.dir(), asidePrefix+name)
		err := r.fsys.RemoveAll(aside)
		if err == nil {
			err = r.fsys.Rename(filepath.Join(r.dir(), name), aside)
		}
		if err != nil {
			r.report(err)
		} else {
			r.report(fmt.Errorf("%s: moved to %s: the run went on from an earlier step", name, asidePrefix+name))
		}
	}
	if r.keep <= 0 {
		return
	}
	for ; len(steps) > r.keep; steps = steps[1:] {
		// A rename first: a folder half deleted must not look like a damaged one.
		name := stepName(steps[0])
		del := filepath.Join(r.dir(), deletePrefix+name)
		err := r.fsys.RemoveAll(del)
		if err == nil {
			err = r.fsys.Rename(filepath.Join(r.dir(), name), del)
		}
		if err == nil {
			err = r.fsys.RemoveAll(del)
		}
		if err != nil {
			r.report(err)
		}
	}
}

// Latest loads the newest checkpoint that is valid, reporting each damaged one
// it passes over. ErrNotFound where the run has none, ErrDamaged where all it
// has are damaged.
func (r *Run) Latest() (*Snapshot, error) {
	steps, err := r.Steps()
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("%s: checkpoints: %w", r.root, ErrNotFound)
	}
	var first error
	for i := len(steps) - 1; i >= 0; i-- {
		s, err := Load(r.fsys, filepath.Join(r.dir(), stepName(steps[i])))
		if err == nil {
			return s, nil
		}
		r.report(err)
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("%s: %d checkpoints, none valid: %w: %w", r.root, len(steps), ErrDamaged, first)
}

// Load reads the checkpoint folder at path and holds every file against
// SHA256SUMS. ErrNotFound where the folder is not there, ErrDamaged where a
// file is missing, changed or malformed.
func Load(fsys FS, path string) (*Snapshot, error) {
	if st, err := fsys.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("checkpoint %s: %w", path, ErrNotFound)
		}
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("checkpoint %s: %w: found a file, expected a folder", path, ErrDamaged)
	}
	s := &Snapshot{Path: path}
	if n, ok := parseStep(filepath.Base(filepath.Clean(path))); ok {
		s.Step = n
	} else if n, ok := parseStep(strings.TrimPrefix(filepath.Base(filepath.Clean(path)), asidePrefix)); ok {
		s.Step = n
	} else {
		return nil, fmt.Errorf("checkpoint %s: %w: found this name, expected %s", path, ErrNotFound, stepName(0))
	}
	sums, err := readSums(fsys, filepath.Join(path, sumsName))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{modelName, stateName} {
		if sums[name] == "" {
			return nil, fmt.Errorf("%s: %w: no line for %s", filepath.Join(path, sumsName), ErrDamaged, name)
		}
	}
	for _, part := range []struct {
		name string
		dst  **File
	}{{modelName, &s.Model}, {emaName, &s.EMA}, {optimizerName, &s.Optimizer}} {
		if sums[part.name] == "" {
			continue
		}
		full := filepath.Join(path, part.name)
		b, err := readVerified(fsys, full, sums[part.name], DefaultLimits.MaxBytes)
		if err != nil {
			return nil, err
		}
		if *part.dst, err = ReadBytes(b, full); err != nil {
			return nil, err
		}
	}
	full := filepath.Join(path, stateName)
	b, err := readVerified(fsys, full, sums[stateName], maxSmall)
	if err != nil {
		return nil, err
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("%s: %w: found broken JSON", full, ErrDamaged)
	}
	s.State = b
	return s, nil
}

// readSums parses SHA256SUMS: 64 hexadecimal digits, two spaces, a name.
func readSums(fsys FS, path string) (map[string]string, error) {
	b, err := readSmall(fsys, path, maxSmall)
	if err != nil {
		return nil, err
	}
	sums := make(map[string]string)
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		sum, name, ok := strings.Cut(line, "  ")
		if _, err := hex.DecodeString(sum); !ok || err != nil || len(sum) != 2*sha256.Size || name == "" || sums[name] != "" {
			return nil, fmt.Errorf("%s: %w: line %d: found %s, expected \"DIGEST  NAME\"", path, ErrDamaged, i+1, quoteShort(line))
		}
		sums[name] = sum
	}
	return sums, nil
}

// readVerified reads a file and holds it against its digest.
func readVerified(fsys FS, path, sum string, limit int64) ([]byte, error) {
	b, err := readSmall(fsys, path, limit)
	if err != nil {
		return nil, err
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != sum {
		return nil, fmt.Errorf("%s: %w: found SHA-256 %s, expected %s", path, ErrDamaged, got, sum)
	}
	return b, nil
}

// readSmall reads a regular file of at most limit bytes; a missing one counts
// as damage, since SHA256SUMS or the folder says it should be there.
func readSmall(fsys FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w: the file is missing", path, ErrDamaged)
		}
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > limit {
		return nil, fmt.Errorf("%s: %w: found %d bytes, expected a regular file of at most %d", path, ErrDamaged, st.Size(), limit)
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("%s: %w: found fewer than its %d bytes: %v", path, ErrDamaged, len(b), err)
	}
	return b, nil
}
