package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/task"
)

// interpolation is a run of the command: its flags, and what is opened once.
type interpolation struct {
	app      *app
	flags    degradeFlags
	inputs   inputFlags
	model    string
	maskPath string
	mask     *imageio.Image
	simulate bool
	explain  explanation

	output       string
	overwrite    bool
	skipExisting bool

	options   infer.Options
	maxMemory string
	asJSON    bool
	quiet     bool

	mu        sync.Mutex
	restorers map[string]*infer.Restorer
}

// report is a line of --json.
type report struct {
	Input   string                `json:"input"`
	Output  string                `json:"output,omitempty"`
	Task    string                `json:"task,omitempty"`
	Model   string                `json:"model,omitempty"`
	Width   int                   `json:"width,omitempty"`
	Height  int                   `json:"height,omitempty"`
	Seconds float64               `json:"seconds"`
	PSNR    map[string]task.Score `json:"psnr,omitempty"`
	SSIM    map[string]task.Score `json:"ssim,omitempty"`
	Skipped bool                  `json:"skipped,omitempty"`
	Error   string                `json:"error,omitempty"`
}

func newInterpolate(a *app) *cobra.Command {
	p := &interpolation{app: a, restorers: map[string]*infer.Restorer{}}
	c := &cobra.Command{
		Use:   "interpolate IMAGE...",
		Short: "Fill in what is missing of images, with an embedded trained network",
		Long: `Fill in what is missing of images. What that is is read off the image and said on
stderr: with --mask, or where pixels are fully transparent, those pixels are filled;
with --task demosaic (or --pattern) a one-channel mosaic becomes a colour image;
otherwise the image becomes twice as large, or as --scale says.

Images are PNG, JPEG, TIFF, PGM or PPM files, raw pictures of cameras as DNG files
(developed into sRGB), folders of them, patterns such as 'in/*.png', or - for
standard input. The result goes beside the input as STEM_demosaic.png,
STEM_x2.png or STEM_fill.png, or where -o says. Bit depth, gray, colour profile and
EXIF data of the input are kept. A result is never written over its input, and over another
file only with --overwrite.

--simulate takes a complete image, takes samples away as --task says, restores it and
compares with the original: how to try the program on any photograph.

Scaling by s keeps each sample (i,j) as pixel (s*i, s*j) of the result: half a pixel
away from resizers that align centres. White in a mask means missing.

--explain DIR also writes a page, DIR/index.html, that shows what the network does
with the image: the neighbours each pixel listens to, the picture after every block,
the learned numbers. With --simulate it shows the errors too.`,
		Example: "  unrollnet interpolate photo.png\n" +
			"  unrollnet interpolate --task demosaic --pattern grbg raw.tiff -o colour.tiff\n" +
			"  unrollnet interpolate --mask scratches.png scan.jpg\n" +
			"  unrollnet interpolate --simulate --task fill --missing 0.8 photo.png\n" +
			"  unrollnet interpolate --simulate --task demosaic --explain page photo.png",
		Args: func(cmd *cobra.Command, args []string) error {
			if p.inputs.filesFrom != "" {
				return nil
			}
			return argCount(1, -1, "at least one image")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return err
			}
			return p.run(cmd.Context(), args)
		},
	}
	f := c.Flags()
	p.flags.register(c)
	p.explain.register(c)
	p.inputs.register(c)
	f.StringVarP(&p.model, "model", "m", "", "`NAME` of a network or method, or path of a weight file (default: the embedded network)")
	f.StringVar(&p.maskPath, "mask", "", "`IMAGE` of the same size: white pixels are missing")
	f.BoolVar(&p.simulate, "simulate", false, "degrade complete images first, and report PSNR and SSIM")
	f.StringVarP(&p.output, "output", "o", "", "`FILE|DIR|-` for results (default: beside each input)")
	f.BoolVar(&p.overwrite, "overwrite", false, "replace files that exist (never an input)")
	f.BoolVar(&p.skipExisting, "skip-existing", false, "leave inputs out whose result exists")
	f.IntVarP(&p.options.Workers, "jobs", "j", 0, "tiles computed at a time (default one per core)")
	f.IntVar(&p.options.Tile, "tile", 0, "side of tiles in pixels (default chosen by --max-memory); the result does not depend on it")
	f.BoolVar(&p.options.Linear, "linear", false, "restore linear light: decode by the colour profile's tone curves, or sRGB's, and code the result")
	f.IntVar(&p.options.Ensemble, "ensemble", 1, ensembleUsage)
	f.StringVar(&p.maxMemory, "max-memory", "", "bound on memory for the restoration, such as 800MB or 2GiB")
	f.BoolVar(&p.asJSON, "json", false, "print one JSON object per image on stdout")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "say only what went wrong")
	complete(c, "model", func() []string { return infer.Names(p.flags.task) })
	return c
}

