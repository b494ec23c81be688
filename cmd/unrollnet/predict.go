package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/explain"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// prediction is a run of the command.
type prediction struct {
	app       *app
	model     string
	top       int
	asJSON    bool
	explain   string
	token     int // patch whose weights the page shows, -1 for one chosen
	overwrite bool
}

// predicted is a line of --json.
type predicted struct {
	Input   string              `json:"input"`
	Model   string              `json:"model"`
	Classes []infer.Probability `json:"classes,omitempty"` // all, the likeliest first
	Error   string              `json:"error,omitempty"`
}

func newPredict(a *app) *cobra.Command {
	p := &prediction{app: a, token: -1}
	c := &cobra.Command{
		Use:   "predict IMAGE...",
		Short: "Say what images show, with a trained classifier",
		Long: `Print how likely each class is for each image: one line an image, the likeliest
classes first, or with --json one object with all of them.

Images are PNG, JPEG or TIFF files, folders of them, patterns such as 'in/*.png', or
- for standard input. An image of another size than the network's is scaled until it
covers that size and its middle is taken (cubic filter of Catmull and Rom, which
averages where it shrinks, 8 bits); a network of one channel sees gray. That is what
training does with folders of images. Nothing else is done: a network of white digits
on black expects those.

--explain DIR also writes a page, DIR/index.html, that shows what each head of the
network's attention looks at, for one image and a transformer.`,
		Example: "  unrollnet predict --model runs/mnist-vit/model.safetensors digit.png\n" +
			"  unrollnet predict --model photos.safetensors --top 5 --json holiday/\n" +
			"  unrollnet predict --model photos.safetensors --explain page cat.jpg",
		Args: argCount(1, -1, "at least one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("explain-token") && p.token < 0 {
				return usagef("--explain-token: found %d, expected the number of a patch, 0 or more", p.token)
			}
			return p.run(cmd.Context(), args)
		},
	}
	f := c.Flags()
	f.StringVarP(&p.model, "model", "m", "", "weight `FILE` of a classifier")
	f.IntVar(&p.top, "top", 3, "classes to print of each image")
	f.BoolVar(&p.asJSON, "json", false, "print one JSON object per image, with all classes")
	f.StringVar(&p.explain, "explain", "", "also write a page `DIR`/index.html that shows what the network looks at in one image")
	f.IntVar(&p.token, "explain-token", -1, "patch `N` whose weights the page shows, row by row from 0 (default: the one of most contrast)")
	f.Lookup("explain-token").DefValue = ""
	f.BoolVar(&p.overwrite, "overwrite", false, "replace an earlier page")
	return c
}

// run predicts all inputs, one after the other.
func (p *prediction) run(ctx context.Context, args []string) error {
	switch {
	case p.model == "":
		return usagef("--model: found none, expected the weight file of a classifier")
	case p.top < 1:
		return usagef("--top: found %d, expected at least 1", p.top)
	case p.explain == "" && p.token >= 0:
		return usagef("--explain-token: found without --explain, expected with it")
	}
	net, err := infer.OpenClassifier(p.model)
	if err != nil {
		return openError(p.model, err)
	}
	jobs := expand(args, false)
	if p.explain != "" {
		if len(jobs) > 1 {
			return usagef("--explain: found %d inputs, expected one", len(jobs))
		}
		if err := explainError(explain.CheckDir(p.explain, p.overwrite)); err != nil {
			return err
		}
		if err := explainFlag(explain.CheckAttention(net.Name(), net.Model(), p.token)); err != nil {
			return err
		}
	}
	failed := 0
	var last error
	for _, j := range jobs {
		line := predicted{Input: j.in, Model: net.Name()}
		if line.Classes, err = p.one(ctx, net, j); err != nil {
			if cerr := ctx.Err(); cerr != nil {
				return cerr
			}
			failed++
			line.Error = oneLine(err)
			last = &toldError{err}
			fmt.Fprintf(p.app.err, "unrollnet: %s\n", line.Error)
		}
		if err := p.print(line); err != nil {
			return &outputError{err}
		}
	}
	switch {
	case failed == 0:
		return nil
	case len(jobs) == 1:
		return last
	}
	return &someFailed{failed, len(jobs)}
}

// one predicts one input.
func (p *prediction) one(ctx context.Context, net *infer.Classifier, j job) ([]infer.Probability, error) {
	if j.err != nil {
		return nil, j.err
	}
	var img *imageio.Image
	var err error
	if j.in == "-" {
		img, err = imageio.Decode(p.app.in, "stdin", imageio.DefaultLimits)
	} else {
		img, err = imageio.DecodeFile(j.in, imageio.DefaultLimits)
	}
	if err != nil {
		return nil, err
	}
	classes, err := net.PredictImage(ctx, img)
	if err != nil {
		return nil, inputError(j.in, err)
	}
	if p.explain == "" {
		return classes, nil
	}
	x, err := net.Fit(img)
	if err != nil {
		return nil, inputError(j.in, err)
	}
	page, err := explain.Look(ctx, net.Model(), x, p.token, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, inputError(j.in, err)
	}
	for _, c := range classes[:min(len(classes), max(p.top, 5))] {
		page.Classes = append(page.Classes, explain.Class{Name: c.Class, P: c.P})
	}
	page.Model, page.Image, page.Command = net.Name(), j.in, commandLine()
	page.Version = fmt.Sprintf("unrollnet %s, %s, %s kernels", versionOf(), runtime.Version(), kernel.Active())
	if err := page.Write(p.explain, p.overwrite); err != nil {
		return nil, &outputError{explainError(err)}
	}
	fmt.Fprintf(p.app.err, "%s: what %s looks at in %s\n", filepath.Join(p.explain, "index.html"), net.Name(), j.in)
	return classes, nil
}

func (p *prediction) print(line predicted) error {
	if p.asJSON {
		return json.NewEncoder(p.app.out).Encode(line)
	}
	if line.Error != "" {
		return nil
	}
	var parts []string
	for _, c := range line.Classes[:min(p.top, len(line.Classes))] {
		parts = append(parts, fmt.Sprintf("%s %.1f %%", c.Class, 100*c.P))
	}
	_, err := fmt.Fprintf(p.app.out, "%s: %s\n", line.Input, strings.Join(parts, ", "))
	return err
}
