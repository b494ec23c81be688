package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/explain"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// explanation is what interpolate --explain asks for.
type explanation struct {
	dir    string
	crop   string
	pixels []string

	rect   image.Rectangle
	points []image.Point
}

func (e *explanation) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&e.dir, "explain", "", "also write a page `DIR`/index.html that shows what the network does with one image")
	f.StringArrayVar(&e.pixels, "explain-pixel", nil, "pixel `X,Y` of the result whose weights the page shows; may be repeated (default: a few chosen)")
	f.StringVar(&e.crop, "explain-crop", "", fmt.Sprintf("part `X,Y,W,H` of the result that the page shows (default: %d by %d in the middle)", explain.DefaultSide, explain.DefaultSide))
}

// maxExplainPixels bounds the size of a page.
const maxExplainPixels = 16

// check reads the flags and looks at the folder.
func (e *explanation) check(overwrite, skipExisting bool) error {
	if e.dir == "" {
		switch {
		case len(e.pixels) > 0:
			return usagef("--explain-pixel: found without --explain, expected with it")
		case e.crop != "":
			return usagef("--explain-crop: found without --explain, expected with it")
		}
		return nil
	}
	if skipExisting {
		return usagef("--explain: found beside --skip-existing, expected one of them")
	}
	if len(e.pixels) > maxExplainPixels {
		return usagef("--explain-pixel: found %d, expected at most %d", len(e.pixels), maxExplainPixels)
	}
	for _, s := range e.pixels {
		v, ok := numbers(s, 2)
		if !ok {
			return usagef("--explain-pixel: found %q, expected X,Y, such as 120,88", s)
		}
		e.points = append(e.points, image.Pt(v[0], v[1]))
	}
	if e.crop != "" {
		v, ok := numbers(e.crop, 4)
		if !ok || v[2] == 0 || v[3] == 0 {
			return usagef("--explain-crop: found %q, expected X,Y,W,H, such as 100,50,256,256", e.crop)
		}
		e.rect = image.Rect(v[0], v[1], v[0]+v[2], v[1]+v[3])
	}
	return explainError(explain.CheckDir(e.dir, overwrite))
}

// numbers reads n numbers, 0 or more, between commas.
func numbers(s string, n int) ([]int, bool) {
	parts := strings.Split(s, ",")
	if len(parts) != n {
		return nil, false
	}
	out := make([]int, n)
	for i, p := range parts {
		v, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil || v < 0 || v > 1<<30 {
			return nil, false
		}
		out[i] = v
	}
	return out, true
}

// explainError gives what is wrong with the flags its exit code.
func explainError(err error) error {
	var dir *explain.DirError
	var unsupported *explain.UnsupportedError
	var attention *explain.NoAttentionError
	switch {
	case errors.As(err, &dir):
		return usagef("--explain %s", err)
	case errors.As(err, &unsupported), errors.As(err, &attention):
		return usagef("--explain: %s", err)
	}
	return err
}

// explainable refuses what has no graphs, before any work.
func explainable(r *infer.Restorer) error {
	if r.Network == nil {
		return explainError(&explain.UnsupportedError{Name: r.Name, Found: "a classical method"})
	}
	if cfg := r.Network.Model().Config(); !explain.Explains(cfg) {
		return explainError(&explain.UnsupportedError{Name: r.Name, Found: "type " + cfg.Type})
	}
	return nil
}

