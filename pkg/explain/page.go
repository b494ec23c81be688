package explain

import (
	_ "embed"
	"fmt"
	"html/template"
	"image"
	"io"
	"math"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// page is what the template is filled from.
type page struct {
	*Report
	CSS        template.CSS
	Generator  string
	Title      string
	Size       string
	WholeSize  string
	IsCrop     bool
	Where      string
	KnownText  string
	Neighbours int
	Alike      string // the share of each where all count alike
	HasScore   bool
	Reader     string // what there is to restore, in a sentence

	StripStages []figureView
	StartScore  string
	EndScore    string
	EndSSIM     string
	ScoreChart  template.HTML

	Pixel      []pixelView
	Block      []blockView
	Walls      []pixelRow // one for each head
	WallScale  template.CSS
	HeadNames  []headView
	Mixed      bool
	ErrorGain  string
	Coupled    bool
	Sloped     bool
	Powered    bool
	HasGamma   bool
	DetailText string
	Kept       string // what became of the samples

	InitialError figureView
}

type figureView struct{ File, Alt, Caption, Score string }

type headView struct {
	Number int
	Colour template.CSS
}

type pixelView struct {
	Name, Why string
	Open      bool
	Place     figureView
	Rows      []pixelRow // one for each head
}

type pixelRow struct {
	Head headView
	Figs []figureView // one for each block
}

type blockView struct {
	Number                 int
	Last                   bool
	Picture, Change, Error figureView
	Heads                  []blockHead
	Mixing                 *figureView
	Steps                  template.HTML
	Gamma                  template.HTML
	Mix, Skip              string
}

type blockHead struct {
	Head               headView
	Directions         figureView
	T, Q, Slope, Power template.HTML
	Mixtures           []string
	Score              string
}

var whys = map[string]string{
	"edge":    "on a strong edge",
	"texture": "in fine texture",
	"flat":    "in a smooth area",
	"asked":   "as asked for",
}

var readers = map[string]string{
	"demosaic": "A camera sensor measures one colour at each pixel: red, green or blue, in a fixed pattern. The two others are missing everywhere, two thirds of the picture.",
	"scale":    "The samples are the pixels of a smaller picture, spread out on a grid. Every row and column between them is missing.",
	"fill":     "Some pixels have been lost altogether, in all colours; they are dark here.",
}

// page writes index.html.
func (r *Report) page(w io.Writer, pictures []Picture) error {
	alt := map[string]string{}
	for _, p := range pictures {
		alt[p.Name] = p.Alt
	}
	fig := func(file, caption string) figureView { return figureView{File: file, Alt: alt[file], Caption: caption} }
	head := func(k int) headView { return headView{k + 1, template.CSS(hex(headColour(k)))} }

	name := r.Model
	if name == "" {
		name = "a " + r.Type + " network"
	}
	p := page{
		Report: r, CSS: template.CSS(pageCSS), Generator: generator,
		Title: "What " + name + " sees", Size: fmt.Sprintf("%d × %d", r.Window.Dx(), r.Window.Dy()),
		WholeSize: fmt.Sprintf("%d × %d", r.Whole.X, r.Whole.Y),
		IsCrop:    r.Window != (image.Rectangle{Max: r.Whole}), Where: r.where(),
		KnownText: fmt.Sprintf("%.1f %%", 100*r.Known), Neighbours: int(r.most()), Alike: fmt.Sprintf("%.1f %%", 100/r.most()),
		Reader: readers[r.Task], WallScale: template.CSS(wallRamp.css()),
		HasScore: r.Original != nil && !math.IsNaN(r.Initial.PSNR),
	}
	p.DetailText = fmt.Sprintf("%d × %d", r.Detail.Dx(), r.Detail.Dy())
	if p.HasScore {
		p.StartScore, p.EndScore = decibels(r.Initial.PSNR), decibels(r.last().PSNR)
		if v := r.last().SSIM; !math.IsNaN(v) {
			p.EndSSIM = fmt.Sprintf("%.4f", v)
		}
		p.ErrorGain = figureGain(r.errorGain())
		p.ScoreChart = r.scoreChart()
	}
	if r.Original != nil {
		p.InitialError = fig("4-initial-error.png", "What is wrong with it, × "+figureGain(r.errorGain())+" around gray.")
	}
	p.Kept = "Every sample the network was given is still there, unchanged; all between them was found by listening to neighbours."
	if d := r.moved(); d > 0 {
		p.Kept = fmt.Sprintf("This network may also change the samples it was given, here by up to %.3f of the range from black to white; all between them was found by listening to neighbours.", d)
	}
	scored := func(f figureView, v float64) figureView {
		if !math.IsNaN(v) {
			f.Score = decibels(v)
		}
		return f
	}
	p.StripStages = append(p.StripStages, fig("1-samples-detail.png", "samples"), scored(fig("2-initial-detail.png", "start"), r.Initial.PSNR))
	for t, b := range r.Blocks {
		p.StripStages = append(p.StripStages, scored(fig(r.file(4, t, -1, "detail"), fmt.Sprintf("block %d", t+1)), b.PSNR))
	}
	if r.Original != nil {
		p.StripStages = append(p.StripStages, fig("1-original-detail.png", "original"))
	}
	for i, q := range r.Pixels {
		at := r.at(q)
		v := pixelView{Name: fmt.Sprintf("(%d, %d)", at.X, at.Y), Why: whys[q.Kind], Open: i == 0,
			Place: fig(fmt.Sprintf("3-pixel-%d-%d.png", at.X, at.Y), "")}
		for k := range r.Blocks[0].Heads {
			row := pixelRow{Head: head(k)}
			for t := range r.Blocks {
				row.Figs = append(row.Figs, fig(r.pixelFile(t, k, q), fmt.Sprintf("block %d", t+1)))
			}
			v.Rows = append(v.Rows, row)
		}
		p.Pixel = append(p.Pixel, v)
	}
	for k := range r.Blocks[0].Heads {
		p.HeadNames = append(p.HeadNames, head(k))
		walls := pixelRow{Head: head(k)}
		for t, b := range r.Blocks {
			var sum float64
			for _, v := range b.Heads[k].Reach {
				sum += float64(v)
			}
			f := fig(r.file(3, t, k, "walls"), fmt.Sprintf("block %d", t+1))
			f.Score = fmt.Sprintf("%.1f neighbours on average", sum/float64(len(b.Heads[k].Reach)))
			walls.Figs = append(walls.Figs, f)
		}
		p.Walls = append(p.Walls, walls)
	}
	// Bars of one kind share their scale.
	mostSlope, mostGamma := 0., 0.
	for _, b := range r.Blocks {
		for _, v := range b.Gamma {
			mostGamma = max(mostGamma, v)
		}
		for _, h := range b.Heads {
			for _, v := range h.Slope {
				mostSlope = max(mostSlope, v)
			}
		}
	}
	for t, b := range r.Blocks {
		v := blockView{Number: t + 1, Last: t == len(r.Blocks)-1, Steps: r.stepChart(t),
			Picture: scored(fig(r.file(4, t, -1, "picture"), "the picture"), b.PSNR),
			Change:  fig(r.file(4, t, -1, "change"), "what it changed, × "+figureGain(r.changeGain(t)))}
		if r.Original != nil {
			v.Error = fig(r.file(4, t, -1, "error"), "what is still wrong, × "+figureGain(r.errorGain()))
		}
		if b.Heads[0].Share != nil {
			f := fig(r.file(3, t, -1, "mixing"), fmt.Sprintf("block %d", t+1))
			v.Mixing, p.Mixed = &f, true
		}
		if b.Gamma != nil {
			p.HasGamma = true
			var names []string
			for l := range b.Gamma {
				names = append(names, fmt.Sprintf("γ layer %d", l+1))
			}
			v.Gamma = barChart(names, b.Gamma, headColour(4), mostGamma, fmt.Sprintf("Penalties of block %d", t+1))
		}
		for k, c := range b.Mix {
			if k > 0 {
				v.Mix += ", "
			}
			v.Mix += figure(c)
		}
		if len(b.Skip) == 1 {
			v.Skip = figure(b.Skip[0])
		}
		for k, h := range b.Heads {
			e := blockHead{Head: head(k), Directions: fig(r.file(3, t, k, "directions"), "")}
			if !math.IsNaN(h.PSNR) {
				e.Score = decibels(h.PSNR)
			}
			if h.T != nil {
				p.Coupled = true
				e.T = matrixChart(h.T, []string{"1", "2", "3"}, fmt.Sprintf("T of block %d, head %d", t+1, k+1))
				e.Q = matrixChart(h.Q, []string{"R", "G", "B"}, fmt.Sprintf("Q of block %d, head %d", t+1, k+1))
				for row := range 3 {
					e.Mixtures = append(e.Mixtures, sayMixture(h.T[3*row:3*row+3]))
				}
			}
			if h.Slope != nil {
				p.Sloped = true
				e.Slope = barChart([]string{"values a₀", "slopes a₁"}, h.Slope, headColour(k), mostSlope, fmt.Sprintf("Strengths of block %d, head %d", t+1, k+1))
			}
			if h.P != nil {
				p.Powered = true
				e.Power = barChart([]string{"power p"}, h.P, headColour(k), 2, fmt.Sprintf("Exponent of block %d, head %d", t+1, k+1))
			}
			v.Heads = append(v.Heads, e)
		}
		p.Block = append(p.Block, v)
	}
	return pageTemplate.Execute(w, p)
}

// moved returns how far the result is from the samples at most.
func (r *Report) moved() (most float64) {
	for i, v := range r.last().Image {
		if r.Mask[i] != 0 {
			most = max(most, math.Abs(float64(v)-float64(r.Samples[i])))
		}
	}
	return most
}

func figureGain(g float64) string { return fmt.Sprintf("%g", g) }
