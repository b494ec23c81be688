package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/model/weights"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"unrollnet": main})
}

// TestScripts runs the program as its users do: testdata/script/*.txt, each in
// a folder of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rc":      cmdRC,
			"picture": cmdPicture,
			"bad":     cmdBad,
			"weights": cmdWeights,
			"equal":   cmdEqual,
			"figures": cmdFigures,
			"is":      cmdIs,
			"files":   cmdFiles,
			"lock":    cmdLock,

			"wellformed": cmdWellformed,
			"classes":    cmdClasses,
			"network":    cmdNetwork,

			"selfcontained": cmdSelfContained,
		},
		// [embedded:NAME] holds where the network NAME is compiled in.
		Condition: func(cond string) (bool, error) {
			name, ok := strings.CutPrefix(cond, "embedded:")
			if !ok {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return slices.Contains(weights.Names(), name), nil
		},
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			configs, err := filepath.Abs("../../configs")
			env.Setenv("CONFIGS", configs)
			return err
		},
	})
}

// cmdRC runs a command and checks its exit code, and that what it says on
// stderr is no panic: rc CODE PROGRAM ARGS...
func cmdRC(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rc CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	stderr := ts.ReadFile("stderr")
	if strings.Contains(stderr, "panic:") || strings.Contains(stderr, "goroutine ") {
		ts.Fatalf("panic: %s", stderr)
	}
	if got != want {
		ts.Fatalf("exit code %d, expected %d; stderr: %s", got, want, stderr)
	}
	// What went wrong is said in one line.
	if want != 0 && want != exitSomeFailed {
		n := 0
		for line := range strings.Lines(stderr) {
			if strings.HasPrefix(line, "unrollnet: ") {
				n++
			}
		}
		if n != 1 {
			ts.Fatalf("%d lines of error, expected one: %s", n, stderr)
		}
	}
}

// scene is a reproducible picture with edges, slopes and texture.
func scene(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			l := 110 + 60*math.Sin(float64(x)/7)*math.Cos(float64(y)/9)
			if x+2*y > w {
				l += 50
			}
			img.SetNRGBA(x, y, color.NRGBA{uint8(min(l+20, 255)), uint8(l), uint8(l * 0.7), 255})
		}
	}
	return img
}

// cmdPicture writes a picture: picture FILE WIDTH HEIGHT
// [gray|gray16|rgb16|alpha|hole|mosaic|mask].
func cmdPicture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: picture FILE WIDTH HEIGHT [KIND]")
	}
	w, err := strconv.Atoi(args[1])
	ts.Check(err)
	h, err := strconv.Atoi(args[2])
	ts.Check(err)
	src := scene(w, h)
	var img image.Image = src
	switch kind := strings.Join(args[3:], " "); kind {
	case "":
	case "gray", "mosaic":
		g := image.NewGray(src.Rect)
		for i := range g.Pix {
			c := src.NRGBAAt(i%w, i/w)
			g.Pix[i] = c.G
			if kind == "mosaic" {
				g.Pix[i] = [4]uint8{c.R, c.G, c.G, c.B}[i/w%2*2+i%w%2]
			}
		}
		img = g
	case "gray16":
		g := image.NewGray16(src.Rect)
		for i := range w * h {
			g.SetGray16(i%w, i/w, color.Gray16{Y: uint16(257*int(src.NRGBAAt(i%w, i/w).G)) ^ 0x55})
		}
		img = g
	case "rgb16":
		g := image.NewNRGBA64(src.Rect)
		for i := range w * h {
			c := src.NRGBAAt(i%w, i/w)
			g.SetNRGBA64(i%w, i/w, color.NRGBA64{R: uint16(c.R)*257 ^ 0x35, G: uint16(c.G) * 257, B: uint16(c.B) * 257, A: 0xffff})
		}
		img = g
	case "alpha":
		src.Pix[3] = 128
	case "hole":
		for y := h / 3; y < h/2; y++ {
			for x := w / 3; x < w/2; x++ {
				src.SetNRGBA(x, y, color.NRGBA{255, 0, 255, 0})
			}
		}
	case "mask":
		g := image.NewGray(src.Rect)
		for y := h / 3; y < h/2; y++ {
			for x := w / 3; x < w/2; x++ {
				g.Pix[y*w+x] = 255
			}
		}
		img = g
	default:
		ts.Fatalf("picture: unknown kind %q", kind)
	}
	var buf bytes.Buffer
	path := ts.MkAbs(args[0])
	switch filepath.Ext(path) {
	case ".jpg":
		ts.Check(jpeg.Encode(&buf, img, nil))
	case ".tif":
		ts.Check(imageio.Encode(&buf, imageio.FromImage(img), "tiff"))
	default:
		ts.Check(png.Encode(&buf, img))
	}
	ts.Check(os.WriteFile(path, buf.Bytes(), 0o644))
}