// explained runs the network over a part of img and reports what it did; nil
// where no page was asked for.
func (p *interpolation) explained(ctx context.Context, r *infer.Restorer, img *imageio.Image, taskName string, scale int, in string) (*explain.Report, error) {
	e := &p.explain
	if e.dir == "" {
		return nil, nil
	}
	if err := explainable(r); err != nil {
		return nil, err
	}
	net, trained := r.Network.Model(), r.Network.Trained()
	opt := explain.Options{Crop: e.rect, Pixels: e.points, Workers: p.options.Workers}
	if opt.Workers == 0 {
		opt.Workers = runtime.GOMAXPROCS(0)
	}
	var input explain.Input
	var err error
	switch {
	case p.simulate && p.options.Linear:
		return nil, usagef("--linear: found beside --explain and --simulate, expected two of the three")
	case p.simulate:
		input, err = p.degraded(r, img, taskName, scale)
	case taskName == data.Scale:
		// Only the part that is shown is made larger.
		if opt.Crop, err = explain.Window(net, trained, scale*img.W, scale*img.H, e.rect); err != nil {
			return nil, explainFlag(err)
		}
		c := opt.Crop
		part := cropImage(img, image.Rect(c.Min.X/scale, c.Min.Y/scale, (c.Max.X+scale-1)/scale, (c.Max.Y+scale-1)/scale))
		input.Y, input.Mask, input.C, input.H, input.W, err = r.Samples(part, infer.ImageOptions{Scale: scale, Options: infer.Options{Linear: p.options.Linear}})
		input.Origin, input.Whole = c.Min, image.Pt(scale*img.W, scale*img.H)
	default:
		o := infer.ImageOptions{Mask: p.mask, Pattern: strings.ToLower(p.flags.pattern), Options: infer.Options{Linear: p.options.Linear}}
		input.Y, input.Mask, input.C, input.H, input.W, err = r.Samples(img, o)
	}
	if err != nil {
		return nil, inputError(in, err)
	}
	rep, err := explain.Explain(ctx, net, trained, input, opt)
	if err != nil {
		return nil, explainFlag(err)
	}
	rep.Model, rep.Command = r.Name, commandLine()
	rep.Version = fmt.Sprintf("unrollnet %s, %s, %s kernels", versionOf(), runtime.Version(), kernel.Active())
	return rep, nil
}

// commandLine is what was typed, quoted where a shell needs it.
func commandLine() string {
	out := "unrollnet"
	for _, arg := range os.Args[1:] {
		if arg == "" || strings.ContainsAny(arg, " \t\n'\"\\$*?[](){}<>|&;#~`!") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		out += " " + arg
	}
	return out
}

// degraded takes samples from a complete image.
func (p *interpolation) degraded(r *infer.Restorer, img *imageio.Image, taskName string, scale int) (in explain.Input, err error) {
	flags := p.flags
	if taskName == data.Scale {
		flags.scale = scale
	}
	deg, err := flags.degradation(taskName)
	if err != nil {
		return in, err
	}
	if t := r.Network.Trained().Scale; taskName == data.Scale && t != 0 && t != scale {
		return in, fmt.Errorf("scale: found %d, expected %d, which %s was trained for", scale, t, r.Name)
	}
	in.Y, in.Mask, in.C, err = infer.Degrade(img, deg, p.flags.seed)
	in.Original, in.H, in.W = img.Pix, img.H, img.W
	if in.C == 3 {
		in.Original = img.RGB().Pix
	}
	return in, err
}

// explainFlag names the flag that a part or pixel outside the image came from.
func explainFlag(err error) error {
	var flag *explain.PlaceError
	if errors.As(err, &flag) {
		return usagef("--explain-%s", err)
	}
	return explainError(err)
}

// cropImage returns a part of an image, without its transparency.
func cropImage(img *imageio.Image, r image.Rectangle) *imageio.Image {
	out := imageio.New(img.C, r.Dy(), r.Dx())
	out.ICC = img.ICC
	for c := range img.C {
		for y := range r.Dy() {
			copy(out.Pix[(c*r.Dy()+y)*r.Dx():][:r.Dx()], img.Pix[(c*img.H+r.Min.Y+y)*img.W+r.Min.X:])
		}
	}
	return out
}

// writeExplanation writes the page.
func (p *interpolation) writeExplanation(rep *explain.Report, bar *progress) error {
	if rep == nil {
		return nil
	}
	if err := rep.Write(p.explain.dir, p.overwrite); err != nil {
		return &outputError{explainError(err)}
	}
	if !p.quiet {
		h, w := rep.Size()
		bar.line(p.app, "%s: what %s does with %dx%d pixels", filepath.Join(p.explain.dir, "index.html"), rep.Model, w, h)
	}
	return nil
}