// check holds the flags against each other and reads the mask.
func (p *interpolation) check() error {
	if err := p.flags.check(); err != nil {
		return err
	}
	fl := p.flags
	switch {
	case p.overwrite && p.skipExisting:
		return usagef("--overwrite: found beside --skip-existing, expected one of them")
	case p.options.Workers < 0:
		return usagef("--jobs: found %d, expected 0 (one per core) or more", p.options.Workers)
	case p.options.Tile < 0:
		return usagef("--tile: found %d, expected 0 (chosen) or a side in pixels", p.options.Tile)
	case p.options.Ensemble != 0 && !slices.Contains(infer.Ensembles, p.options.Ensemble):
		return usagef("--ensemble: found %d, expected 1, 2, 4 or 8", p.options.Ensemble)
	case p.output == "-" && p.asJSON:
		return usagef("--json: found beside -o -, expected stdout for one of them")
	case p.simulate && p.maskPath != "":
		return usagef("--mask: found beside --simulate, expected --missing, which takes pixels away itself")
	case !p.simulate && (fl.missing != 0 || fl.shape != "" || fl.noise != 0):
		return usagef("--missing, --missing-shape and --noise degrade an image: found without --simulate, expected with it")
	}
	if err := p.explain.check(p.overwrite, p.skipExisting); err != nil {
		return err
	}
	// Flags that belong to one task name it.
	for _, f := range []struct {
		set        bool
		name, task string
	}{
		{fl.pattern != "", "pattern", data.Demosaic},
		{fl.scale != 0, "scale", data.Scale},
		{fl.missing != 0, "missing", data.Fill},
		{fl.shape != "", "missing-shape", data.Fill},
		{p.maskPath != "", "mask", data.Fill},
	} {
		if !f.set {
			continue
		}
		if p.flags.task == "" {
			p.flags.task = f.task
		}
		if p.flags.task != f.task {
			return usagef("--%s: found with task %s, expected with task %s only", f.name, p.flags.task, f.task)
		}
	}
	if p.maxMemory != "" {
		n, err := parseBytes(p.maxMemory)
		if err != nil {
			return err
		}
		p.options.MaxMemory = n
	}
	if p.model != "" {
		// A wrong name is found before the first image is read.
		if _, err := p.restorer(p.flags.task, p.flags.scale, p.model); err != nil {
			return err
		}
	}
	if p.maskPath != "" {
		var err error
		if p.mask, err = imageio.DecodeFile(p.maskPath, imageio.DefaultLimits); err != nil {
			return err
		}
	}
	return nil
}

// parseBytes reads a size such as 800MB, 1.5GiB or 4000000.
func parseBytes(s string) (int64, error) {
	number, factor := strings.TrimSpace(s), 1.0
	for _, u := range []struct {
		suffix string
		factor float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v > 0) || v*factor >= 1<<62 {
		return 0, usagef("--max-memory: found %q, expected a size such as 800MB or 2GiB", s)
	}
	return int64(v * factor), nil
}

// inputFile is a file that must not be written over.
type inputFile struct {
	path string
	info os.FileInfo
}

// job is one input and where its result goes.
type job struct {
	in  string // path, or "-"
	err error  // of finding the input
}

