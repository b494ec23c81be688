package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/task"
)

// degradeFlags are the flags that say how a complete image is degraded, shared
// by eval and interpolate --simulate.
type degradeFlags struct {
	task    string
	pattern string
	scale   int
	missing float64
	shape   string
	noise   float64
	seed    uint64
	more    []string // values of --task beyond those of restoration
}

func (d *degradeFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.task, "task", "", "demosaic | scale | fill")
	f.StringVar(&d.pattern, "pattern", "", "Bayer pattern: rggb | bggr | grbg | gbrg (default rggb)")
	f.IntVar(&d.scale, "scale", 0, "2 | 3 | 4: how many times larger (default 2)")
	f.Float64Var(&d.missing, "missing", 0, "fill: share of pixels taken away, such as 0.8")
	f.StringVar(&d.shape, "missing-shape", "", "fill: random (single pixels) | block (squares)")
	f.Float64Var(&d.noise, "noise", 0, "sigma of Gaussian noise put on the samples, in 8-bit units")
	f.Uint64Var(&d.seed, "seed", 1, "of the missing pixels and the noise")
	complete(c, "task", func() []string { return slices.Concat(infer.Tasks, d.more) })
	complete(c, "pattern", data.Patterns)
	complete(c, "scale", func() []string { return []string{"2", "3", "4"} })
	complete(c, "missing-shape", func() []string { return []string{"random", "block"} })
}

// degradation returns what the flags ask for, with the defaults of the task.
func (d *degradeFlags) degradation(taskName string) (data.Degradation, error) {
	out := data.Degradation{Task: taskName, Pattern: strings.ToLower(d.pattern), Scale: d.scale, Missing: d.missing, Shape: d.shape, Noise: d.noise}
	if taskName == data.Fill && out.Missing == 0 {
		out.Missing = defaultMissing
	}
	out, err := out.Resolved()
	if err != nil {
		return out, usagef("--%s", strings.Replace(strings.TrimPrefix(err.Error(), "data.degradation."), "shape:", "missing-shape:", 1))
	}
	return out, nil
}

// defaultMissing is the share of pixels taken away unless told otherwise.
const defaultMissing = 0.8

// check looks at the words among the flags.
func (d *degradeFlags) check() error {
	if d.task != "" {
		if err := word("task", d.task, slices.Concat(infer.Tasks, d.more)); err != nil {
			return err
		}
	}
	if d.pattern != "" {
		if err := word("pattern", strings.ToLower(d.pattern), data.Patterns()); err != nil {
			return err
		}
	}
	if d.scale != 0 && (d.scale < 2 || d.scale > 4) {
		return usagef("--scale: found %d, expected 2, 3 or 4", d.scale)
	}
	if d.missing != 0 && !(d.missing > 0 && d.missing < 1) {
		return usagef("--missing: found %v, expected a share between 0 and 1, such as 0.8", d.missing)
	}
	return nil
}

// evaluation is what eval measures.
type evaluation struct {
	models    []string
	dir       string
	images    data.Dataset
	deg       data.Degradation
	protocols []metric.Protocol
	channels  int
	opt       task.Options
	tile      int
	beyond    bool // measure networks on scales they were not trained for
	rawPhase  bool // infer.Options.RawPhase
	ensemble  int  // infer.Options.Ensemble
	perImage  bool
	asJSON    bool
}

