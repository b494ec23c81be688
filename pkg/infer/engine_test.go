package infer

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
)

func TestSplitInvariants(t *testing.T) {
	for _, align := range []int{1, 2, 6} {
		for _, reach := range []int{0, 1, 7, 34} {
			for _, tile := range []int{1, 2, 5, 16, 32, 33, 100, 1000} {
				for n := 1; n < 700; n += 1 + n/40 {
					a := split(n, tile, reach, align)
					end := 0
					for i, s := range a.spans {
						last := i == len(a.spans)-1
						bad := ""
						switch {
						case s.lo != end || s.hi <= s.lo:
							bad = "cores do not follow each other"
						case last && s.hi != n:
							bad = "cores do not end with the image"
						case s.win < 0 || s.win+a.window > n:
							bad = "window outside the image"
						case s.win%align != 0 || s.lo%align != 0:
							bad = "not aligned"
						case s.win > 0 && s.lo-s.win < reach:
							bad = "halo before the core is too small"
						case s.win+a.window < n && s.win+a.window-s.hi < reach:
							bad = "halo after the core is too small"
						case (n-a.window)%align != 0:
							bad = "window length"
						}
						if bad != "" {
							t.Fatalf("split(%d, %d, %d, %d) = %+v, tile %d: %s", n, tile, reach, align, a, i, bad)
						}
						end = s.hi
					}
					if most := roundUp(tile, align) + 2*roundUp(reach, align) + align; len(a.spans) > 1 && a.window > most {
						t.Fatalf("split(%d, %d, %d, %d): window %d, expected at most %d", n, tile, reach, align, a.window, most)
					}
				}
			}
		}
	}
}

func TestBestLayout(t *testing.T) {
	for _, c := range []struct{ h, w, reach, workers, maxPixels int }{
		{512, 768, 34, 1, 1 << 30}, {512, 768, 34, 2, 1 << 30}, {512, 768, 34, 2, 200 * 200},
		{4000, 6000, 34, 2, 400 * 400}, {1, 70000, 34, 2, 5000}, {1, 1, 34, 4, 1}, {33, 35, 0, 3, 64},
	} {
		l := bestLayout(c.h, c.w, c.reach, 2, c.workers, c.maxPixels)
		smallest := bestLayout(c.h, c.w, c.reach, 2, c.workers, 0).pixels()
		if l.pixels() > max(c.maxPixels, smallest) {
			t.Errorf("%+v: window of %d pixels, expected at most %d", c, l.pixels(), max(c.maxPixels, smallest))
		}
		if busiest := l.rounds(c.workers) * l.pixels(); c.maxPixels == 1<<30 && 10*busiest*c.workers > 13*c.h*c.w {
			t.Errorf("%+v: %d tiles, the busiest worker computes %d pixels", c, l.tiles(), busiest)
		}
	}
}

func TestSamplesRead(t *testing.T) {
	const c, h, w = 2, 5, 150
	d := data.Degradation{Task: data.Fill, Missing: 0.6}
	y, mask := degraded(t, d, 1, c*h, w)
	s := newSamples(mask, c*h, w)
	s.keep(y, w)
	gotY, gotMask := make([]float32, w), make([]float32, w)
	for r := range c * h {
		for x := range w {
			for _, n := range []int{0, 1, 3, w - x} {
				n = min(n, w-x)
				s.read(gotY[:n], gotMask[:n], r, x)
				if different(gotY[:n], y[r*w+x:r*w+x+n]) >= 0 || different(gotMask[:n], mask[r*w+x:r*w+x+n]) >= 0 {
					t.Fatalf("row %d, pixels [%d,%d): read differs", r, x, x+n)
				}
			}
		}
	}
}

// tilings are the options that must not change a bit.
func tilings() []Options {
	var all []Options
	for _, tile := range []int{0, 32, 64, 128, 256, 512} {
		for _, workers := range []int{1, 2, 3} {
			all = append(all, Options{Tile: tile, Workers: workers})
		}
	}
	return all
}

