package explain

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"path/filepath"

	"github.com/unrollnet/unrollnet/pkg/model"
)

//go:embed look.html
var lookHTML string

//go:embed look.css
var lookCSS string

var lookTemplate = template.Must(template.New("look").Parse(lookHTML))

// AttentionPage is what a vision transformer looks at in one image.
type AttentionPage struct {
	Type    string
	Params  int
	C, H, W int       // of the image
	Pix     []float32 // (C,H,W): the image as the network saw it

	Rows, Cols int  // of the grid of patches
	Own        bool // the network has a token of its own that it classifies by
	Patch      int  // the patch whose weights are shown, in reading order
	Layers     [][]AttentionMap
	Diagnostics

	// Set by the caller, none needed.
	Classes                        []Class // the likeliest, first
	Model, Image, Command, Version string
}

// Class is a class and its probability.
type Class struct {
	Name string
	P    float64
}

// AttentionMap is what one head of one layer looks at: shares of patches, (Rows,Cols).
type AttentionMap struct {
	// Summary is the row of the network's own token or, without one, the mean over
	// all patches of the share that each patch is given.
	Summary []float64
	Patch   []float64 // the row of the chosen patch
	Rest    float64   // the share of Patch that goes to the network's own token
}

// CheckAttention says, before any work, whether Look could show a network and a
// patch (-1 for one that Look chooses).
func CheckAttention(name string, net model.Classifier, patch int) error {
	if _, ok := model.AttentionOf(net, 0); !ok {
		return &NoAttentionError{name, net.Config().Type}
	}
	if rows, cols := grid(net); patch >= rows*cols {
		return placef("token", fmt.Sprint(patch), "0 to %d, the patches of %dx%d in reading order", rows*cols-1, cols, rows)
	}
	return nil
}

// grid returns the rows and columns of patches of a vision transformer.
func grid(net model.Classifier) (rows, cols int) {
	t := net.Config().Plat
	return t.Image[0] / t.Patch[0], t.Image[1] / t.Patch[1]
}

// Look runs a vision transformer over one image x (C,H,W) and reports where its
// attention goes. patch is the patch whose weights are reported, in reading order;
// -1 chooses the one whose samples differ most (largest variance).
func Look(ctx context.Context, net model.Classifier, x []float32, patch, workers int) (*AttentionPage, error) {
	if err := CheckAttention(net.Config().Type, net, patch); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	w, err := newWatcher(net, workers, len(x))
	if err != nil {
		return nil, err
	}
	defer w.vm.Close()
	if err := w.run(x); err != nil {
		return nil, err
	}
	cfg := net.Config()
	p := &AttentionPage{Type: cfg.Type, Params: net.Params().Count(), Pix: append([]float32(nil), x...), Own: cfg.Plat.Pool == "token", Patch: patch, Diagnostics: *w.diagnose()}
	p.C, p.H, p.W = net.Input()
	p.Rows, p.Cols = grid(net)
	if patch < 0 {
		p.Patch = p.busiest()
	}
	first := w.tokens - p.Rows*p.Cols // patches follow the network's own token
	for l := range w.layers {
		var maps []AttentionMap
		for h := range w.heads {
			all := w.weights(l, h)
			n := w.tokens
			row := all[(first+p.Patch)*n:][:n]
			m := AttentionMap{Patch: append([]float64(nil), row[first:]...)}
			for _, v := range row[:first] {
				m.Rest += v
			}
			if p.Own {
				m.Summary = append([]float64(nil), all[first:n]...)
			} else {
				m.Summary = make([]float64, n)
				for i := range n {
					for j := range n {
						m.Summary[j] += all[i*n+j] / float64(n)
					}
				}
			}
			maps = append(maps, m)
		}
		p.Layers = append(p.Layers, maps)
	}
	return p, nil
}

// busiest returns the patch whose samples have the largest variance.
func (p *AttentionPage) busiest() int {
	best, most := 0, -1.
	for k := range p.Rows * p.Cols {
		r := p.area(k)
		var n, sum, squares float64
		for c := range p.C {
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for x := r.Min.X; x < r.Max.X; x++ {
					v := float64(p.Pix[(c*p.H+y)*p.W+x])
					n, sum, squares = n+1, sum+v, squares+v*v
				}
			}
		}
		if v := squares/n - sum/n*sum/n; v > most+1e-12 {
			best, most = k, v
		}
	}
	return best
}

// area returns the pixels of a patch.
func (p *AttentionPage) area(k int) image.Rectangle {
	h, w := p.H/p.Rows, p.W/p.Cols
	return image.Rect(0, 0, w, h).Add(image.Pt(k%p.Cols*w, k/p.Cols*h))
}