func newEval(a *app) *cobra.Command {
	var (
		flags     degradeFlags
		models    []string
		weights   []string
		dir       string
		protocols []string
		channels  int
		limit     int
		jobs      int
		tile      int
		sets      []string
		beyond    bool
		rawPhase  bool
		ensemble  int
		perImage  bool
		asJSON    bool
		part      string
		occlude   float64
		diagnose  bool
	)
	c := &cobra.Command{
		Use:   "eval [CONFIG]",
		Short: "Measure networks and classical methods on images or text",
		Long: `Degrade complete images, restore them with one model or several, and compare with
the originals: one table, or with --json one object per model. Models are embedded
networks by name, weight files by path, and the classical methods (see models list).

With an experiment file its degradation and validation images are used; with flags
alone, --task and --data say what is measured. Protocols, means of per-image values:

  rgb        PSNR of the MSE over all channels and pixels, 8-bit rounded, no crop
  cpsnr-b10  the same with 10 border pixels left out
  y          luma of studio-range YCbCr, border crop = scale

Scaling is measured on the luma alone (one channel), the others in colour, unless
--channels says otherwise. CPU S/MPX is the processor time of restoring over the
millions of pixels restored, known only with one image at a time (--jobs 1).

How far a network carries beyond its training: --noise, --missing and --pattern take
any value; another scale than the network's is refused unless --beyond is given; and a
mosaic whose pattern the network was not trained on is mirrored to begin as one it
was, unless --raw-phase is given.

Classifiers (--task classify, or an experiment of one) are measured on labelled
images: top-1 and top-5, the mean of -log p(class), and which class is taken for
which. --noise and --occlude say what is done to the images before. Language models
(--task language) are measured on a text: the mean of -log p(next symbol) in nats
and bits, and perplexity. --part says which part of the data is taken: with an
experiment its validation part unless told otherwise, with --data the test part of
images and all of a text. --diagnose adds what the attention of a transformer does on up
to 64 of the inputs, spread evenly, as they are: mean pairwise cosine of the tokens
after each layer (near 1: over-smoothing) and, by head, p, the mean weight of a token
on itself and the mean entropy of its weights.`,
		Example: "  unrollnet eval --task demosaic --model uglr-demosaic,malvar,menon --data data/kodak\n" +
			"  unrollnet eval configs/uglr-demosaic.yaml --weights runs/uglr-demosaic/model.safetensors\n" +
			"  unrollnet eval --task classify --model runs/mnist-vit/model.safetensors --data data/mnist --part test --noise 50",
		Args: argCount(0, 1, "at most one experiment file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := slices.Concat(models, weights)
			kind, err := evalKind(args, sets, flags.task, names)
			if err != nil {
				return err
			}
			if err := checkKindFlags(cmd, kind); err != nil {
				return err
			}
			if kind == model.Restore {
				if err := flags.check(); err != nil {
					return err
				}
			}
			e := evaluation{
				models: names, dir: dir, channels: channels, tile: tile,
				beyond: beyond, rawPhase: rawPhase, ensemble: ensemble, perImage: perImage, asJSON: asJSON,
				opt: task.Options{Seed: flags.seed, Limit: limit, Workers: jobs, Now: a.now, CPU: cpuTime},
			}
			switch {
			case len(e.models) == 0:
				return usagef("eval: found no model, expected --model NAME[,NAME...] or --weights FILE")
			case limit < 0:
				return usagef("--limit: found %d, expected 0 (all) or more", limit)
			case jobs < 0:
				return usagef("--jobs: found %d, expected 0 (one per core) or more", jobs)
			case channels != 0 && channels != 1 && channels != 3:
				return usagef("--channels: found %d, expected 1 (luma) or 3 (colour)", channels)
			case ensemble != 0 && !slices.Contains(infer.Ensembles, ensemble):
				return usagef("--ensemble: found %d, expected 1, 2, 4 or 8", ensemble)
			case len(sets) > 0 && len(args) == 0:
				return usagef("--set: found without an experiment file, expected flags such as --task")
			}
			for _, p := range protocols {
				if err := word("protocol", p, metric.ProtocolNames()); err != nil {
					return err
				}
			}
			if jobs == 0 {
				e.opt.Workers = runtime.NumCPU()
			}
			if kind != model.Restore {
				k := kindEvaluation{kind: kind, models: names, sets: sets, data: dir, part: part, asJSON: asJSON, diagnosis: diagnosis{on: diagnose},
					opt: task.ClassifyOptions{Limit: limit, Workers: e.opt.Workers, Noise: flags.noise, Occlude: occlude, Seed: flags.seed}}
				if len(args) == 1 {
					k.path = args[0]
				}
				return k.run(cmd.Context(), a)
			}
			if len(args) == 1 {
				err = e.fromConfig(cmd, args[0], sets, &flags, &protocols)
			} else {
				err = e.fromFlags(&flags)
			}
			if err != nil {
				return err
			}
			if len(protocols) == 0 {
				protocols = config.Protocols(e.deg.Task)
			}
			for _, p := range protocols {
				e.protocols = append(e.protocols, metric.Protocol(p))
			}
			if e.channels == 0 {
				e.channels = 3
				if e.deg.Task == data.Scale {
					e.channels = 1
				}
			}
			return e.run(cmd.Context(), a)
		},
	}
	f := c.Flags()
	flags.more = kindTasks
	flags.register(c)
	f.StringSliceVar(&models, "model", nil, "`NAME[,NAME...]` of networks or methods, or paths of weight files")
	f.StringSliceVar(&weights, "weights", nil, "weight `FILE[,FILE...]`: the same as --model")
	f.Lookup("task").Usage = "demosaic | scale | fill | classify | language"
	f.Lookup("noise").Usage = "sigma of Gaussian noise put on the samples or images, in 8-bit units"
	f.Lookup("seed").Usage = "of the missing pixels, the noise and the places of --occlude"
	f.StringVar(&dir, "data", "", "`PATH` of what to measure on: a folder of complete images, of labelled images, or a text file")
	f.StringVar(&part, "part", "", "classify, language: train | val | test | all")
	f.Float64Var(&occlude, "occlude", 0, "classify: share of each image's area under a mid-gray square")
	f.BoolVar(&diagnose, "diagnose", false, "classify, language: what the attention of transformers does, by layer and head")
	f.StringSliceVar(&protocols, "protocol", nil, "rgb | cpsnr-b10 | y (default: those of the task)")
	f.IntVar(&channels, "channels", 0, "3: colour | 1: luma (default: 1 for scaling, else 3)")
	f.IntVar(&limit, "limit", 0, "measure `N` images only: the first, or spread evenly where they are labelled; windows of a text")
	f.IntVarP(&jobs, "jobs", "j", 0, "images at a time (default one per core)")
	f.IntVar(&tile, "tile", 0, "side of tiles in pixels (default chosen)")
	f.BoolVar(&beyond, "beyond", false, "measure networks on scales they were not trained for")
	f.BoolVar(&rawPhase, "raw-phase", false, "give mosaics to networks as they are, of whatever Bayer pattern")
	f.IntVar(&ensemble, "ensemble", 1, ensembleUsage)
	f.BoolVar(&perImage, "per-image", false, "figures of each image too")
	f.BoolVar(&asJSON, "json", false, "print one JSON object per model")
	setFlag(c, &sets)
	complete(c, "model", func() []string { return infer.Names("") })
	complete(c, "protocol", metric.ProtocolNames)
	complete(c, "part", func() []string { return evalParts })
	return c
}

