package kernel

import (
	"math"
	"strings"
	"testing"
)

func TestStartLevel(t *testing.T) {
	all := []Level{Generic, AVX2, AVX512}
	for _, z := range []struct {
		name   string
		levels []Level
		want   Level
		err    string
	}{
		{"", all, AVX512, ""},
		{"", all[:1], Generic, ""},
		{"generic", all, Generic, ""},
		{"avx2", all, AVX2, ""},
		{"avx512", all[:2], AVX2, `UNROLLNET_KERNEL="avx512": this machine has generic, avx2`},
		{"fast", all, AVX512, `UNROLLNET_KERNEL="fast"`},
	} {
		got, err := startLevel(z.name, z.levels)
		if got != z.want {
			t.Errorf("%q of %v: level %v, want %v", z.name, z.levels, got, z.want)
		}
		if (err != nil) != (z.err != "") || err != nil && !strings.Contains(err.Error(), z.err) {
			t.Errorf("%q of %v: error %v, want %q", z.name, z.levels, err, z.err)
		}
	}
}

func TestForce(t *testing.T) {
	before := Active()
	restore := Force(Generic)
	if Active() != Generic {
		t.Errorf("forced generic, found %v", Active())
	}
	restore()
	if Active() != before {
		t.Errorf("restored %v, found %v", before, Active())
	}
	defer func() {
		if recover() == nil {
			t.Error("Force of an unknown level: no panic")
		}
		if Active() != before {
			t.Errorf("a refused level changed the active one to %v", Active())
		}
	}()
	Force(Level(99))
}

// Parallel covers [0, n) once, in as many parts as it has workers at most.
func TestParallel(t *testing.T) {
	for _, n := range []int{0, 1, 2, 5, 16, 17} {
		for _, workers := range []int{0, 1, 2, 3, 8, 40} {
			seen := make([]int, n)
			Parallel(workers, n, func(worker, lo, hi int) {
				if worker < 0 || worker >= max(1, workers) {
					t.Errorf("n %d, %d workers: worker %d", n, workers, worker)
				}
				for i := lo; i < hi; i++ {
					seen[i]++
				}
			})
			for i, s := range seen {
				if s != 1 {
					t.Fatalf("n %d, %d workers: index %d was visited %d times", n, workers, i, s)
				}
			}
		}
	}
}

func TestScratch(t *testing.T) {
	var s Scratch[float32]
	a := s.Take(10)
	m := s.Mark()
	b := s.TakeZero(100)
	c := s.Take(3 * minBlock)
	if len(a) != 10 || len(b) != 100 || len(c) != 3*minBlock || cap(a) != 10 {
		t.Fatalf("lengths %d, %d, %d, capacity %d", len(a), len(b), len(c), cap(a))
	}
	for _, x := range [][]float32{a, b, c} {
		for i := range x {
			if x[i] == 42 {
				t.Fatal("two slices overlap")
			}
			x[i] = 42
		}
	}
	held := s.Bytes()
	if want := int64(4 * (minBlock + 3*minBlock)); held != want {
		t.Errorf("holds %d bytes, want %d", held, want)
	}
	s.Release(m)
	for i, v := range s.TakeZero(100) {
		if v != 0 {
			t.Fatalf("TakeZero left %v at %d", v, i)
		}
	}
	if a[9] != 42 {
		t.Error("what was taken before the mark was given out again")
	}
	if n := testing.AllocsPerRun(10, func() {
		s.Release(m)
		s.Take(100)
		s.Take(3 * minBlock)
	}); n != 0 || s.Bytes() != held {
		t.Errorf("a repeated round allocates %v times and holds %d bytes, want %d", n, s.Bytes(), held)
	}
	var none *Scratch[float64]
	none.Release(none.Mark())
	if len(none.TakeZero(7)) != 7 || none.Bytes() != 0 {
		t.Error("a nil Scratch does not serve")
	}
	var d Scratch[float64]
	d.Take(1)
	if d.Bytes() != 8*minBlock {
		t.Errorf("one float64 block is %d bytes", d.Bytes())
	}
}

func TestPeak(t *testing.T) {
	for _, l := range Available() {
		// Any machine of the last twenty years does 10 million operations a second
		// and none does 100 TFLOP/s on a core.
		if p := Peak(l); !(p > 1e7 && p < 1e14) || math.IsInf(p, 0) {
			t.Errorf("peak at %v: %v FLOP/s", l, p)
		}
	}
	if p := Peak(Level(99)); p != 0 {
		t.Errorf("peak of an unknown level: %v, want 0", p)
	}
}