// lookRamp colours shares, from none to the largest of a map.
var lookRamp = wallRamp

// overlay is a map with one pixel a patch, nothing to see through where there is no
// attention and 0.78 of the ramp's colour where it is largest.
func (p *AttentionPage) overlay(shares []float64) image.Image {
	top := 0.
	for _, v := range shares {
		top = max(top, v)
	}
	img := image.NewNRGBA(image.Rect(0, 0, p.Cols, p.Rows))
	for i, v := range shares {
		t := 0.
		if top > 0 {
			t = v / top
		}
		c := lookRamp.at(t)
		img.SetNRGBA(i%p.Cols, i/p.Cols, color.NRGBA{c.R, c.G, c.B, 200})
	}
	return img
}

// inline returns a picture as a data URL.
func inline(img image.Image) (template.URL, error) {
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img); err != nil {
		return "", err
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())), nil
}

// gray returns the image without colour, under which maps read better.
func (p *AttentionPage) gray() image.Image {
	img := image.NewGray(image.Rect(0, 0, p.W, p.H))
	n := p.H * p.W
	for i := range n {
		v := float64(p.Pix[i])
		if p.C == 3 {
			v = .299*v + .587*float64(p.Pix[n+i]) + .114*float64(p.Pix[2*n+i])
		}
		img.Pix[i] = level(v)
	}
	return img
}

type lookMap struct {
	Overlay       template.URL
	Alt           string
	Top, Own, Far string
}

type lookHead struct {
	Head           headView
	P              string
	Summary, Patch lookMap
	Self, Spread   string
}

type lookLayer struct {
	Number int
	Cosine string
	Heads  []lookHead
}

type lookPage struct {
	*AttentionPage
	CSS                    template.CSS
	Generator, Title       string
	Photo, Gray            template.URL
	GrayCSS                template.CSS
	Aspect                 template.CSS
	Frame                  template.CSS
	Scale                  template.CSS
	Smooth                 bool
	PatchRow, PatchCol, N  int
	Alike                  string
	Views                  []lookLayer
	HeadNames              []headView
	ClassChart             template.HTML
	Cosines, Selves, Reach template.HTML
	PText                  string
	Last                   int
}

// Write makes the folder dir with the page index.html, which needs no other file.
// See CheckDir for what may be there before. The same page gives the same bytes.
func (p *AttentionPage) Write(dir string, overwrite bool) error {
	return replace(dir, overwrite, func(temp string) error {
		return writeFile(filepath.Join(temp, "index.html"), p.page)
	})
}

func shareText(v float64) string {
	if v > 0 && v < .0005 {
		return "<\u00a00.1\u00a0%" // no line break inside
	}
	return fmt.Sprintf("%.1f\u00a0%%", 100*v)
}

func (p *AttentionPage) page(w io.Writer) error {
	name := p.Model
	if name == "" {
		name = "a " + p.Type + " network"
	}
	v := lookPage{
		AttentionPage: p, CSS: template.CSS(pageCSS + lookCSS), Generator: generator, Title: "What " + filepath.Base(name) + " looks at",
		PatchRow: p.Patch / p.Cols, PatchCol: p.Patch % p.Cols, N: p.Rows * p.Cols, Smooth: max(p.H, p.W) > 96, Scale: template.CSS(lookRamp.css()),
		Aspect: template.CSS(fmt.Sprintf("aspect-ratio: %d / %d", p.W, p.H)), Alike: shareText(1 / float64(p.Tokens)), Last: len(p.Layers),
	}
	v.Frame = template.CSS(fmt.Sprintf("left: %.4f%%; top: %.4f%%; width: %.4f%%; height: %.4f%%",
		100*float64(v.PatchCol)/float64(p.Cols), 100*float64(v.PatchRow)/float64(p.Rows), 100/float64(p.Cols), 100/float64(p.Rows)))
	var err error
	if v.Photo, err = inline(photo(p.Pix, p.C, p.H, p.W)); err != nil {
		return err
	}
	if v.Gray, err = inline(p.gray()); err != nil {
		return err
	}
	v.GrayCSS = template.CSS(fmt.Sprintf(".map { background-image: url(%s); %s }", v.Gray, v.Aspect))
	for k := range p.Layers[0] {
		v.HeadNames = append(v.HeadNames, headView{k + 1, template.CSS(hex(headColour(k)))})
	}
	for l, maps := range p.Layers {
		layer := lookLayer{Number: l + 1, Cosine: figure(float64(p.Diagnostics.Layers[l].Cosine))}
		for h, m := range maps {
			d := p.Diagnostics.Layers[l].Heads[h]
			head := lookHead{Head: v.HeadNames[h], P: figure(d.P), Self: shareText(d.Self), Spread: figure(math.Exp(d.Entropy))}
			for _, one := range []struct {
				to     *lookMap
				shares []float64
				what   string
			}{{&head.Summary, m.Summary, "attention of the whole"}, {&head.Patch, m.Patch, "attention of the chosen patch"}} {
				url, err := inline(p.overlay(one.shares))
				if err != nil {
					return err
				}
				at, top := 0, 0.
				for i, s := range one.shares {
					if s > top {
						at, top = i, s
					}
				}
				*one.to = lookMap{Overlay: url, Top: shareText(top),
					Alt: fmt.Sprintf("Layer %d, head %d: %s, most (%s) to row %d, column %d", l+1, h+1, one.what, shareText(top), at/p.Cols, at%p.Cols)}
			}
			head.Patch.Own, head.Patch.Far = shareText(m.Patch[p.Patch]), shareText(m.Rest)
			layer.Heads = append(layer.Heads, head)
		}
		v.Views = append(v.Views, layer)
	}
	if len(p.Classes) > 0 {
		v.ClassChart = classChart(p.Classes)
	}
	v.charts()
	return lookTemplate.Execute(w, v)
}

