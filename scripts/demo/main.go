// Command demo shows the main job of the project on real photographs: those in
// the test data of the imaging module, which every build downloads anyway. For
// each it simulates a Bayer mosaic, lets bin/unrollnet restore it with the
// embedded network and with two classical methods, prints the figures and
// writes pictures to bin/demo: the results, and a sheet that magnifies the part
// of the picture where the classical method errs most.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/disintegration/imaging"
	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

const imagingModule = "github.com/disintegration/imaging"

func main() {
	program := flag.String("program", filepath.Join("bin", "unrollnet"), "`PATH` of the built command")
	out := flag.String("out", filepath.Join("bin", "demo"), "`DIR` for pictures")
	models := flag.String("models", "malvar,uglr-demosaic,swin-demosaic", "`NAMES` to compare, the last one being the point")
	flag.Parse()
	if err := run(*program, *out, strings.Split(*models, ","), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// result is what the command says of one restoration.
type result struct {
	Model   string             `json:"model"`
	Output  string             `json:"output"`
	Width   int                `json:"width"`
	Height  int                `json:"height"`
	Seconds float64            `json:"seconds"`
	PSNR    map[string]float64 `json:"psnr"`
	SSIM    map[string]float64 `json:"ssim"`
}

func run(program, out string, models, photos []string) error {
	if len(photos) == 0 {
		dir, err := moduleDir(imagingModule)
		if err != nil {
			return err
		}
		for _, name := range []string{"flowers.png", "branches.png"} {
			photos = append(photos, filepath.Join(dir, "testdata", name))
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, photo := range photos {
		if err := show(program, out, models, photo); err != nil {
			return fmt.Errorf("%s: %w", photo, err)
		}
	}
	return nil
}

// moduleDir returns the folder of a module, downloading it if need be.
func moduleDir(module string) (string, error) {
	for range 2 {
		b, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		if err != nil {
			return "", fmt.Errorf("go list -m %s: %w", module, err)
		}
		if dir := strings.TrimSpace(string(b)); dir != "" {
			return dir, nil
		}
		if b, err := exec.Command("go", "mod", "download", module).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go mod download %s: %w: %s", module, err, b)
		}
	}
	return "", fmt.Errorf("module %s: found no folder for it", module)
}

// show restores one photograph by every model, prints a table and writes a sheet.
func show(program, out string, models []string, photo string) error {
	stem := strings.TrimSuffix(filepath.Base(photo), filepath.Ext(photo))
	var results []result
	for _, model := range models {
		r, err := restore(program, model, photo, filepath.Join(out, stem+"_"+model+".png"))
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	fmt.Printf("\n%s, %dx%d, one colour of three kept at each pixel (RGGB):\n\n", filepath.Base(photo), results[0].Width, results[0].Height)
	w := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  MODEL\tPSNR dB\tSSIM\tSECONDS\tPICTURE")
	for _, r := range results {
		fmt.Fprintf(w, "  %s\t%.2f\t%.4f\t%.2f\t%s\n", r.Model, r.PSNR["rgb"], r.SSIM["rgb"], r.Seconds, r.Output)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	sheet := filepath.Join(out, stem+"_sheet.png")
	if err := writeSheet(sheet, photo, results); err != nil {
		return err
	}
	fmt.Printf("\n  side by side: %s\n", sheet)
	return nil
}

// restore runs the command on one photograph.
func restore(program, model, photo, output string) (result, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, "interpolate", "--simulate", "--task", "demosaic", "--json", "--quiet", "--overwrite",
		"--model", model, photo, "-o", output)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return result{}, errors.Join(err, errors.New(strings.TrimSpace(stderr.String())))
	}
	var r result
	err := json.Unmarshal(stdout.Bytes(), &r)
	return r, err
}

// Sizes on the sheet, in pixels.
const (
	part   = 72  // side of the part that is magnified
	zoom   = 5   // how much
	thumb  = 360 // width of the whole picture
	gap    = 12
	header = 20
)

// writeSheet puts the photograph, with the part marked, before magnified parts
// of the original and of every result.
func writeSheet(path, photo string, results []result) error {
	original, err := imaging.Open(photo)
	if err != nil {
		return err
	}
	panels := []image.Image{original}
	labels := []string{"original"}
	for _, r := range results {
		img, err := imaging.Open(r.Output)
		if err != nil {
			return err
		}
		panels = append(panels, img)
		labels = append(labels, fmt.Sprintf("%s %.2f dB", r.Model, r.PSNR["rgb"]))
	}
	// The part is chosen by the strongest method but one: the last classical.
	at := worst(imaging.Clone(original), imaging.Clone(panels[max(len(panels)-2, 1)]))

	overview := imaging.Clone(original)
	frame(overview, at)
	overview = imaging.Resize(overview, thumb, 0, imaging.Lanczos)
	side := part * zoom
	sheet := imaging.New(gap+thumb+gap+len(panels)*(side+gap), header+max(side, overview.Rect.Dy())+gap, color.White)
	sheet = imaging.Paste(sheet, overview, image.Pt(gap, header))
	label(sheet, gap, filepath.Base(photo))
	for i, p := range panels {
		x := gap + thumb + gap + i*(side+gap)
		crop := imaging.Resize(imaging.Crop(p, at), side, side, imaging.NearestNeighbor)
		sheet = imaging.Paste(sheet, crop, image.Pt(x, header))
		label(sheet, x, labels[i])
	}
	return imaging.Save(sheet, path)
}

// worst returns the square where b differs most from a, by squared error.
func worst(a, b *image.NRGBA) image.Rectangle {
	w, h := min(a.Rect.Dx(), b.Rect.Dx()), min(a.Rect.Dy(), b.Rect.Dy())
	side := min(part, w, h)
	best, at := -1.0, image.Rect(0, 0, side, side)
	for y := 0; y+side <= h; y += 8 {
		for x := 0; x+side <= w; x += 8 {
			sum := 0.0
			for j := y; j < y+side; j++ {
				p, q := a.Pix[a.PixOffset(x, j):], b.Pix[b.PixOffset(x, j):]
				for i := range 4 * side {
					d := float64(p[i]) - float64(q[i])
					sum += d * d
				}
			}
			if sum > best {
				best, at = sum, image.Rect(x, y, x+side, y+side)
			}
		}
	}
	return at
}

// frame draws the outline of r, two pixels wide.
func frame(img *image.NRGBA, r image.Rectangle) {
	yellow := image.NewUniform(color.NRGBA{255, 220, 0, 255})
	for _, e := range []image.Rectangle{
		{Min: r.Min, Max: image.Pt(r.Max.X, r.Min.Y+2)}, {Min: image.Pt(r.Min.X, r.Max.Y-2), Max: r.Max},
		{Min: r.Min, Max: image.Pt(r.Min.X+2, r.Max.Y)}, {Min: image.Pt(r.Max.X-2, r.Min.Y), Max: r.Max},
	} {
		draw.Draw(img, e, yellow, image.Point{}, draw.Src)
	}
}

// label writes a caption above a panel.
func label(img *image.NRGBA, x int, text string) {
	d := font.Drawer{Dst: img, Src: image.Black, Face: basicfont.Face7x13, Dot: fixed.P(x, header-6)}
	d.DrawString(text)
}