func TestTilesAndWorkersDoNotChangeABit(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		for _, size := range [][2]int{{97, 131}, {128, 64}, {1, 300}, {300, 1}, {2, 2}, {1, 1}, {33, 211}} {
			h, w := size[0], size[1]
			f := newFake(3, 3, 5, stateful)
			n := f.network(data.Fill)
			y, mask := degraded(t, data.Degradation{Task: data.Fill, Missing: 0.7}, 3, h, w)
			want := f.whole(y, mask, h, w)
			for _, opt := range append(tilings(), Options{Tile: 1, Workers: 2}, Options{Tile: 7, Workers: 3}) {
				if opt.Tile > 0 && opt.Tile < 32 && h*w > 1000 {
					continue
				}
				got, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, opt)
				if err != nil {
					t.Fatal(err)
				}
				if i := different(got, want); i >= 0 {
					t.Errorf("%dx%d, state %v, %+v: element %d is %v, expected %v", w, h, stateful, opt, i, got[i], want[i])
				}
			}
		}
	}
}

func TestRegionsDoNotChangeABit(t *testing.T) {
	const h, w = 211, 333
	f := newFake(3, 3, 5, true)
	n := f.network(data.Fill)
	y, mask := degraded(t, data.Degradation{Task: data.Fill, Missing: 0.7}, 3, h, w)
	want := f.whole(y, mask, h, w)
	s := &signal{y: y, mask: mask, c: 3, h: h, w: w}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	p := &planes{c: 3, h: h, w: w, known: newSamples(mask, 3*h, w), x: make([]float32, len(y)), next: make([]float32, len(y))}
	p.known.keep(y, w)
	initial(p.x, s, 1)
	done, total := 0, 0
	opt := Options{Workers: 2, Tile: 32, Progress: func(d, n int) { done, total = d, n }}
	got, err := n.engine.regions(context.Background(), p, opt, 3<<20)
	if err != nil {
		t.Fatal(err)
	}
	if i := different(got, want); i >= 0 {
		t.Errorf("element %d is %v, expected %v", i, got[i], want[i])
	}
	if one := 3 * 21; done != total || total < one {
		t.Errorf("progress ended at %d of %d, expected several regions' tiles", done, total)
	}
}

func TestConcurrentRestorations(t *testing.T) {
	const h, w = 61, 83
	f := newFake(3, 2, 4, true)
	n := f.network(data.Fill)
	y, mask := degraded(t, data.Degradation{Task: data.Fill, Missing: 0.5}, 3, h, w)
	want := f.whole(y, mask, h, w)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			got, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Tile: 16 + 8*(i%2), Workers: 2})
			if err != nil || different(got, want) >= 0 {
				t.Errorf("restoration %d differs (%v)", i, err)
			}
		})
	}
	wg.Wait()
}

func TestInputsAreLeftAlone(t *testing.T) {
	f := newFake(3, 2, 3, false)
	y, mask := degraded(t, data.Degradation{Task: data.Fill, Missing: 0.5}, 3, 40, 40)
	for i := range y {
		if mask[i] == 0 {
			y[i] = 7 // what is not known must not matter
		}
	}
	y0, mask0 := append([]float32(nil), y...), append([]float32(nil), mask...)
	got, err := f.network(data.Fill).RestorePlanar(context.Background(), y, mask, 3, 40, 40, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if different(y, y0) >= 0 || different(mask, mask0) >= 0 {
		t.Error("the caller's samples or mask were changed")
	}
	for i := range y {
		if mask[i] == 0 {
			y[i] = 0
		}
	}
	if different(got, f.whole(y, mask, 40, 40)) >= 0 {
		t.Error("values outside the mask changed the result")
	}
}

func TestChannels(t *testing.T) {
	const h, w = 37, 45
	d := data.Degradation{Task: data.Fill, Missing: 0.5}
	one, three := newFake(1, 2, 3, false), newFake(3, 2, 3, false)

	y, mask := degraded(t, d, 3, h, w)
	got, err := one.network(data.Fill).RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Tile: 16})
	if err != nil {
		t.Fatal(err)
	}
	for c := range 3 {
		a, b := c*h*w, (c+1)*h*w
		if different(got[a:b], one.whole(y[a:b], mask[a:b], h, w)) >= 0 {
			t.Errorf("channel %d differs from the channel alone", c)
		}
	}

	y, mask = degraded(t, d, 1, h, w)
	got, err = three.network(data.Fill).RestorePlanar(context.Background(), y, mask, 1, h, w, Options{Tile: 16})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != h*w {
		t.Fatalf("gray gave %d values, expected %d", len(got), h*w)
	}
	y3 := append(append(append([]float32(nil), y...), y...), y...)
	mask3 := append(append(append([]float32(nil), mask...), mask...), mask...)
	all := three.whole(y3, mask3, h, w)
	for i, v := range got {
		if mask[i] != 0 && v != y[i] {
			t.Fatalf("sample %d is %v, expected %v", i, v, y[i])
		}
		if mean := (all[i] + all[h*w+i] + all[2*h*w+i]) / 3; math.Abs(float64(v-mean)) > 1e-6 {
			t.Fatalf("pixel %d is %v, expected the mean %v", i, v, mean)
		}
	}
	if _, err := three.network(data.Fill).RestorePlanar(context.Background(), make([]float32, 8), make([]float32, 8), 2, 2, 2, Options{}); err == nil {
		t.Error("two channels were accepted")
	}
}

