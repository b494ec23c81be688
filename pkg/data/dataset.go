package data

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// Dataset is a numbered set of images. Its methods may be called from several
// goroutines.
type Dataset interface {
	Len() int
	// Image returns image i, which belongs to the caller.
	Image(i int) (*imageio.Image, error)
}

// Namer is a Dataset whose images have names.
type Namer interface{ Name(i int) string }

// Checker is a Dataset that can look, cheaply, whether all images can be opened
// and have at least minSide pixels in both directions.
type Checker interface{ Check(minSide int) error }

// patcher is a Dataset that hands out its stored planes.
type patcher interface {
	planes(i int) (*planes, error)
}

// SyntheticName is the folder name that stands for the generated images.
const SyntheticName = "synthetic"

// Open returns the generated images for the name SyntheticName, else the folder
// dir; see Synthetic and ImageFolder.
func Open(dir string, opt Options, seed uint64) (Dataset, error) {
	if dir == SyntheticName {
		return Synthetic(64, 128, seed, opt)
	}
	return ImageFolder(dir, opt)
}

// Parts of a hold-out split.
const (
	PartAll   = ""
	PartTrain = "train"
	PartVal   = "val"
)

// Options of a dataset. With Every > 0 the images, numbered from 0 in the order
// of their names, are split: those with number mod Every == Offset are PartVal,
// the others PartTrain.
type Options struct {
	Every, Offset int
	Part          string         // PartAll, PartTrain or PartVal
	CacheBytes    int64          // bound on the decoded images kept; 0 = 512 MiB, negative = none
	Limits        imageio.Limits // on the files; the zero value means imageio.DefaultLimits
}

// defaultCache is what CacheBytes 0 stands for.
const defaultCache = 512 << 20

// choose returns the numbers in 0..n-1 that belong to the part.
func (o Options) choose(n int) ([]int, error) {
	if o.Every < 0 || o.Every == 1 {
		return nil, fmt.Errorf("data.holdout.every: found %d, expected 0 (no split) or >= 2", o.Every)
	}
	if o.Offset < 0 || o.Every > 0 && o.Offset >= o.Every {
		return nil, fmt.Errorf("data.holdout.offset: found %d, expected 0 to every - 1", o.Offset)
	}
	switch o.Part {
	case PartAll, PartTrain, PartVal:
	default:
		return nil, fmt.Errorf("data part: found %q, expected train, val or empty", o.Part)
	}
	if o.Every == 0 && o.Part == PartVal {
		return nil, fmt.Errorf("data.holdout.every: found 0, expected >= 2 to hold images out")
	}
	var out []int
	for i := range n {
		val := o.Every > 0 && i%o.Every == o.Offset
		if o.Part == PartAll || val == (o.Part == PartVal) {
			out = append(out, i)
		}
	}
	return out, nil
}

// planes is a decoded image as the cache keeps it: planar (C,H,W), one of u8
// and u16 set.
type planes struct {
	w, h, c int
	u8      []uint8
	u16     []uint16
	gray    bool
	format  string
}

func (p *planes) bytes() int64 { return int64(len(p.u8)) + 2*int64(len(p.u16)) }

// toPlanes packs an image whose values are k/255, or k/65535 for 16 bits;
// transparency is dropped.
func toPlanes(m *imageio.Image) *planes {
	p := &planes{w: m.W, h: m.H, c: m.C, gray: m.Gray, format: m.Format}
	if m.Bits == 16 {
		p.u16 = make([]uint16, len(m.Pix))
		for i, v := range m.Pix {
			p.u16[i] = uint16(clamp(v)*65535 + 0.5)
		}
		return p
	}
	p.u8 = make([]uint8, len(m.Pix))
	for i, v := range m.Pix {
		p.u8[i] = uint8(clamp(v)*255 + 0.5)
	}
	return p
}

// clamp limits v to [0,1]; NaN becomes 0.
func clamp(v float32) float32 {
	if !(v > 0) {
		return 0
	}
	return min(v, 1)
}

// byteValue[k] is k/255.
var byteValue = func() (t [256]float32) {
	for k := range t {
		t[k] = float32(k) / 255
	}
	return t
}()

// image unpacks.
func (p *planes) image() *imageio.Image {
	m := &imageio.Image{W: p.w, H: p.h, C: p.c, Pix: make([]float32, p.c*p.h*p.w), Bits: 8, Gray: p.gray, Format: p.format}
	if p.u16 != nil {
		m.Bits = 16
		for i, v := range p.u16 {
			m.Pix[i] = float32(v) / 65535
		}
		return m
	}
	for i, v := range p.u8 {
		m.Pix[i] = byteValue[v]
	}
	return m
}

// patch writes the side x side square at (y0,x0) as channels planes to dst,
// turned by one of the eight symmetries of the square: bit 0 mirrors
// left-right, bit 1 top-bottom, bit 2 exchanges rows and columns (before the
// mirrors). A gray image fills three channels alike; one channel is the
// studio-range luma of imageio.Image.Luma.
func (p *planes) patch(dst []float32, channels, y0, x0, side, turn int) {
	at, dy, dx := walk(p.w, y0, x0, side, turn)
	n, plane := side*side, p.w*p.h
	for k := range channels {
		if k >= p.c { // gray
			copy(dst[k*n:(k+1)*n], dst[:n])
			continue
		}
		for y := range side {
			row, s := dst[k*n+y*side:][:side], at+y*dy
			switch {
			case channels == 1:
				p.lumaRow(row, s, dx)
			case p.u16 != nil:
				row16(row, p.u16, k*plane+s, dx)
			default:
				row8(row, p.u8, k*plane+s, dx)
			}
		}
	}
}

// row8 reads 8-bit samples from offset s on, dx apart.
func row8(row []float32, src []uint8, s, dx int) {
	for x := range row {
		row[x] = byteValue[src[s]]
		s += dx
	}
}

// row16 reads 16-bit samples from offset s on, dx apart.
func row16(row []float32, src []uint16, s, dx int) {
	for x := range row {
		row[x] = float32(src[s]) / 65535
		s += dx
	}
}

// lumaRow is imageio.Image.Luma for the pixels from offset s on, dx apart.
func (p *planes) lumaRow(row []float32, s, dx int) {
	plane := p.w * p.h
	for x := range row {
		if p.c == 1 {
			row[x] = float32((16 + 219*float64(p.value(s))) / 255)
		} else {
			r, g, b := p.value(s), p.value(plane+s), p.value(2*plane+s)
			row[x] = float32((16 + 65.481*float64(r) + 128.553*float64(g) + 24.966*float64(b)) / 255)
		}
		s += dx
	}
}

// value returns sample i in [0,1].
func (p *planes) value(i int) float32 {
	if p.u16 != nil {
		return float32(p.u16[i]) / 65535
	}
	return byteValue[p.u8[i]]
}

// walk gives the source offset of the patch's first pixel and the steps to the
// next row and the next column, for a source of width w.
func walk(w, y0, x0, side, turn int) (at, dy, dx int) {
	dy, dx = w, 1
	if turn&4 != 0 {
		dy, dx = dx, dy
	}
	at = y0*w + x0
	if turn&1 != 0 {
		at += (side - 1) * dx
		dx = -dx
	}
	if turn&2 != 0 {
		at += (side - 1) * dy
		dy = -dy
	}
	return at, dy, dx
}
