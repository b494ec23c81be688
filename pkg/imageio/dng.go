package imageio

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// Tags of DNG.
const (
	tagPatternDim    = 33421
	tagPattern       = 33422
	tagDNGVersion    = 50706
	tagPlaneColor    = 50710
	tagLayout        = 50711
	tagLinearize     = 50712
	tagBlackDim      = 50713
	tagBlack         = 50714
	tagBlackColumns  = 50715
	tagBlackRows     = 50716
	tagWhite         = 50717
	tagDefaultScale  = 50718
	tagCropOrigin    = 50719
	tagCropSize      = 50720
	tagColorMatrix   = 50721 // and 50722
	tagCalibration   = 50723 // and 50724
	tagAnalogBalance = 50727
	tagNeutral       = 50728
	tagWhiteXY       = 50729
	tagExposure      = 50730
	tagIlluminant    = 50778 // and 50779
	tagActiveArea    = 50829
	tagForwardMatrix = 50964 // and 50965
)

// maxSubs bounds the directories below the first that are searched.
const maxSubs = 16

// dngHeader looks for the mosaic of a camera in a TIFF structure and prepares its
// reading; raw says whether there is one. A camera maker's own format, whose
// first directory holds but a small preview, is an error rather than a small
// picture.
func dngHeader(data []byte, d *directory, hd *header) (raw bool, err error) {
	order := byteOrder(data)
	dirs := []*directory{d}
	if f := d.get(tagSubIFDs); f != nil {
		for i := range min(f.len(), maxSubs) {
			off, ok := f.uint(i)
			if !ok {
				break
			}
			if s := readDirectory(data, order, off); s != nil {
				dirs = append(dirs, s)
			}
		}
	}
	var mosaic *directory
	var other uint32
	for _, s := range dirs {
		photo := s.uint(tagPhotometric, 0)
		if s.uint(tagSubfile, 0) != 0 || photo != photoCFA && photo != photoLinearRaw {
			continue // previews, masks
		}
		if photo == photoCFA {
			mosaic = s
			break
		}
		other = photo
	}
	dng := d.get(tagDNGVersion) != nil
	switch {
	case mosaic == nil && other == photoLinearRaw:
		return true, errors.New("raw colours of three samples per pixel, which are no mosaic")
	case mosaic == nil && dng:
		return true, errors.New("a DNG without the mosaic of a camera")
	case mosaic == nil && d.uint(tagSubfile, 0)&1 != 0 && d.get(tagSubIFDs) != nil:
		return true, errors.New("a preview with the picture elsewhere, as in a camera's own raw format: convert it to DNG")
	case mosaic == nil:
		return false, nil
	case !dng && mosaic != d:
		return true, errors.New("a camera's own raw format: convert it to DNG")
	}
	hd.format = "dng"
	s, err := newStrips(mosaic, order)
	if err != nil {
		return true, err
	}
	if s.samples != 1 {
		return true, fmt.Errorf("a mosaic of %d samples per pixel", s.samples)
	}
	if v := d.get(tagDNGVersion); v.len() >= 2 {
		major, _ := v.uint(0)
		minor, _ := v.uint(1)
		s.wideDiff = major == 1 && minor == 0
	}
	p := &sensor{strips: s}
	if err := p.describe(mosaic); err != nil {
		return true, err
	}
	if p.raw, err = cameraOf(d).develop(); err != nil {
		return true, err
	}
	p.raw.Pattern = p.pattern
	if e, ok := d.get(tagExposure).float(0); ok && math.Abs(e) <= 8 {
		p.raw.Exposure = math.Exp2(e)
	}
	hd.orientation = d.orientation()
	if mosaic.get(tagOrientation) != nil && d.get(tagOrientation) == nil {
		hd.orientation = mosaic.orientation()
	}
	hd.exif = exifOfTIFF(data)
	hd.w, hd.h = int64(s.w), int64(s.h)
	hd.minBytes = s.minBytes()
	hd.read = func() (*Image, error) { return p.read(data) }
	return true, nil
}

// sensor says what the samples of a mosaic mean.
type sensor struct {
	strips  *strips
	raw     *Raw
	pattern string // of the first samples of the crop
	// The sensor's active area, and the crop of the picture, in samples from the
	// mosaic's first one.
	top, left, bottom, right int
	y0, x0, y1, x1           int
	table                    *field // what a stored value stands for, or nil
	black                    []float64
	blackH, blackW           int
	rows, columns            []float64 // further black levels
	white                    float64
}