func TestCancel(t *testing.T) {
	const h, w = 120, 120
	f := newFake(3, 3, 3, false)
	n := f.network(data.Fill)
	y, mask := degraded(t, data.Degradation{Task: data.Fill, Missing: 0.5}, 3, h, w)
	stop := errors.New("enough")
	for _, workers := range []int{1, 3} {
		ctx, cancel := context.WithCancelCause(context.Background())
		last := 0
		out, err := n.RestorePlanar(ctx, y, mask, 3, h, w, Options{Tile: 16, Workers: workers, Progress: func(done, total int) {
			if last = done; done == 5 {
				cancel(stop)
			}
		}})
		if !errors.Is(err, stop) || out != nil {
			t.Errorf("%d workers: found %v, expected the cause", workers, err)
		}
		if last < 5 || last > 5+workers {
			t.Errorf("%d workers: %d tiles were computed after the 5th", workers, last-5)
		}
		if _, err := n.RestorePlanar(ctx, y, mask, 3, h, w, Options{}); !errors.Is(err, stop) {
			t.Errorf("a context that had ended gave %v", err)
		}
	}
}

func TestProgressCountsEveryTile(t *testing.T) {
	f := newFake(3, 2, 3, false)
	y, mask := degraded(t, data.Degradation{Task: data.Fill, Missing: 0.5}, 3, 90, 70)
	var seen []int
	total := 0
	_, err := f.network(data.Fill).RestorePlanar(context.Background(), y, mask, 3, 90, 70,
		Options{Tile: 20, Workers: 3, Progress: func(d, n int) { seen, total = append(seen, d), n }})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != total || total < 2*12 {
		t.Fatalf("%d reports of %d tiles", len(seen), total)
	}
	for i, d := range seen {
		if d != i+1 {
			t.Fatalf("report %d says %d", i, d)
		}
	}
}

