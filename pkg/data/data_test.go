package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/image/tiff"

	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/internal/testdata"
)

// picture gives a colour image whose every pixel is its own.
func picture(w, h, k int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, color.NRGBA{uint8(7*x + 3*y + k), uint8(5*x + 11*y + 2*k), uint8(x*y + k), 255})
		}
	}
	return m
}

func encode(t testing.TB, path string, m image.Image) {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch filepath.Ext(path) {
	case ".jpg":
		err = jpeg.Encode(&b, m, nil)
	case ".tif":
		err = tiff.Encode(&b, m, nil)
	default:
		err = png.Encode(&b, m)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// folder writes n pictures of w x h.
func folder(t testing.TB, n, w, h int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		encode(t, filepath.Join(dir, fmt.Sprintf("img%02d.png", i)), picture(w, h, i))
	}
	return dir
}

func open(t testing.TB, dir string, opt Options) *Folder {
	t.Helper()
	f, err := ImageFolder(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFolderOrderAndFormats(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"c.png", "B.tif", "a.jpg", "d.PNG"} {
		encode(t, filepath.Join(dir, name), picture(9, 5, 0))
	}
	for _, name := range []string{"notes.txt", ".hidden.png", "SHA256SUMS"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub.png"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir, Options{})
	var names []string
	for i := range f.Len() {
		names = append(names, f.Name(i))
	}
	if got := strings.Join(names, " "); got != "B.tif a.jpg c.png d.PNG" {
		t.Errorf("found %q", got)
	}
	if err := f.Check(5); err != nil {
		t.Error(err)
	}
	want := imageio.FromImage(picture(9, 5, 0))
	for _, i := range []int{0, 2, 3} {
		m, err := f.Image(i)
		if err != nil {
			t.Fatal(err)
		}
		if m.W != 9 || m.H != 5 || m.C != 3 || m.Bits != 8 || !slices.Equal(m.Pix, want.Pix) {
			t.Errorf("%s: pixels differ", f.Name(i))
		}
		m.Pix[0] = 5 // the image belongs to the caller
		if again, err := f.Image(i); err != nil || again.Pix[0] == 5 {
			t.Errorf("%s: the cache shares memory with the caller (%v)", f.Name(i), err)
		}
	}
}

func TestSixteenBitsAndGray(t *testing.T) {
	dir := t.TempDir()
	g16 := image.NewGray16(image.Rect(0, 0, 6, 4))
	for i := range 24 {
		g16.SetGray16(i%6, i/6, color.Gray16{uint16(i * 2731)})
	}
	encode(t, filepath.Join(dir, "g.png"), g16)
	f := open(t, dir, Options{})
	m, err := f.Image(0)
	if err != nil {
		t.Fatal(err)
	}
	if m.Bits != 16 || !m.Gray || m.C != 1 {
		t.Fatalf("found %d bits, gray %t, %d channels, expected 16-bit gray", m.Bits, m.Gray, m.C)
	}
	for i, v := range m.Pix {
		if want := float32(i*2731) / 65535; v != want {
			t.Errorf("pixel %d: found %v, expected %v", i, v, want)
		}
	}
	// Three channels from gray are three equal planes; one is the luma of Luma.
	p, err := f.planes(0)
	if err != nil {
		t.Fatal(err)
	}
	rgb := make([]float32, 3*16)
	p.patch(rgb, 3, 0, 1, 4, 0)
	for i := range 16 {
		want := m.Pix[i/4*6+1+i%4]
		if rgb[i] != want || rgb[16+i] != want || rgb[32+i] != want {
			t.Errorf("pixel %d: found %v %v %v, expected %v", i, rgb[i], rgb[16+i], rgb[32+i], want)
		}
	}
	y := make([]float32, 16)
	p.patch(y, 1, 0, 1, 4, 0)
	for i, v := range m.Luma() {
		if x := i%6 - 1; x >= 0 && x < 4 && y[i/6*4+x] != v {
			t.Errorf("luma %d: found %v, expected %v", i, y[i/6*4+x], v)
		}
	}
}

func TestHoldOut(t *testing.T) {
	dir := folder(t, 10, 4, 4)
	names := func(opt Options) string {
		f := open(t, dir, opt)
		var s []string
		for i := range f.Len() {
			s = append(s, f.Name(i)[3:5])
		}
		return strings.Join(s, " ")
	}
	if got := names(Options{Every: 4, Offset: 1, Part: PartVal}); got != "01 05 09" {
		t.Errorf("held out: found %q", got)
	}
	if got := names(Options{Every: 4, Offset: 1, Part: PartTrain}); got != "00 02 03 04 06 07 08" {
		t.Errorf("training: found %q", got)
	}
	if got := names(Options{Every: 4, Offset: 1}); len(got) != 29 {
		t.Errorf("all: found %q", got)
	}
	for want, opt := range map[string]Options{
		"holdout.every":  {Every: 1, Part: PartVal},
		"holdout.offset": {Every: 4, Offset: 4},
		"found 0":        {Part: PartVal},
		"part":           {Part: "test"},
		"found no image": {Every: 20, Offset: 15, Part: PartVal},
	} {
		if _, err := ImageFolder(dir, opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: found %v, expected an error with %q", opt, err, want)
		}
	}
}

func TestFolderErrors(t *testing.T) {
	if _, err := ImageFolder(filepath.Join(t.TempDir(), "none"), Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none") {
		t.Errorf("missing: found %v", err)
	}
	dir := t.TempDir()
	if _, err := ImageFolder(dir, Options{}); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "found no images") {
		t.Errorf("empty: found %v", err)
	}
	encode(t, filepath.Join(dir, "a.png"), picture(20, 10, 0))
	f := open(t, dir, Options{})
	err := f.Check(11)
	if err == nil || !strings.Contains(err.Error(), "a.png") || !strings.Contains(err.Error(), "20x10") || !strings.Contains(err.Error(), "11x11") {
		t.Errorf("small: found %v", err)
	}
	cfg := SamplerConfig{Batch: 1, Channels: 3, Patch: 11, Degradation: Degradation{Task: Demosaic}}
	if _, err := NewSampler(f, cfg); err == nil || !strings.Contains(err.Error(), "20x10") {
		t.Errorf("sampler on small: found %v", err)
	}
	// Broken files: header and body.
	good, err := os.ReadFile(filepath.Join(dir, "a.png"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"zero.png": nil, "text.jpg": []byte("hello"), "cut.png": good[:60]} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		f := open(t, dir, Options{})
		if _, err := f.Image(0); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: found %v, expected a one-line error naming the file", name, err)
		}
		if name != "cut.png" { // its header is whole
			if err := f.Check(1); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: Check found %v", name, err)
			}
		}
		// A file that is mended is read: errors are not remembered.
		encode(t, filepath.Join(dir, name), picture(3, 3, 0))
		if _, err := f.Image(0); err != nil {
			t.Errorf("%s mended: %v", name, err)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	dir := folder(t, 6, 10, 10) // 300 bytes each
	f := open(t, dir, Options{CacheBytes: 1000})
	for range 2 {
		for i := range f.Len() {
			if _, err := f.Image(i); err != nil {
				t.Fatal(err)
			}
		}
	}
	var kept int64
	for _, e := range f.cache.entries {
		kept += e.p.bytes()
	}
	if kept != 900 || f.cache.budget != 100 {
		t.Errorf("found %d bytes kept, %d left, expected 900 and 100", kept, f.cache.budget)
	}
	// What is kept is not read again.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	hits := 0
	for i := range f.Len() {
		if _, err := f.Image(i); err == nil {
			hits++
		}
	}
	if hits != 3 {
		t.Errorf("found %d images cached, expected 3", hits)
	}
	if none := open(t, folder(t, 1, 2, 2), Options{CacheBytes: -1}); true {
		if _, err := none.Image(0); err != nil || len(none.cache.entries) != 0 {
			t.Errorf("found %d entries (%v), expected none", len(none.cache.entries), err)
		}
	}
}

// TestPatchTurns holds every turn to its definition: exchange rows and columns,
// then mirror.
func TestPatchTurns(t *testing.T) {
	const w, h, side, y0, x0 = 13, 9, 5, 2, 6
	img := imageio.FromImage(picture(w, h, 3))
	luma := img.Luma()
	p := toPlanes(img)
	seen := map[string]bool{}
	for turn := range 8 {
		got, gotY := make([]float32, 3*side*side), make([]float32, side*side)
		p.patch(got, 3, y0, x0, side, turn)
		p.patch(gotY, 1, y0, x0, side, turn)
		for y := range side {
			for x := range side {
				sy, sx := y, x
				if turn&1 != 0 {
					sx = side - 1 - sx
				}
				if turn&2 != 0 {
					sy = side - 1 - sy
				}
				if turn&4 != 0 {
					sy, sx = sx, sy
				}
				from := (y0+sy)*w + x0 + sx
				for c := range 3 {
					if g, want := got[(c*side+y)*side+x], img.Pix[c*w*h+from]; g != want {
						t.Fatalf("turn %d channel %d (%d,%d): found %v, expected %v", turn, c, y, x, g, want)
					}
				}
				if g, want := gotY[y*side+x], luma[from]; g != want {
					t.Fatalf("turn %d luma (%d,%d): found %v, expected %v", turn, y, x, g, want)
				}
			}
		}
		seen[fmt.Sprint(got)] = true
	}
	if len(seen) != 8 {
		t.Errorf("found %d different turns, expected 8", len(seen))
	}
}

func sampler(t testing.TB, ds Dataset, cfg SamplerConfig) *Sampler {
	t.Helper()
	s, err := NewSampler(ds, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// batch holds the three arrays of a step.
type batch struct{ y, mask, target []float32 }

func newBatch(s *Sampler) batch {
	n := s.Size() * s.cfg.Batch
	return batch{make([]float32, n), make([]float32, n), make([]float32, n)}
}

func (b batch) equal(o batch) bool {
	return slices.Equal(b.y, o.y) && slices.Equal(b.mask, o.mask) && slices.Equal(b.target, o.target)
}

var degradations = []Degradation{
	{Task: Demosaic, Pattern: "any", Noise: 3},
	{Task: Scale, Scale: 3},
	{Task: Fill, MissingRange: [2]float64{0.3, 0.9}},
	{Task: Fill, Missing: 0.5, Shape: "block", Block: 3},
}

// TestSamplerDependsOnNothingElse: order of calls, several goroutines, a cache
// that keeps nothing, a new object: the same bits.
func TestSamplerDependsOnNothingElse(t *testing.T) {
	dir := folder(t, 7, 24, 20)
	for _, d := range degradations {
		cfg := SamplerConfig{Seed: 5, Batch: 4, Channels: 3, Patch: 12, Augment: true, Degradation: d}
		ref := sampler(t, open(t, dir, Options{}), cfg)
		const steps = 9 // 36 examples: more than five epochs of 7
		var want [steps]batch
		for step := range steps {
			want[step] = newBatch(ref)
			if err := ref.Batch(step, want[step].y, want[step].mask, want[step].target); err != nil {
				t.Fatal(err)
			}
			for other := range step {
				if want[other].equal(want[step]) {
					t.Errorf("steps %d and %d are alike", other, step)
				}
			}
		}
		s := sampler(t, open(t, dir, Options{CacheBytes: -1}), cfg)
		var wg sync.WaitGroup
		var got [steps]batch
		for step := steps - 1; step >= 0; step-- {
			got[step] = newBatch(s)
			for b := range cfg.Batch {
				wg.Add(1)
				go func() {
					defer wg.Done()
					lo, hi := b*s.Size(), (b+1)*s.Size()
					if err := s.Slot(step, b, got[step].y[lo:hi], got[step].mask[lo:hi], got[step].target[lo:hi]); err != nil {
						t.Error(err)
					}
				}()
			}
		}
		wg.Wait()
		for step := range steps {
			if !got[step].equal(want[step]) {
				t.Errorf("%s: step %d differs", d.Task, step)
			}
		}
		cfg.Seed++
		other := sampler(t, open(t, dir, Options{}), cfg)
		b := newBatch(other)
		if err := other.Batch(0, b.y, b.mask, b.target); err != nil {
			t.Fatal(err)
		}
		if b.equal(want[0]) {
			t.Error("another seed gives the same batch")
		}
	}
}

// TestExamples: each target is a turned crop of an image at an aligned place,
// all images come once per epoch, all turns and places come up.
func TestExamples(t *testing.T) {
	const n, w, h, side = 5, 14, 11, 6
	dir := folder(t, n, w, h)
	f := open(t, dir, Options{})
	for _, align := range []int{1, 2} {
		s := sampler(t, f, SamplerConfig{Seed: 1, Batch: 3, Channels: 3, Patch: side, Align: align, Augment: true,
			Degradation: Degradation{Task: Demosaic}})
		type origin struct{ img, y, x, turn int }
		known := map[string]origin{}
		key := func(v []float32) string { return fmt.Sprint(v) }
		patch := make([]float32, 3*side*side)
		for i := range n {
			p, err := f.planes(i)
			if err != nil {
				t.Fatal(err)
			}
			for y := 0; y+side <= h; y += align {
				for x := 0; x+side <= w; x += align {
					for turn := range 8 {
						p.patch(patch, 3, y, x, side, turn)
						known[key(patch)] = origin{i, y, x, turn}
					}
				}
			}
		}
		mosaic, err := BayerMask("rggb", 3, side, side)
		if err != nil {
			t.Fatal(err)
		}
		y, mask, target := make([]float32, s.Size()), make([]float32, s.Size()), make([]float32, s.Size())
		turns, ys, xs, orders := map[int]bool{}, map[int]bool{}, map[int]bool{}, map[string]bool{}
		for epoch := range uint64(60) {
			var order []int
			for i := range n {
				if err := s.Example(epoch, i, y, mask, target); err != nil {
					t.Fatal(err)
				}
				o, ok := known[key(target)]
				if !ok {
					t.Fatalf("epoch %d example %d: the target is no aligned crop of an image", epoch, i)
				}
				turns[o.turn], ys[o.y], xs[o.x] = true, true, true
				order = append(order, o.img)
				if !slices.Equal(mask, mosaic) {
					t.Fatal("the mosaic was turned with the patch")
				}
				for k := range y {
					if y[k] != target[k]*mask[k] {
						t.Fatal("the samples are not those of the target")
					}
				}
			}
			orders[fmt.Sprint(order)] = true
			slices.Sort(order)
			if !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
				t.Errorf("epoch %d: found images %v, expected each once", epoch, order)
			}
		}
		if len(turns) != 8 || len(ys) != (h-side)/align+1 || len(xs) != (w-side)/align+1 || len(orders) < 30 {
			t.Errorf("align %d: found %d turns, %d rows, %d columns, %d orders", align, len(turns), len(ys), len(xs), len(orders))
		}
	}
}

func TestAugmentOffKeepsTheRest(t *testing.T) {
	f := open(t, folder(t, 3, 16, 16), Options{})
	cfg := SamplerConfig{Seed: 2, Batch: 1, Channels: 1, Patch: 8, Degradation: Degradation{Task: Fill, Missing: 0.5}}
	plain := sampler(t, f, cfg)
	cfg.Augment = true
	turned := sampler(t, f, cfg)
	differ := 0
	for step := range 20 {
		a, b := newBatch(plain), newBatch(turned)
		if err := plain.Batch(step, a.y, a.mask, a.target); err != nil {
			t.Fatal(err)
		}
		if err := turned.Batch(step, b.y, b.mask, b.target); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.mask, b.mask) {
			t.Error("augment changed the mask")
		}
		if !slices.Equal(a.target, b.target) {
			differ++
		}
	}
	if differ < 10 {
		t.Errorf("found %d of 20 patches turned", differ)
	}
}

func TestSamplerErrors(t *testing.T) {
	f := open(t, folder(t, 2, 8, 8), Options{})
	good := SamplerConfig{Batch: 2, Channels: 3, Patch: 4, Degradation: Degradation{Task: Demosaic}}
	for key, change := range map[string]func(*SamplerConfig){
		"train.batch":           func(c *SamplerConfig) { c.Batch = 0 },
		"data.patch":            func(c *SamplerConfig) { c.Patch = 0 },
		"model.channels":        func(c *SamplerConfig) { c.Channels = 1 },
		"data.degradation.task": func(c *SamplerConfig) { c.Degradation.Task = "x" },
		"alignment":             func(c *SamplerConfig) { c.Align = -1 },
	} {
		c := good
		change(&c)
		if _, err := NewSampler(f, c); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("found %v, expected an error on %s", err, key)
		}
	}
	s := sampler(t, f, good)
	b := newBatch(s)
	if err := s.Batch(0, b.y[1:], b.mask, b.target); err == nil {
		t.Error("short slice: found no error")
	}
	for _, at := range [][2]int{{-1, 0}, {0, -1}, {0, 2}} {
		if err := s.Slot(at[0], at[1], b.y[:48], b.mask[:48], b.target[:48]); err == nil {
			t.Errorf("slot %v: found no error", at)
		}
	}
	if err := s.Example(0, 2, b.y[:48], b.mask[:48], b.target[:48]); err == nil {
		t.Error("example 2 of 2: found no error")
	}
	if e, i := s.Epoch(3); e != 3 || i != 0 {
		t.Errorf("found epoch %d, index %d, expected 3, 0", e, i)
	}
	// A file that shrank after the check.
	encode(t, f.Path(0), picture(2, 9, 0))
	encode(t, f.Path(1), picture(2, 9, 0))
	if err := s.Batch(0, b.y, b.mask, b.target); err == nil || !strings.Contains(err.Error(), "2x9") {
		t.Errorf("shrunken file: found %v", err)
	}
}

// foreign is a Dataset from outside, without the package's own storage.
type foreign struct{ m *imageio.Image }

func (foreign) Len() int                            { return 1 }
func (f foreign) Image(int) (*imageio.Image, error) { return f.m, nil }

func TestForeignDataset(t *testing.T) {
	m := imageio.FromImage(picture(8, 8, 1))
	s := sampler(t, foreign{m}, SamplerConfig{Batch: 1, Channels: 3, Patch: 8, Degradation: Degradation{Task: Scale}})
	b := newBatch(s)
	if err := s.Batch(0, b.y, b.mask, b.target); err != nil {
		t.Fatal(err)
	}
	for i, v := range b.target {
		if math.Abs(float64(v-m.Pix[i])) > 1.0/131070+1e-7 {
			t.Fatalf("pixel %d: found %v, expected %v", i, v, m.Pix[i])
		}
	}
	m.Pix = m.Pix[1:]
	if err := s.Batch(0, b.y, b.mask, b.target); err == nil {
		t.Error("incomplete image: found no error")
	}
}

func TestSynthetic(t *testing.T) {
	ds, err := Open(SyntheticName, Options{Every: 8, Part: PartTrain}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if ds.Len() != 56 {
		t.Errorf("found %d images, expected 56", ds.Len())
	}
	a, err := ds.Image(0)
	if err != nil {
		t.Fatal(err)
	}
	if a.W != 128 || a.H != 128 || a.C != 3 {
		t.Fatalf("found %dx%dx%d, expected 128x128x3", a.C, a.H, a.W)
	}
	again, _ := Open(SyntheticName, Options{Every: 8, Part: PartTrain}, 3)
	if b, err := again.Image(0); err != nil || !slices.Equal(a.Pix, b.Pix) {
		t.Errorf("the same seed gives another image (%v)", err)
	}
	other, _ := Open(SyntheticName, Options{}, 4)
	if b, err := other.Image(1); err != nil || slices.Equal(a.Pix, b.Pix) {
		t.Errorf("another seed gives the same image (%v)", err)
	}
	// Like photographs: contrast, neighbours alike, channels alike.
	var contrast, neighbour, chroma float64
	n := 128 * 128
	for i := range ds.Len() {
		m, err := ds.Image(i)
		if err != nil {
			t.Fatal(err)
		}
		var mean float64
		for _, v := range m.Pix {
			mean += float64(v) / float64(len(m.Pix))
		}
		for k := range n - 1 {
			g := float64(m.Pix[n+k])
			contrast += math.Abs(g - mean)
			neighbour += math.Abs(g - float64(m.Pix[n+k+1]))
			chroma += math.Abs((g - float64(m.Pix[k])) - (float64(m.Pix[n+k+1]) - float64(m.Pix[k+1])))
		}
	}
	if total := float64(n * ds.Len()); contrast/total < 0.08 || neighbour > contrast/2 || chroma > neighbour/2 {
		t.Errorf("found contrast %.3f, neighbour difference %.3f, colour difference %.3f per pixel", contrast/total, neighbour/total, chroma/total)
	}
	if _, err := NewSampler(ds, SamplerConfig{Batch: 1, Channels: 3, Patch: 129, Degradation: Degradation{Task: Demosaic}}); err == nil {
		t.Error("patch larger than the images: found no error")
	}
	for _, bad := range [][2]int{{0, 8}, {8, 0}} {
		if _, err := Synthetic(bad[0], bad[1], 1, Options{}); err == nil {
			t.Errorf("%v: found no error", bad)
		}
	}
}

// TestRealFolder reads the training photographs, where they are.
func TestRealFolder(t *testing.T) {
	f := open(t, testdata.Dir(t, "train_cid22"), Options{Every: 16, Part: PartVal})
	if f.Len() != 12 { // 185 images: numbers 0, 16, ..., 176
		t.Errorf("found %d images, expected 12", f.Len())
	}
	s := sampler(t, f, SamplerConfig{Seed: 1, Batch: 12, Channels: 3, Patch: 64, Augment: true,
		Degradation: Degradation{Task: Demosaic, Pattern: "any"}})
	b := newBatch(s)
	if err := s.Batch(0, b.y, b.mask, b.target); err != nil {
		t.Fatal(err)
	}
	if k := len(b.mask) - holes(b.mask); k != 12*64*64 {
		t.Errorf("found %d samples, expected one per pixel, %d", k, 12*64*64)
	}
}

func BenchmarkExample(b *testing.B) {
	for _, d := range []Degradation{
		{Task: Demosaic, Pattern: "any"}, {Task: Demosaic, Noise: 5}, {Task: Scale}, {Task: Fill, Missing: 0.8}, {Task: Fill, Missing: 0.8, Shape: "block"},
	} {
		b.Run(fmt.Sprintf("%s-%s-%g", d.Task, d.Shape, d.Noise), func(b *testing.B) {
			s := sampler(b, open(b, folder(b, 3, 512, 512), Options{}), SamplerConfig{Batch: 1, Channels: 3, Patch: 64, Augment: true, Degradation: d})
			x := newBatch(s)
			for i := range 3 {
				s.Batch(i, x.y, x.mask, x.target)
			}
			b.ReportAllocs()
			step := 0
			for b.Loop() {
				if err := s.Batch(step, x.y, x.mask, x.target); err != nil {
					b.Fatal(err)
				}
				step++
			}
		})
	}
}