// describe reads pattern, areas and levels of a mosaic's directory.
func (p *sensor) describe(d *directory) error {
	s := p.strips
	if dim := d.get(tagPatternDim); dim.len() == 2 {
		a, _ := dim.uint(0)
		b, _ := dim.uint(1)
		if a != 2 || b != 2 {
			return fmt.Errorf("a colour pattern of %d x %d, which is not Bayer's", b, a)
		}
	} else {
		return errors.New("no size of the colour pattern")
	}
	if v := d.uint(tagLayout, 1); v != 1 {
		return fmt.Errorf("colours in layout %d, which is not rectangular", v)
	}
	pat := d.get(tagPattern)
	if pat.len() != 4 {
		return fmt.Errorf("a colour pattern of %d colours", pat.len())
	}
	if planes := d.get(tagPlaneColor); planes != nil && (planes.len() != 3 || !bytes.Equal(planes.data, []byte{0, 1, 2})) {
		return errors.New("colours that are not red, green and blue")
	}
	colours := ""
	for i := range 4 {
		c, ok := pat.uint(i)
		if !ok || c > 2 {
			return errors.New("colours that are not red, green and blue")
		}
		colours += string(letters[c])
	}
	switch colours {
	case "rggb", "bggr", "grbg", "gbrg":
	default:
		return fmt.Errorf("the colour pattern %q, which is not Bayer's", colours)
	}

	p.bottom, p.right = s.h, s.w
	if f := d.get(tagActiveArea); f != nil {
		var v [4]int
		for i := range v {
			u, ok := f.uint(i)
			if !ok {
				return errors.New("a damaged active area")
			}
			v[i] = int(u)
		}
		p.top, p.left, p.bottom, p.right = v[0], v[1], v[2], v[3]
		if p.top >= p.bottom || p.left >= p.right || p.bottom > s.h || p.right > s.w {
			return fmt.Errorf("an active area from row %d to %d and column %d to %d of %d x %d", p.top, p.bottom, p.left, p.right, s.w, s.h)
		}
	}
	p.y0, p.x0, p.y1, p.x1 = p.top, p.left, p.bottom, p.right
	if o, z := d.get(tagCropOrigin), d.get(tagCropSize); o.len() >= 2 && z.len() >= 2 {
		var v [4]float64
		for i := range 2 {
			var ok1, ok2 bool
			v[i], ok1 = o.float(i)
			v[2+i], ok2 = z.float(i)
			if !ok1 || !ok2 || v[i] < 0 || !(v[2+i] >= 1) {
				return errors.New("a damaged crop")
			}
		}
		w, h := float64(p.right-p.left), float64(p.bottom-p.top)
		if v[0]+v[2] > w+0.5 || v[1]+v[3] > h+0.5 {
			return fmt.Errorf("a crop of %g x %g from column %g, row %g of %g x %g", v[2], v[3], v[0], v[1], w, h)
		}
		p.x0, p.y0 = p.left+int(v[0]), p.top+int(v[1])
		p.x1, p.y1 = min(p.right, p.x0+int(v[2]+0.5)), min(p.bottom, p.y0+int(v[3]+0.5))
	}
	if p.x1-p.x0 < 2 || p.y1-p.y0 < 2 {
		return fmt.Errorf("a mosaic of %d x %d", p.x1-p.x0, p.y1-p.y0)
	}
	if f := d.get(tagDefaultScale); f.len() >= 2 {
		a, ok1 := f.float(0)
		b, ok2 := f.float(1)
		if !ok1 || !ok2 || !(b > 0) || math.Abs(a/b-1) > 0.01 {
			return errors.New("pixels that are not square")
		}
	}
	for y := range 2 {
		for x := range 2 {
			p.pattern += string(colours[(p.y0-p.top+y)%2*2+(p.x0-p.left+x)%2])
		}
	}

	p.table = d.get(tagLinearize)
	if p.table != nil && (p.table.typ != 3 || p.table.len() < 1) {
		return errors.New("a damaged linearization table")
	}
	p.blackH, p.blackW, p.black = 1, 1, []float64{0}
	if f := d.get(tagBlackDim); f.len() >= 2 {
		a, _ := f.uint(0)
		b, _ := f.uint(1)
		if a < 1 || b < 1 || a > 64 || b > 64 {
			return fmt.Errorf("black levels of a period of %d x %d", b, a)
		}
		p.blackH, p.blackW = int(a), int(b)
		p.black = make([]float64, a*b)
	}
	var ok bool
	if f := d.get(tagBlack); f != nil {
		if p.black, ok = f.floats(); !ok || len(p.black) != p.blackH*p.blackW {
			return fmt.Errorf("%d black levels for a period of %d x %d", len(p.black), p.blackW, p.blackH)
		}
	}
	for _, l := range []struct {
		tag  uint16
		n    int
		what *[]float64
	}{{tagBlackColumns, p.right - p.left, &p.columns}, {tagBlackRows, p.bottom - p.top, &p.rows}} {
		if f := d.get(l.tag); f != nil {
			if *l.what, ok = f.floats(); !ok || len(*l.what) != l.n {
				return fmt.Errorf("%d black levels for %d rows or columns", f.len(), l.n)
			}
		}
	}
	p.white = float64(uint32(1)<<s.bits - 1)
	if f := d.get(tagWhite); f != nil {
		if p.white, ok = f.float(0); !ok {
			return errors.New("a damaged white level")
		}
	}
	if most := p.most(); !(p.white > most) || p.white > 65535 || most < -65535 {
		return fmt.Errorf("a white level of %g above a black level of %g", p.white, most)
	}
	return nil
}