// charts draws the diagnostics from layer to layer.
func (v *lookPage) charts() {
	p := v.AttentionPage
	names := []string{"start"}
	cosine := []float64{float64(p.Embedding)}
	heads := len(p.Layers[0])
	self, reach := make([][]float64, heads), make([][]float64, heads)
	same := true
	for l, layer := range p.Diagnostics.Layers {
		names = append(names, fmt.Sprint(l+1))
		cosine = append(cosine, float64(layer.Cosine))
		for h, d := range layer.Heads {
			self[h] = append(self[h], d.Self)
			reach[h] = append(reach[h], math.Exp(d.Entropy))
			same = same && d.P == p.Diagnostics.Layers[0].Heads[0].P
		}
	}
	v.Cosines = layerChart("Mean pairwise cosine of the tokens after each layer", names, [][]float64{cosine})
	v.Selves = layerChart("Mean share a token gives itself, by layer and head", names[1:], self)
	v.Reach = layerChart("How many tokens a token really looks at, by layer and head", names[1:], reach)
	switch one := p.Diagnostics.Layers[0].Heads[0].P; {
	case same && one == 2:
		v.PText = "Here p is 2 everywhere: ordinary (softmax) attention."
	case same:
		v.PText = fmt.Sprintf("Here p is %s everywhere.", figure(one))
	default:
		v.PText = "Here heads differ: p is written beside each of them."
	}
}

// layerChart draws curves over layers, one for each head.
func layerChart(title string, names []string, curves [][]float64) template.HTML {
	lo, hi := 0., 0.
	for _, c := range curves {
		for _, v := range c {
			if math.IsNaN(v) {
				return ""
			}
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	step := nice((hi - lo) / 4)
	lo, hi = math.Floor(lo/step)*step, math.Ceil(hi/step)*step
	if hi == lo {
		hi = lo + step
	}
	const width, height, left, right, top, bottom = 360, 200, 50, 14, 12, 40
	s := newSVG(width, height, title)
	y := func(v float64) float64 { return top + (height-top-bottom)*(hi-v)/(hi-lo) }
	for v := lo; v <= hi+step/2; v += step {
		s.line(left, y(v), width-right, y(v), "grid")
		s.text(left-6, y(v)+4, "end", "tick", n(v))
	}
	x := func(i int) float64 {
		return left + 14 + float64(width-left-right-28)*float64(i)/float64(max(len(names)-1, 1))
	}
	for i, name := range names {
		if len(names) <= 14 || i%4 == 0 {
			s.text(x(i), height-22, "middle", "tick", name)
		}
	}
	s.text((left+width-right)/2, height-6, "middle", "tick", "layer")
	for h, c := range curves {
		var xs, ys []float64
		for i, v := range c {
			xs, ys = append(xs, x(i)), append(ys, y(v))
		}
		s.curve(xs, ys, headColour(h), false)
	}
	return s.end()
}

// classChart draws probabilities as bars.
func classChart(classes []Class) template.HTML {
	const row, left, width = 28, 150, 460
	s := newSVG(width, row*len(classes)+2, "How likely the network finds each class")
	for i, c := range classes {
		y, name := float64(i*row), []rune(c.Name)
		if len(name) > 20 {
			name = append(name[:19:19], '…')
		}
		s.text(left-10, y+18, "end", "value", string(name))
		long := c.P * (width - left - 70)
		s.rect(left, y+5, max(long, 1), row-11, hex(headColour(0)))
		s.text(left+long+8, y+18, "start", "tick", shareText(c.P))
	}
	return s.end()
}