// fromFlags sets degradation and images by flags alone.
func (e *evaluation) fromFlags(flags *degradeFlags) error {
	if e.dir == "" {
		return usagef("eval: found no --data, expected --data DIR or an experiment file")
	}
	taskName := flags.task
	if taskName == "" {
		r, err := openRestorer("", e.models[0])
		if err != nil {
			return err
		}
		taskName = r.Task
	}
	var err error
	if e.deg, err = flags.degradation(taskName); err != nil {
		return err
	}
	return e.open()
}

// fromConfig sets degradation, images and protocols by an experiment; --data
// and --protocol go before it.
func (e *evaluation) fromConfig(cmd *cobra.Command, path string, sets []string, flags *degradeFlags, protocols *[]string) error {
	for _, name := range []string{"task", "pattern", "scale", "missing", "missing-shape", "noise"} {
		if cmd.Flags().Changed(name) {
			return usagef("--%s: found beside the experiment %s, expected --set data.degradation...", name, path)
		}
	}
	cfg, err := config.Load(path, sets)
	if err != nil {
		return err
	}
	e.deg = cfg.Data.Degradation
	if len(*protocols) == 0 {
		*protocols = cfg.Eval.Protocols
	}
	if e.channels == 0 {
		e.channels = cfg.Model.Channels
	}
	if !cmd.Flags().Changed("seed") {
		e.opt.Seed = cfg.Seed
	}
	if e.dir != "" {
		return e.open()
	}
	opt := data.Options{CacheBytes: -1}
	e.dir = cfg.Data.Val
	if e.dir == "" {
		e.dir = cfg.Data.Train
		opt.Part, opt.Every, opt.Offset = data.PartVal, cfg.Data.Holdout.Every, cfg.Data.Holdout.Offset
	}
	if e.dir == "" {
		return &config.Error{Where: path, Key: "data.val", Msg: `found nothing and no data.train either, expected a folder of images, or --data DIR`}
	}
	e.images, err = data.Open(e.dir, opt, cfg.Seed)
	return dataError(e.dir, err)
}

func (e *evaluation) open() error {
	var err error
	e.images, err = data.Open(e.dir, data.Options{CacheBytes: -1}, e.opt.Seed)
	return dataError(e.dir, err)
}

// dataError makes a folder of images that is not there a wrong command line.
func dataError(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("%s: found no such folder, expected one with images", dir)
	}
	if err == nil {
		return nil
	}
	if st, serr := os.Stat(dir); serr == nil && !st.IsDir() {
		return usagef("%s: found a file, expected a folder with images", dir)
	}
	return &rejected{err}
}