// run restores all inputs, one after the other; each uses all workers.
func (p *interpolation) run(ctx context.Context, args []string) error {
	jobs, err := p.inputs.inputs(p.app, args)
	if err != nil {
		return err
	}
	if len(jobs) == 0 {
		return nil // more shards than inputs
	}
	if len(jobs) > 1 {
		if p.explain.dir != "" {
			return usagef("--explain: found %d inputs, expected one", len(jobs))
		}
		if p.output == "-" {
			return usagef("-o -: found %d inputs, expected one", len(jobs))
		}
		if p.output != "" && !isDir(p.output) {
			return usagef("-o %s: found %d inputs and no such folder, expected a folder that exists", p.output, len(jobs))
		}
	}
	var inputs []inputFile
	add := func(path string) {
		if st, err := os.Stat(path); err == nil && path != "-" {
			inputs = append(inputs, inputFile{path, st})
		}
	}
	for _, j := range jobs {
		add(j.in)
	}
	if p.maskPath != "" {
		add(p.maskPath)
	}

	bar := newProgress(p.app, "restoring", len(jobs), p.quiet)
	if len(jobs) == 1 {
		p.options.Progress = tiles(p.app, p.quiet)
	}
	defer bar.end()
	written := map[string]string{} // output -> input
	failed := 0
	var last error
	for _, j := range jobs {
		rep, err := p.one(ctx, j, inputs, written, bar)
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		bar.add()
		if err != nil {
			failed++
			last = &toldError{err}
			rep.Error = oneLine(err)
			bar.line(p.app, "unrollnet: %s", rep.Error)
		}
		if p.asJSON {
			if err := json.NewEncoder(p.app.out).Encode(rep); err != nil {
				return err
			}
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

// expand turns arguments into inputs: folders into their images, patterns that
// are no file into what they match.
func expand(args []string, recursive bool) []job {
	var jobs []job
	for _, arg := range args {
		switch {
		case arg == "-":
			jobs = append(jobs, job{in: arg})
		case isDir(arg):
			list := imagesIn
			if recursive {
				list = imagesBelow
			}
			files, err := list(arg)
			if err == nil && len(files) == 0 {
				err = &imageio.FormatError{Name: arg, Found: "a folder without images", Expected: "PNG, JPEG, TIFF, DNG or PNM files"}
			}
			if err != nil {
				jobs = append(jobs, job{in: arg, err: err})
			}
			for _, f := range files {
				jobs = append(jobs, job{in: f})
			}
		case !exists(arg) && strings.ContainsAny(arg, "*?["):
			files, err := filepath.Glob(arg)
			if err != nil || len(files) == 0 {
				jobs = append(jobs, job{in: arg, err: &imageio.FormatError{Name: arg, Found: "no file that matches", Expected: "image files"}})
			}
			for _, f := range files {
				jobs = append(jobs, job{in: f})
			}
		default:
			jobs = append(jobs, job{in: arg})
		}
	}
	return jobs
}

// imageEndings are those of files taken from folders.
var imageEndings = []string{".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dng", ".pgm", ".ppm", ".pnm"}

// imagesIn lists the image files of a folder, sorted, not those of its folders.
func imagesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(imageEndings, strings.ToLower(filepath.Ext(e.Name()))) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// one restores one input.
func (p *interpolation) one(ctx context.Context, j job, inputs []inputFile, written map[string]string, bar *progress) (rep report, err error) {
	rep.Input = j.in
	if j.err != nil {
		return rep, j.err
	}
	// Where the task is known, so is the output: refuse before the work.
	img, err := p.decode(j.in)
	if err != nil {
		return rep, err
	}
	taskName := p.decide(img)
	scale := 0
	if taskName == data.Scale {
		scale = max(p.flags.scale, 2)
	}
	r, err := p.restorer(taskName, scale, p.model)
	if err != nil {
		return rep, err
	}
	if taskName == data.Scale && p.flags.scale == 0 && r.Network != nil {
		scale = max(r.Network.Trained().Scale, 2)
	}
	rep.Task, rep.Model = taskName, r.Name
	out := p.outputOf(j.in, taskName, scale)
	rep.Output = out
	if skip, err := p.checkOutput(out, j.in, inputs, written); err != nil {
		return rep, err
	} else if skip {
		rep.Skipped = true
		if !p.quiet {
			bar.line(p.app, "%s: skipped, %s exists", j.in, out)
		}
		return rep, nil
	}
	if !p.quiet {
		bar.line(p.app, "%s: %s, %s with %s", j.in, size(img), p.doing(img, taskName, scale), r.Name)
	}

	page, err := p.explained(ctx, r, img, taskName, scale, j.in)
	if err != nil {
		return rep, err
	}
	start := p.app.now()
	result, err := p.restore(ctx, r, img, taskName, scale, &rep)
	if err != nil {
		return rep, inputError(j.in, err)
	}
	rep.Seconds = p.app.now().Sub(start).Seconds()
	rep.Width, rep.Height = result.W, result.H
	if err := p.write(out, result); err != nil {
		return rep, err
	}
	if out != "-" {
		written[out] = j.in
	}
	if err := p.writeExplanation(page, bar); err != nil {
		return rep, err
	}
	if !p.quiet {
		figures := ""
		if rgb, ok := rep.PSNR["rgb"]; ok {
			figures = fmt.Sprintf(", PSNR %s dB", figure(float64(rgb), 2))
			if s, ok := rep.SSIM["rgb"]; ok {
				figures += ", SSIM " + figure(float64(s), 4)
			}
		}
		bar.line(p.app, "%s: %dx%d in %.2f s%s", out, rep.Width, rep.Height, rep.Seconds, figures)
	}
	return rep, nil
}

// decode reads an input.
func (p *interpolation) decode(in string) (*imageio.Image, error) {
	if in == "-" {
		return imageio.Decode(p.app.in, "stdin", imageio.DefaultLimits)
	}
	return imageio.DecodeFile(in, imageio.DefaultLimits)
}

// decide says what is missing of an image.
func (p *interpolation) decide(img *imageio.Image) string {
	if p.flags.task != "" {
		return p.flags.task
	}
	if p.model != "" {
		return p.restorers["\x00"+p.model].Task // opened by check
	}
	if img.Raw != nil {
		return data.Demosaic
	}
	if !p.simulate && slices.Contains(img.Alpha, 0) {
		return data.Fill
	}
	return data.Scale
}

// restorer opens the model for a task once: the one named, or the embedded
// default.
func (p *interpolation) restorer(taskName string, scale int, name string) (*infer.Restorer, error) {
	if name == "" {
		choose := infer.Default
		if p.explain.dir != "" {
			choose = infer.DefaultExplained
		}
		def, ok := choose(taskName, scale)
		if !ok {
			return nil, usagef("--model: found none and no embedded network for %s, expected one of %s or a weight file",
				describeTask(taskName, scale), strings.Join(infer.Names(taskName), ", "))
		}
		name = def
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := taskName + "\x00" + name
	if r, ok := p.restorers[key]; ok {
		return r, nil
	}
	r, err := openRestorer(taskName, name)
	if err != nil {
		return nil, err
	}
	p.restorers[key] = r
	return r, nil
}

func describeTask(taskName string, scale int) string {
	if taskName == data.Scale {
		return fmt.Sprintf("scale %d", scale)
	}
	return "task " + taskName
}

// what is the word for a result in file names.
func what(taskName string, scale int) string {
	if taskName == data.Scale {
		return fmt.Sprintf("x%d", scale)
	}
	return taskName
}

// doing says what is done, for people.
func (p *interpolation) doing(img *imageio.Image, taskName string, scale int) string {
	prefix := ""
	if p.simulate {
		prefix = "simulated "
	}
	switch taskName {
	case data.Demosaic:
		pattern := strings.ToLower(p.flags.pattern)
		switch {
		case pattern == "" && img.Raw != nil:
			pattern = img.Raw.Pattern
		case pattern == "":
			pattern = "rggb"
		}
		return prefix + "demosaicking (" + pattern + ")"
	case data.Scale:
		return prefix + fmt.Sprintf("scaling x%d", scale)
	}
	return prefix + "filling of missing pixels"
}

// size describes an image.
func size(img *imageio.Image) string {
	kind := "colour"
	switch {
	case img.Raw != nil:
		kind = "mosaic of a camera"
	case img.Gray:
		kind = "gray"
	}
	return fmt.Sprintf("%dx%d %s", img.W, img.H, kind)
}

// outputOf returns where the result of an input goes.
func (p *interpolation) outputOf(in, taskName string, scale int) string {
	stem := "stdin"
	if in != "-" {
		stem = strings.TrimSuffix(filepath.Base(in), filepath.Ext(in))
	}
	name := stem + "_" + what(taskName, scale) + ".png"
	switch {
	case p.output == "-" || p.output == "" && in == "-":
		return "-"
	case p.output == "":
		return filepath.Join(filepath.Dir(in), name)
	case isDir(p.output):
		return filepath.Join(p.output, name)
	}
	return p.output
}

// checkOutput refuses, before any work, outputs that are inputs, that an
// earlier input has written, that exist, or whose ending names no format.
func (p *interpolation) checkOutput(out, in string, inputs []inputFile, written map[string]string) (skip bool, err error) {
	if out == "-" {
		if p.asJSON {
			return false, usagef("--json: found a result for stdout, expected -o FILE beside it")
		}
		return false, nil
	}
	if from, ok := written[out]; ok {
		return false, usagef("%s: found the result of %s under this name, expected one input for each", out, from)
	}
	if st, err := os.Stat(out); err == nil {
		for _, i := range inputs {
			if os.SameFile(i.info, st) {
				return false, usagef("%s: found the input %s as output, expected another file", out, i.path)
			}
		}
	}
	if _, err := imageio.FormatOf(out); err != nil {
		return false, &usageError{err.Error()}
	}
	if exists(out) {
		switch {
		case isDir(out):
			return false, usagef("%s: found a folder, expected the name of a file to write", out)
		case p.skipExisting:
			return true, nil
		case !p.overwrite:
			return false, usagef("%s: found an existing file, expected a new name, --overwrite or --skip-existing", out)
		}
	} else if dir := filepath.Dir(out); !isDir(dir) {
		return false, usagef("%s: found no folder %s, expected one that exists", out, dir)
	}
	return false, nil
}

// restore fills in, or simulates.
func (p *interpolation) restore(ctx context.Context, r *infer.Restorer, img *imageio.Image, taskName string, scale int, rep *report) (*imageio.Image, error) {
	if !p.simulate {
		o := infer.ImageOptions{Options: p.options, Mask: p.mask, Pattern: strings.ToLower(p.flags.pattern)}
		if taskName == data.Scale {
			o.Scale = scale
		}
		return r.RestoreImage(ctx, img, o)
	}
	flags := p.flags
	if taskName == data.Scale {
		flags.scale = scale
	}
	deg, err := flags.degradation(taskName)
	if err != nil {
		return nil, err
	}
	sim, err := r.Simulate(ctx, img, deg, p.flags.seed, p.options)
	if err != nil {
		return nil, err
	}
	rep.PSNR, rep.SSIM = scores(sim.PSNR), scores(sim.SSIM)
	return sim.Restored, nil
}

func scores(m map[string]float64) map[string]task.Score {
	out := make(map[string]task.Score, len(m))
	for k, v := range m {
		out[k] = task.Score(v)
	}
	return out
}

// inputError says which input could not be restored, and gives the rejection of
// an image its exit code.
func inputError(in string, err error) error {
	var (
		usage  *usageError
		taskOf *infer.TaskError
		memory *infer.MemoryError
	)
	if errors.Is(err, context.Canceled) || errors.As(err, &usage) || errors.As(err, &taskOf) {
		return err
	}
	err = fmt.Errorf("%s: %w", in, err)
	if errors.As(err, &memory) {
		return err
	}
	return &rejected{err}
}

// write stores a result; "-" is standard output, which gets the whole file or
// nothing.
func (p *interpolation) write(out string, img *imageio.Image) error {
	if out != "-" {
		if err := imageio.EncodeFile(out, img, p.overwrite); err != nil {
			return &outputError{err}
		}
		return nil
	}
	var buf bytes.Buffer
	if err := imageio.Encode(&buf, img, "png"); err != nil {
		return err
	}
	if _, err := io.Copy(p.app.out, &buf); err != nil {
		return &outputError{err}
	}
	return nil
}