func TestRefusals(t *testing.T) {
	nan := float32(math.NaN())
	f := newFake(3, 3, 3, false)
	ok := func() (y, mask []float32) {
		return degraded(t, data.Degradation{Task: data.Fill, Missing: 0.5}, 3, 30, 40)
	}
	for _, c := range []struct {
		name, want string
		change     func(f *fake, y, mask []float32, opt *Options) ([]float32, []float32)
	}{
		{"mask value", "mask: element at channel 0, pixel (2,0) is 0.5, expected 0 or 1", func(_ *fake, y, mask []float32, _ *Options) ([]float32, []float32) {
			mask[2] = 0.5
			return y, mask
		}},
		{"mask NaN", "expected 0 or 1", func(_ *fake, y, mask []float32, _ *Options) ([]float32, []float32) {
			mask[2] = nan
			return y, mask
		}},
		{"empty mask", "mask: no sample of channel 0 is known", func(_ *fake, y, mask []float32, _ *Options) ([]float32, []float32) {
			clear(mask)
			return y, mask
		}},
		{"empty channel", "mask: no sample of channel 1 is known", func(_ *fake, y, mask []float32, _ *Options) ([]float32, []float32) {
			clear(mask[30*40 : 2*30*40])
			return y, mask
		}},
		{"short mask", "image: found 3600 samples and a mask of 3599", func(_ *fake, y, mask []float32, _ *Options) ([]float32, []float32) {
			return y, mask[1:]
		}},
		{"NaN sample", "expected a finite number", func(_ *fake, y, mask []float32, _ *Options) ([]float32, []float32) {
			mask[50], y[50] = 1, nan
			return y, mask
		}},
		{"infinite sample", "image: sample at channel 0, pixel (10,1) is +Inf", func(_ *fake, y, mask []float32, _ *Options) ([]float32, []float32) {
			mask[50], y[50] = 1, float32(math.Inf(1))
			return y, mask
		}},
		{"NaN in block 1", "block 1: found NaN at channel", func(f *fake, y, mask []float32, _ *Options) ([]float32, []float32) {
			f.spoil = 1
			return y, mask
		}},
		{"tile", "tile: found -1", func(_ *fake, y, mask []float32, opt *Options) ([]float32, []float32) {
			opt.Tile = -1
			return y, mask
		}},
		{"workers", "workers: found -2", func(_ *fake, y, mask []float32, opt *Options) ([]float32, []float32) {
			opt.Workers = -2
			return y, mask
		}},
		{"memory below zero", "max memory: found -1", func(_ *fake, y, mask []float32, opt *Options) ([]float32, []float32) {
			opt.MaxMemory = -1
			return y, mask
		}},
		{"memory for planes", "max memory: found 1000 bytes, expected at least", func(_ *fake, y, mask []float32, opt *Options) ([]float32, []float32) {
			opt.MaxMemory = 1000
			return y, mask
		}},
		{"memory for tiles", "for tiles with windows of", func(_ *fake, y, mask []float32, opt *Options) ([]float32, []float32) {
			opt.MaxMemory = 60000
			return y, mask
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := *f
			opt := Options{Workers: 2}
			y, mask := ok()
			y, mask = c.change(&g, y, mask, &opt)
			out, err := g.network(data.Fill).RestorePlanar(context.Background(), y, mask, 3, 30, 40, opt)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || out != nil {
				t.Errorf("found %v, expected one line with %q", err, c.want)
			}
			var memory *MemoryError
			// What is asked for (first for planes, then for tiles) does.
			for tries := 0; errors.As(err, &memory); tries++ {
				if tries == 2 {
					t.Fatalf("with what was asked for twice: %v", err)
				}
				opt.MaxMemory = memory.Need
				_, err = g.network(data.Fill).RestorePlanar(context.Background(), y, mask, 3, 30, 40, opt)
			}
		})
	}
	if _, err := f.network(data.Fill).RestorePlanar(context.Background(), nil, nil, 3, 0, 5, Options{}); err == nil {
		t.Error("an image without pixels was accepted")
	}
}

func TestMemoryBoundChoosesSmallerTiles(t *testing.T) {
	const h, w = 300, 400
	f := newFake(3, 2, 4, false)
	n := f.network(data.Fill)
	y, mask := degraded(t, data.Degradation{Task: data.Fill, Missing: 0.5}, 3, h, w)
	want := f.whole(y, mask, h, w)
	_, need := planeBytes(&signal{mask: mask})
	tiles := func(maxMemory int64) int {
		count := 0
		got, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 2, MaxMemory: maxMemory, Progress: func(_, n int) { count = n }})
		if err != nil {
			t.Fatal(err)
		}
		if different(got, want) >= 0 {
			t.Errorf("max memory %d changed the result", maxMemory)
		}
		return count
	}
	if few, many := tiles(need+1<<30), tiles(need+1<<20); many <= few {
		t.Errorf("%d tiles with a gigabyte and %d with a megabyte, expected more", few, many)
	}
}

func TestMachinesAreBounded(t *testing.T) {
	f := newFake(3, 2, 4, false)
	n := f.network(data.Fill)
	const room = 8 << 20
	for _, side := range []int{100, 120, 140, 160} {
		y, mask := degraded(t, data.Degradation{Task: data.Fill, Missing: 0.5}, 3, side, side)
		_, planes := planeBytes(&signal{mask: mask})
		limit := planes + room
		if _, err := n.RestorePlanar(context.Background(), y, mask, 3, side, side, Options{Workers: 2, MaxMemory: limit}); err != nil {
			t.Fatal(err)
		}
		var held int64
		for _, l := range n.engine.cache.idle {
			held += l.bytes()
		}
		if held > room || held == 0 {
			t.Errorf("after %d: %d lanes hold %d bytes, expected some, at most %d", side, len(n.engine.cache.idle), held, room)
		}
	}
	big := &lane{machines: []*machine{{bytes: maxIdle}}}
	n.engine.cache.takeBack([]*lane{big})
	if idle := n.engine.cache.idle; len(idle) != 1 || idle[0] != big {
		t.Errorf("%d lanes are kept beside one as large as all may be", len(idle))
	}
}
