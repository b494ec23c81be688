package explain

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"image"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// scene is a picture (c,h,w) with edges, slopes and texture.
func scene(c, h, w int) []float32 {
	out := make([]float32, c*h*w)
	for k := range c {
		for y := range h {
			for x := range w {
				v := .4 + .2*math.Sin(float64(x)/5)*math.Cos(float64(y)/7)
				if x+2*y > w {
					v += .25 - .05*float64(k)
				}
				out[(k*h+y)*w+x] = float32(v)
			}
		}
	}
	return out
}

func degraded(d data.Degradation, c, h, w int) Input {
	clean := scene(c, h, w)
	y, mask := d.Apply(clean, c, h, w, data.Rand(3, 0, 0))
	return Input{Y: y, Mask: mask, Original: clean, C: c, H: h, W: w}
}

var (
	demosaic = data.Degradation{Task: data.Demosaic, Pattern: "rggb"}
	scale    = data.Degradation{Task: data.Scale, Scale: 2}
	fill     = data.Degradation{Task: data.Fill, Missing: .6}
)

func network(t *testing.T, c model.Config) model.Network {
	t.Helper()
	net, err := model.New(c, 7)
	if err != nil {
		t.Fatal(err)
	}
	return net
}

func explained(t *testing.T, net model.Network, d data.Degradation, in Input, opt Options) *Report {
	t.Helper()
	opt.Workers = 2
	r, err := Explain(context.Background(), net, d, in, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// graphTypes are the architectures with graphs, each once, in a tiny form.
func graphConfigs(t *testing.T) []model.Config {
	var out []model.Config
	for _, typ := range Explainable() {
		out = append(out, model.Config{Type: typ, Preset: "tiny"})
	}
	if len(out) == 0 {
		t.Fatal("no architecture has graphs")
	}
	return out
}

// The last stage is what the network computes, to the bit, for every
// architecture, task and number of channels; and its PSNR is that of the metric.
func TestExplainRunsTheNetwork(t *testing.T) {
	const h, w = 36, 42
	for _, cfg := range graphConfigs(t) {
		for _, d := range []data.Degradation{demosaic, scale, fill} {
			for _, c := range []int{1, 3} {
				if d.CheckChannels(c) != nil {
					continue
				}
				cfg.Channels = c
				net := network(t, cfg)
				in := degraded(d, c, h, w)
				r := explained(t, net, d, in, Options{})

				g := G.NewGraph()
				b := nn.NewBuilder(g, op.NewEnv(1), net.Params())
				out, err := net.Forward(b, b.Input("y", in.Y, 1, c, h, w), b.Input("mask", in.Mask, 1, c, h, w))
				if err != nil {
					t.Fatal(err)
				}
				var v G.Value
				G.Read(out, &v)
				vm := G.NewTapeMachine(g)
				if err := vm.RunAll(); err != nil {
					t.Fatal(err)
				}
				vm.Close()
				if want := v.Data().([]float32); !slices.Equal(want, r.last().Image) {
					t.Fatalf("%s, %s, %d channels: the last stage is not the network's result", cfg.Type, d.Task, c)
				}
				if want := metric.PSNR(in.Original, r.last().Image); r.last().PSNR != want {
					t.Errorf("%s, %s: PSNR %v, expected %v", cfg.Type, d.Task, r.last().PSNR, want)
				}
				if len(r.Blocks) != net.Blocks() || len(r.Blocks[0].Heads) != net.Config().Heads {
					t.Errorf("%s: %d blocks of %d heads", cfg.Type, len(r.Blocks), len(r.Blocks[0].Heads))
				}
			}
		}
	}
}

// The weights of a pixel are its row of the operator, however it is stored: the
// operator applied to a single pixel j gives -omega_ij at every neighbour i.
func TestWeightsAreRowsOfTheOperator(t *testing.T) {
	const h, w, dim = 7, 9, 3
	forward := model.Config{Window: 5}.Neighbours()
	for _, norm := range []graph.Normalization{graph.Symmetric, graph.SoftmaxSymmetric, graph.RandomWalk} {
		grid := graph.NewGrid(h, w, forward)
		f, a := make([]float64, dim*h*w), []float64{1, .2, 0, 0, .8, .1, .3, 0, 1.1}
		for i := range f {
			f[i] = math.Sin(1.3 * float64(i))
		}
		ws := graph.Weights[float64]{Grid: grid, Dim: dim, Normalization: norm}
		omega := make([]float64, norm.Planes(grid)*grid.PlaneLen)
		var s kernel.Scratch[float64]
		ws.Forward(&s, omega, f, a)
		single := make([]float32, len(omega))
		for i, v := range omega {
			single[i] = float32(v)
		}
		g := &weights{grid, norm.Directed(), single}
		type place struct{ x, y int }
		rows := map[place]map[place]float32{}
		for y := range h {
			for x := range w {
				row := map[place]float32{}
				for _, v := range g.at(x, y) {
					row[place{x + v.DX, y + v.DY}] = v.Value
				}
				rows[place{x, y}] = row
			}
		}
		if n := len(rows[place{4, 3}]); n != 24 {
			t.Fatalf("normalisation %v: %d neighbours, expected 24", norm, n)
		}
		if n := len(rows[place{0, 0}]); n != 8 {
			t.Fatalf("normalisation %v: %d neighbours of the corner, expected 8", norm, n)
		}
		x, y := make([]float64, grid.PlaneLen), make([]float64, grid.PlaneLen)
		for jy := range h {
			for jx := range w {
				clear(x)
				x[grid.Base+jy*grid.Stride+jx] = 1
				ws.Apply(y, omega, x)
				for iy := range h {
					for ix := range w {
						if ix == jx && iy == jy {
							continue
						}
						want := -y[grid.Base+iy*grid.Stride+ix]
						if got := float64(rows[place{ix, iy}][place{jx, jy}]); math.Abs(got-want) > 1e-6 {
							t.Fatalf("normalisation %v: weight of (%d,%d) at (%d,%d) is %v, expected %v", norm, jx, jy, ix, iy, got, want)
						}
					}
				}
			}
		}
	}
}

func TestNeighbours(t *testing.T) {
	for _, c := range []struct {
		row  []float32
		want float64
	}{{[]float32{2, 2, 2, 2}, 4}, {[]float32{0, 5, 0}, 1}, {[]float32{1, 1, 0}, 2}, {[]float32{0, 0}, 0}, {nil, 0}} {
		var row []Weight
		for _, v := range c.row {
			row = append(row, Weight{Value: v})
		}
		if got := neighbours(Shares(row)); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v: %v neighbours, expected %v", c.row, got, c.want)
		}
	}
}

// Coefficients are the parameters of the block and head asked for.
func TestCoefficients(t *testing.T) {
	net := network(t, model.Config{Preset: "tiny", CGLayers: 2})
	cfg := net.Config()
	set := func(name string, f func(i int) float32) {
		p := net.Params().Get(name)
		for i := range p.Data {
			p.Data[i] = f(i)
		}
	}
	set("block1.alpha", func(i int) float32 { return float32(i) })
	set("block1.slope", func(i int) float32 { return float32(i) - 2 })
	set("block1.color", func(i int) float32 { return []float32{1, 0, 0, 0, 2, 0, 0, 0, 4}[i%9] + float32(i/9) })
	c := headCoefficients(net, 1, 1)
	if len(c.Alpha) != 2 || len(c.Alpha[0]) != cfg.CGSteps {
		t.Fatalf("alpha: %v", c.Alpha)
	}
	if got, want := c.Alpha[1][2], float64(2*cfg.CGSteps+cfg.CGSteps+2); got != want {
		t.Errorf("alpha of head 2, layer 2, step 3 is %v, expected %v", got, want)
	}
	if want := []float64{math.Log(1 + math.Exp(0)), math.Log(1+math.Exp(1)) / 4}; math.Abs(c.Slope[0]-want[0])+math.Abs(c.Slope[1]-want[1]) > 1e-12 {
		t.Errorf("strengths %v, expected %v", c.Slope, want)
	}
	if !slices.Equal(c.T, []float64{2, 1, 1, 1, 3, 1, 1, 1, 5}) {
		t.Errorf("T is %v", c.T)
	}
	// Q_RG = (2*1 + 1*3 + 1*1) / (|(2,1,1)| |(1,3,1)|).
	if want := 6 / math.Sqrt(6*11); math.Abs(c.Q[1]-want) > 1e-9 || math.Abs(c.Q[0]-1) > 1e-9 || c.Q[1] != c.Q[3] {
		t.Errorf("Q is %v, expected 1 on the diagonal and %v for R, G", c.Q, want)
	}
	if c.P != nil || coefficients(net, 1).Gamma != nil {
		t.Error("uglr has neither p nor gamma")
	}
	for _, typ := range []string{"ugpl", "ugtv"} {
		if !slices.Contains(model.Types, typ) {
			continue
		}
		n := network(t, model.Config{Type: typ, Preset: "tiny"})
		switch cfg := n.Config(); typ {
		case "ugpl":
			if p := headCoefficients(n, 0, 0).P; len(p) != 1 || math.Abs(p[0]-cfg.P) > 1e-5 {
				t.Errorf("p is %v, expected its start %v", p, cfg.P)
			}
		case "ugtv":
			if g := coefficients(n, 0).Gamma; len(g) != cfg.CGLayers || math.Abs(g[0]-cfg.Gamma) > 1e-4 {
				t.Errorf("gamma is %v, expected %d of %v", g, cfg.CGLayers, cfg.Gamma)
			}
		}
	}
}

// A mosaic of another phase is cut where the one of training begins.
func TestPhase(t *testing.T) {
	net := network(t, model.Config{Preset: "tiny"})
	for pattern, at := range map[string]image.Point{"rggb": {0, 0}, "grbg": {1, 0}, "gbrg": {0, 1}, "bggr": {1, 1}} {
		in := degraded(data.Degradation{Task: data.Demosaic, Pattern: pattern}, 3, 24, 30)
		r := explained(t, net, demosaic, in, Options{})
		if r.Window.Min != at {
			t.Errorf("%s: window %v, expected it to begin at %v", pattern, r.Window, at)
		}
		h, w := r.Size()
		want, err := data.BayerMask("rggb", 3, h, w)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(want, r.Mask) {
			t.Errorf("%s: the mask of the window is not that of rggb", pattern)
		}
		r = explained(t, net, demosaic, in, Options{Crop: image.Rect(5, 5, 17, 19)})
		if (r.Window.Min.X-at.X)%2 != 0 || (r.Window.Min.Y-at.Y)%2 != 0 || len(r.Notes) == 0 && r.Window.Min != image.Pt(5, 5) {
			t.Errorf("%s: window %v, notes %q", pattern, r.Window, r.Notes)
		}
	}
	bad := degraded(fill, 3, 24, 30)
	if _, err := Explain(context.Background(), net, demosaic, bad, Options{}); err == nil || !strings.Contains(err.Error(), "no Bayer mosaic") {
		t.Errorf("random mask: %v", err)
	}
}

// A network of three channels sees gray as three; one of one channel sees green.
func TestOtherChannels(t *testing.T) {
	gray := degraded(fill, 1, 24, 24)
	r := explained(t, network(t, model.Config{Preset: "tiny"}), fill, gray, Options{})
	if r.C != 1 || len(r.last().Image) != 24*24 || len(r.Notes) != 1 {
		t.Errorf("gray through three channels: %d channels, notes %q", r.C, r.Notes)
	}
	colour := degraded(fill, 3, 24, 24)
	r = explained(t, network(t, model.Config{Preset: "tiny", Channels: 1}), fill, colour, Options{})
	if r.C != 1 || !slices.Equal(r.Original, colour.Original[24*24:2*24*24]) || len(r.Notes) != 1 {
		t.Errorf("colour through one channel: %d channels, notes %q", r.C, r.Notes)
	}
}

// The default part of an image with few holes is where they are.
func TestBusiest(t *testing.T) {
	const h, w = 300, 700
	in := Input{Y: make([]float32, h*w), Mask: make([]float32, h*w), C: 1, H: h, W: w, Whole: image.Pt(w, h)}
	for i := range in.Mask {
		in.Mask[i] = 1
	}
	in.Mask[20*w+30] = 0
	got, err := window(image.Pt(w, h), image.Rectangle{}, 2, image.Point{}, &in)
	if err != nil || !image.Pt(30, 20).In(got) {
		t.Errorf("window %v, %v, expected it to hold (30,20)", got, err)
	}
	in.Mask[h/2*w+w/2] = 0
	if got, _ = window(image.Pt(w, h), image.Rectangle{}, 2, image.Point{}, &in); got != image.Rect(222, 22, 478, 278) {
		t.Errorf("window %v, expected the middle", got)
	}
}

func TestErrors(t *testing.T) {
	net := network(t, model.Config{Preset: "tiny"})
	in := degraded(fill, 3, 40, 50)
	for name, c := range map[string]struct {
		change func(*Input, *Options)
		want   string
	}{
		"pixel outside the image": {func(_ *Input, o *Options) { o.Pixels = []image.Point{{50, 3}} }, "pixel: found 50,3, expected one inside the image of 50x40"},
		"pixel outside the crop": {func(_ *Input, o *Options) {
			o.Pixels, o.Crop = []image.Point{{1, 1}}, image.Rect(10, 10, 30, 30)
		}, "columns 10 to 29 and rows 10 to 29"},
		"crop outside": {func(_ *Input, o *Options) { o.Crop = image.Rect(40, 0, 60, 20) }, "crop: found 20x20 at 40,0, expected a part of the image of 50x40"},
		"crop small":   {func(_ *Input, o *Options) { o.Crop = image.Rect(4, 4, 8, 30) }, "at least 8x8"},
		"NaN": {func(in *Input, _ *Options) {
			in.Y = slices.Clone(in.Y)
			in.Y[slices.Index(in.Mask, 1)] = float32(math.NaN())
		}, "expected a finite number"},
		"mask":          {func(in *Input, _ *Options) { in.Mask = slices.Clone(in.Mask); in.Mask[5] = .5 }, "mask: found 0.5 at element 5"},
		"length":        {func(in *Input, _ *Options) { in.Y = in.Y[1:] }, "expected 6000 each"},
		"nothing known": {func(in *Input, _ *Options) { in.Mask = make([]float32, len(in.Mask)) }, "found no sample"},
	} {
		in, opt := in, Options{Workers: 1}
		c.change(&in, &opt)
		if _, err := Explain(context.Background(), net, fill, in, opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Explain(ctx, net, fill, in, Options{Workers: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if slices.Contains(model.Types, "swin") {
		var unsupported *UnsupportedError
		if _, err := Explain(ctx, network(t, model.Config{Type: "swin", Preset: "tiny"}), fill, in, Options{}); !errors.As(err, &unsupported) {
			t.Errorf("swin: %v, expected an UnsupportedError", err)
		}
	}
}

// The page is well-formed, every picture it shows is there and shown, with a
// text for those who cannot see it, and a second run gives the same bytes.
func TestPage(t *testing.T) {
	for _, cfg := range graphConfigs(t) {
		net := network(t, cfg)
		in := degraded(demosaic, 3, 40, 44)
		dirs := []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")}
		for i, dir := range dirs {
			opt := Options{}
			if i == 1 {
				opt.Workers = 1
			}
			r := explained(t, net, demosaic, in, opt)
			r.Model, r.Command = "a <model>", "unrollnet 'a & b'"
			if err := r.Write(dir, false); err != nil {
				t.Fatal(err)
			}
		}
		entries, err := os.ReadDir(dirs[0])
		if err != nil {
			t.Fatal(err)
		}
		shown := map[string]bool{}
		for _, e := range entries {
			a, err := os.ReadFile(filepath.Join(dirs[0], e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dirs[1], e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a, b) {
				t.Errorf("%s: two runs differ", e.Name())
			}
			if !ours.MatchString(e.Name()) {
				t.Errorf("%s: not a name CheckDir knows", e.Name())
			}
			if e.Name() != "index.html" {
				continue
			}
			dec := xml.NewDecoder(bytes.NewReader(a))
			dec.Strict = true
			for {
				tok, err := dec.Token()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("index.html: %v", err)
				}
				s, ok := tok.(xml.StartElement)
				if !ok || s.Name.Local != "img" {
					continue
				}
				attr := map[string]string{}
				for _, v := range s.Attr {
					attr[v.Name.Local] = v.Value
				}
				if attr["alt"] == "" {
					t.Errorf("%s has no alt text", attr["src"])
				}
				shown[attr["src"]] = true
			}
			if bytes.Contains(a, []byte("ZgotmplZ")) || bytes.Contains(a, []byte("http")) {
				t.Error("index.html: a value was refused by the template, or the page refers to the outside")
			}
		}
		for _, e := range entries {
			if e.Name() != "index.html" && !shown[e.Name()] {
				t.Errorf("%s is not on the page", e.Name())
			}
			delete(shown, e.Name())
		}
		for name := range shown {
			t.Errorf("the page shows %s, which is not there", name)
		}
	}
}

// A folder of other things is never replaced, an earlier page only when asked to.
func TestWriteKeepsFolders(t *testing.T) {
	r := explained(t, network(t, model.Config{Preset: "tiny"}), fill, degraded(fill, 3, 24, 24), Options{})
	dir := filepath.Join(t.TempDir(), "page")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var bad *DirError
	if err := r.Write(dir, false); err != nil {
		t.Fatalf("empty folder: %v", err)
	}
	if err := r.Write(dir, false); !errors.As(err, &bad) {
		t.Errorf("earlier page: %v, expected a DirError", err)
	}
	if err := r.Write(dir, true); err != nil {
		t.Errorf("earlier page, overwrite: %v", err)
	}
	note := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(note, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(dir, true); !errors.As(err, &bad) || !strings.Contains(err.Error(), "notes.txt") {
		t.Errorf("folder with notes: %v", err)
	}
	if b, err := os.ReadFile(note); err != nil || string(b) != "mine" {
		t.Errorf("notes: %q, %v", b, err)
	}
	if err := r.Write(filepath.Join(dir, "none", "page"), false); !errors.As(err, &bad) {
		t.Errorf("no parent: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