// most is the highest black level.
func (p *sensor) most() float64 {
	highest := func(v []float64) float64 {
		m := 0.0
		for i, x := range v {
			if i == 0 || x > m {
				m = x
			}
		}
		return m
	}
	return highest(p.black) + highest(p.rows) + highest(p.columns)
}

// read decodes the mosaic. A sample v at row r and column c of the active area
// becomes (table(v) - black(r mod period, c mod period) - rows(r) - columns(c)) /
// (white - highest black level), clipped to [0,1].
func (p *sensor) read(data []byte) (*Image, error) {
	s := p.strips
	pix, err := s.read(data)
	if err != nil {
		return nil, err
	}
	m := New(1, p.y1-p.y0, p.x1-p.x0)
	m.Bits, m.Raw = 16, p.raw
	scale := 1 / (p.white - p.most())
	var table []float64
	if p.table != nil {
		table, _ = p.table.floats()
	}
	for y := range m.H {
		r := p.y0 - p.top + y
		src := pix[(p.y0+y)*s.w+p.x0:]
		for x := range m.W {
			c := p.x0 - p.left + x
			v := float64(src[x])
			if table != nil {
				v = table[min(int(src[x]), len(table)-1)]
			}
			v -= p.black[r%p.blackH*p.blackW+c%p.blackW]
			if p.rows != nil {
				v -= p.rows[r]
			}
			if p.columns != nil {
				v -= p.columns[c]
			}
			m.Pix[y*m.W+x] = float32(min(1, max(0, v*scale)))
		}
	}
	return m, nil
}

// cameraOf reads the colour tags of a DNG's first directory. Those of more or
// fewer than three colours count as absent.
func cameraOf(d *directory) *camera {
	c := &camera{analog: matrix{0: 1, 4: 1, 8: 1}}
	read := func(tag uint16) *matrix {
		v, ok := d.get(tag).floats()
		if !ok || len(v) != 9 {
			return nil
		}
		return (*matrix)(v)
	}
	three := func(tag uint16) *[3]float64 {
		v, ok := d.get(tag).floats()
		if !ok || len(v) != 3 || !(min(v[0], v[1], v[2]) > 0) {
			return nil
		}
		return (*[3]float64)(v)
	}
	for i := range uint16(2) {
		c.kelvin[i] = illuminant(d.uint(tagIlluminant+i, 0))
		c.colour[i] = read(tagColorMatrix + i)
		c.forward[i] = read(tagForwardMatrix + i)
		c.calib[i] = matrix{0: 1, 4: 1, 8: 1}
		if m := read(tagCalibration + i); m != nil {
			c.calib[i] = *m
		}
	}
	if v := three(tagAnalogBalance); v != nil {
		c.analog = diagonal(*v)
	}
	c.neutral = three(tagNeutral)
	if v, ok := d.get(tagWhiteXY).floats(); ok && len(v) == 2 {
		c.white = (*[2]float64)(v)
	}
	return c
}