// run measures every model and prints.
func (e *evaluation) run(ctx context.Context, a *app) error {
	// Open all first: a wrong name should not show after an hour.
	restorers := make([]*infer.Restorer, len(e.models))
	for i, name := range e.models {
		r, err := openRestorer(e.deg.Task, name)
		if err != nil {
			return err
		}
		if r.Network != nil && e.deg.Task == data.Scale {
			if t := r.Network.Trained().Scale; t != 0 && t != e.deg.Scale && !e.beyond {
				return usagef("model %q: found a network for scale %d, expected one for %d, or --beyond to see what it does there", name, t, e.deg.Scale)
			}
		}
		if r.Network != nil && e.ensemble > 2 && e.deg.Task == data.Scale {
			return usagef("--ensemble: found %d, expected 1 or 2 for scaling", e.ensemble)
		}
		restorers[i] = r
	}
	progress := newProgress(a, "measuring", e.count()*len(restorers), e.asJSON)
	var results []task.Result
	for _, r := range restorers {
		restore := func(y, mask []float32, c, h, w int) ([]float32, error) {
			return r.RestorePlanar(ctx, y, mask, c, h, w, infer.Options{Workers: 1, Tile: e.tile, RawPhase: e.rawPhase, Ensemble: e.ensemble})
		}
		opt := e.opt
		opt.Channels = e.channels
		opt.Done = func(task.Item) { progress.add() }
		res, err := task.Evaluate(ctx, restore, e.images, e.deg, e.protocols, opt)
		if err != nil {
			progress.end()
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		res.Model, res.Data, res.Params = r.Name, e.dir, r.Params
		if !e.perImage {
			res.PerItem = nil
		}
		if e.asJSON {
			line := struct {
				task.Result
				Degradation data.Degradation `json:"degradation"`
				Channels    int              `json:"channels"`
				RawPhase    bool             `json:"raw_phase,omitempty"`
				Ensemble    int              `json:"ensemble,omitempty"`
				PeakBytes   int64            `json:"peak_bytes,omitempty"` // resident, of the process so far
			}{res, e.deg, e.channels, e.rawPhase, e.orientations(), peakMemory()}
			if err := json.NewEncoder(a.out).Encode(line); err != nil {
				return err
			}
		}
		results = append(results, res)
	}
	progress.end()
	if e.asJSON {
		return nil
	}
	return e.table(a.out, results)
}

// ensembleUsage explains --ensemble, of eval and interpolate.
const ensembleUsage = "1 | 2 | 4 | 8: orientations a network restores an image in; the mean is a little better, and as many times slower"

// orientations is the number of them where it is more than one, else 0.
func (e *evaluation) orientations() int {
	if e.ensemble == 1 {
		return 0
	}
	return e.ensemble
}

// count is the number of images measured.
func (e *evaluation) count() int {
	n := e.images.Len()
	if e.opt.Limit > 0 {
		n = min(n, e.opt.Limit)
	}
	return n
}

// table prints one row per model, and with --per-image one per image before.
func (e *evaluation) table(w io.Writer, results []task.Result) error {
	turned := ""
	if n := e.orientations(); n > 0 {
		turned = fmt.Sprintf(", networks in %d orientations", n)
	}
	fmt.Fprintf(w, "%s on %s: %d images%s%s\n\n", describe(e.deg), e.dir, results[0].Images, map[int]string{1: ", luma", 3: ""}[e.channels], turned)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	ssim := "rgb"
	if e.channels == 1 {
		ssim = "y"
	}
	fmt.Fprint(tw, "MODEL\tPARAMETERS")
	for _, p := range e.protocols {
		fmt.Fprintf(tw, "\tPSNR %s", p)
	}
	fmt.Fprintf(tw, "\tSSIM %s\tS/IMAGE\tCPU S/MPX\n", ssim)
	row := func(name, params string, psnr, ss map[string]task.Score, seconds, cpu float64) {
		fmt.Fprintf(tw, "%s\t%s", name, params)
		for _, p := range e.protocols {
			fmt.Fprintf(tw, "\t%s", figure(float64(psnr[string(p)]), 2))
		}
		perMpx := "-"
		if cpu > 0 {
			perMpx = fmt.Sprintf("%.2f", cpu)
		}
		fmt.Fprintf(tw, "\t%s\t%.3f\t%s\n", figure(float64(ss[ssim]), 4), seconds, perMpx)
	}
	for _, r := range results {
		for _, it := range r.PerItem {
			row("  "+it.Name, "", it.PSNR, it.SSIM, it.Seconds, it.CPU/(float64(it.Width)*float64(it.Height)/1e6))
		}
		row(r.Model, fmt.Sprint(r.Params), r.PSNR, r.SSIM, r.Seconds/float64(r.Images), r.CPUPerMpx)
	}
	return tw.Flush()
}

// figure formats a PSNR or SSIM; equal images have an infinite PSNR.
func figure(v float64, digits int) string {
	switch {
	case math.IsInf(v, 1):
		return "inf"
	case math.IsNaN(v):
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// describe says what a degradation does, in a few words.
func describe(d data.Degradation) string {
	var s string
	switch d.Task {
	case data.Demosaic:
		s = "demosaicking " + d.Pattern
	case data.Scale:
		s = fmt.Sprintf("scaling x%d", d.Scale)
	default:
		s = fmt.Sprintf("filling %g %% missing pixels", math.Round(1000*d.Missing)/10)
		if d.Missing == 0 {
			s = fmt.Sprintf("filling %g to %g %% missing pixels", 100*d.MissingRange[0], 100*d.MissingRange[1])
		}
	}
	if d.Noise > 0 {
		s += fmt.Sprintf(" with noise of sigma %g", d.Noise)
	}
	return s
}