// cmdBad writes a file that is not what it seems: bad KIND FILE.
func cmdBad(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bad KIND FILE")
	}
	var good bytes.Buffer
	ts.Check(png.Encode(&good, scene(40, 30)))
	b := good.Bytes()
	switch args[0] {
	case "empty":
		b = nil
	case "truncated":
		b = b[:len(b)/2]
	case "text":
		b = []byte("this is no picture\n")
	case "huge": // a PNG header of 2^31-1 x 2^31-1 pixels
		b = pngHeader(math.MaxInt32, math.MaxInt32)
	case "wide": // 2^31-1 x 1
		b = pngHeader(math.MaxInt32, 1)
	case "over": // 2^31 x 1: more than the format admits
		b = pngHeader(1<<31, 1)
	case "bits": // one bit of the pixels changed
		b[len(b)/2] ^= 4
	default:
		ts.Fatalf("bad: unknown kind %q", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}

// pngHeader is a PNG file that ends after a header of the given size.
func pngHeader(w, h uint32) []byte {
	chunk := []byte("IHDR")
	chunk = binary.BigEndian.AppendUint32(chunk, w)
	chunk = binary.BigEndian.AppendUint32(chunk, h)
	chunk = append(chunk, 8, 2, 0, 0, 0)
	out := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d")
	out = append(out, chunk...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
}

// cmdWeights writes a weight file of the tiny preset, sound or not:
// weights KIND FILE, with kind demosaic, x2, fill, or what is wrong.
func cmdWeights(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: weights KIND FILE")
	}
	kind, path := args[0], ts.MkAbs(args[1])
	net, err := model.New(model.Config{Preset: "tiny"}, 7)
	ts.Check(err)
	task := `{"task":"demosaic","pattern":"any"}`
	switch kind {
	case "rggb":
		task = fmt.Sprintf(`{"task":%q,"pattern":"rggb"}`, data.Demosaic)
	case "x2":
		task = fmt.Sprintf(`{"task":%q,"scale":2}`, data.Scale)
	case "fill":
		task = fmt.Sprintf(`{"task":%q,"missing":0.8}`, data.Fill)
	case "task":
		task = `{"task":"paint"}`
	}
	f := model.Save(net, task, nil)
	switch kind {
	case "nan":
		t := f.Tensors[0]
		t.Data = append([]float32(nil), t.Data...)
		t.Data[len(t.Data)/2] = float32(math.NaN())
		f.Tensors[0] = t
	case "missing":
		f.Tensors = f.Tensors[1:]
	case "shape":
		f.Tensors[0].Shape = []int{len(f.Tensors[0].Data)}
	case "extra":
		f.Tensors = append(f.Tensors, checkpoint.Tensor{Name: "zz", DType: "F32", Shape: []int{1}, Data: []float32{1}})
	case "plain":
		f.Metadata = nil
	}
	b, err := f.Bytes()
	ts.Check(err)
	switch kind {
	case "cut":
		b = b[:len(b)-5]
	case "zero":
		b = nil
	case "header": // says 4 GB of header follow
		binary.LittleEndian.PutUint64(b, 4<<30)
	case "hole": // four bytes that belong to no tensor
		n := binary.LittleEndian.Uint64(b)
		header := string(b[8 : 8+n])
		at := strings.Index(header, `"data_offsets":[0,`)
		if at < 0 {
			ts.Fatalf("no tensor at offset 0 in %s", header)
		}
		header = header[:at] + `"data_offsets":[4,` + header[at+len(`"data_offsets":[0,`):]
		b = append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), b[8+n:]...)
	}
	ts.Check(os.WriteFile(path, b, 0o644))
}

// cmdEqual checks that two pictures have the same size and pixels (or, negated,
// do not): equal A B.
func cmdEqual(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: equal A B")
	}
	a, err := imageio.DecodeFile(ts.MkAbs(args[0]), imageio.Limits{})
	ts.Check(err)
	b, err := imageio.DecodeFile(ts.MkAbs(args[1]), imageio.Limits{})
	ts.Check(err)
	same := a.W == b.W && a.H == b.H && a.C == b.C && a.Bits == b.Bits
	if same {
		for i := range a.Pix {
			same = same && a.Pix[i] == b.Pix[i]
		}
	}
	if same == neg {
		ts.Fatalf("%s and %s: equal is %v", args[0], args[1], same)
	}
}

// cmdFigures compares what eval --json has measured, times apart: figures A B.
func cmdFigures(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: figures A B")
	}
	var psnr [2]map[string]*float64
	for i, path := range args {
		var line struct{ PSNR map[string]*float64 }
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(path)), &line))
		if len(line.PSNR) == 0 {
			ts.Fatalf("%s: no PSNR in %s", path, ts.ReadFile(path))
		}
		for name, v := range line.PSNR {
			if v == nil {
				ts.Fatalf("%s: PSNR %s is null", path, name)
			}
		}
		psnr[i] = line.PSNR
	}
	if same := reflect.DeepEqual(psnr[0], psnr[1]); same == neg {
		ts.Fatalf("%s and %s: same figures is %v", args[0], args[1], same)
	}
}

// cmdIs checks what kind of file a picture is: is FILE FORMAT WIDTH HEIGHT
// gray|colour BITS.
func cmdIs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 6 {
		ts.Fatalf("usage: is FILE FORMAT WIDTH HEIGHT gray|colour BITS")
	}
	m, err := imageio.DecodeFile(ts.MkAbs(args[0]), imageio.Limits{})
	ts.Check(err)
	kind := "colour"
	if m.Gray {
		kind = "gray"
	}
	got := fmt.Sprintf("%s %d %d %s %d", m.Format, m.W, m.H, kind, m.Bits)
	if want := strings.Join(args[1:], " "); got != want {
		ts.Fatalf("%s: found %s, expected %s", args[0], got, want)
	}
}

// cmdFiles checks that a folder holds exactly the files named, hidden ones
// included: files DIR [NAME...].
func cmdFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: files DIR [NAME...]")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(args[1:], " ") {
		ts.Fatalf("%s: found %q, expected %q", args[0], got, args[1:])
	}
}

// cmdLock holds a run folder until the script ends: lock DIR.
func cmdLock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lock DIR")
	}
	run := checkpoint.NewRun(checkpoint.OS, ts.MkAbs(args[0]), 0, nil)
	ts.Check(run.Lock())
	ts.Defer(func() {
		if err := run.Unlock(); err != nil {
			ts.Logf("%v", err)
		}
	})
}
