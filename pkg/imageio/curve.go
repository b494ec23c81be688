package imageio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sort"
	"sync"
)

// curveSteps is the resolution of a Curve: that of 16 bits, so that every sample
// of 8 or 16 bits is a point of the table.
const curveSteps = 65535

// Curve maps coded samples to light and back: values in [0,1] to values in [0,1],
// never falling. Between the points of its table it is linear; Encode is the
// inverse of Decode, up to rounding, where the curve rises.
type Curve struct {
	light [curveSteps + 1]float32
	// start[k] is the first point of light at or above k/buckets.
	start [buckets + 2]int32
}

const buckets = 4096

// newCurve tabulates f, which must not fall by more than rounding.
func newCurve(f func(float64) float64) (*Curve, error) {
	c := &Curve{}
	for i := range c.light {
		v := f(float64(i) / curveSteps)
		if math.IsNaN(v) {
			return nil, errors.New("a tone curve that is no number")
		}
		c.light[i] = float32(min(1, max(0, v)))
		if i > 0 && c.light[i] < c.light[i-1] {
			if c.light[i] < c.light[i-1]-1e-3 {
				return nil, errors.New("a tone curve that falls")
			}
			c.light[i] = c.light[i-1]
		}
	}
	if !(c.light[curveSteps] > c.light[0]) {
		return nil, errors.New("a tone curve that does not rise")
	}
	for k := range c.start {
		c.start[k] = int32(sort.Search(len(c.light), func(i int) bool { return c.light[i] >= float32(k)/buckets }))
	}
	return c, nil
}

// Decode is the light of a coded sample; outside [0,1] that of the nearer end.
func (c *Curve) Decode(v float32) float32 {
	if !(v > 0) {
		return c.light[0]
	}
	if v >= 1 {
		return c.light[curveSteps]
	}
	p := float64(v) * curveSteps
	i := int(p)
	if i >= curveSteps {
		return c.light[curveSteps]
	}
	t := p - float64(i)
	return float32(float64(c.light[i])*(1-t) + float64(c.light[i+1])*t)
}

// Encode is the coded sample of a light: the smallest one where several have it.
func (c *Curve) Encode(v float32) float32 {
	if !(v > c.light[0]) {
		return 0
	}
	if v >= c.light[curveSteps] {
		v = c.light[curveSteps]
	}
	k := int(v * buckets)
	lo, hi := int(c.start[k]), min(int(c.start[k+1]), curveSteps)
	for lo < hi { // the first point at or above v
		if mid := (lo + hi) / 2; c.light[mid] >= v {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo == 0 {
		return 0
	}
	a, b := float64(c.light[lo-1]), float64(c.light[lo])
	t := 1.0
	if b > a {
		t = (float64(v) - a) / (b - a)
	}
	return float32((float64(lo-1) + t) / curveSteps)
}

// SRGB is the curve of sRGB (IEC 61966-2-1): v/12.92 up to 0.04045, then
// ((v + 0.055) / 1.055)^2.4.
var SRGB = sync.OnceValue(func() *Curve {
	c, err := newCurve(func(v float64) float64 {
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	})
	if err != nil {
		panic(err) // the formula rises
	}
	return c
})

// Curves are those of an image's channels, one or three.
type Curves []*Curve

// Decode replaces the coded samples pix (c,H,W) by their light.
func (cs Curves) Decode(pix []float32, c int) { cs.each(pix, c, (*Curve).Decode) }

// Encode replaces the light pix (c,H,W) by coded samples.
func (cs Curves) Encode(pix []float32, c int) { cs.each(pix, c, (*Curve).Encode) }

func (cs Curves) each(pix []float32, c int, f func(*Curve, float32) float32) {
	n := len(pix) / c
	for k := range c {
		curve := cs[min(k, len(cs)-1)]
		for i, v := range pix[k*n : (k+1)*n] {
			pix[k*n+i] = f(curve, v)
		}
	}
}

// Curves returns how the image's samples stand for light: by the tone curves of
// its colour profile, else by what a PNG says of its gamma, else as in sRGB. A
// profile that has no tone curves (but tables, say), and a PNG for a display of
// high dynamic range, are errors, since any other curve would be a guess.
func (m *Image) Curves() (Curves, error) {
	if m.ICC != nil {
		return profileCurves(m.ICC, m.C)
	}
	gamma := Curves{SRGB()}
	for _, c := range m.chunks {
		switch {
		case c.typ == "cICP" && len(c.body) >= 2:
			switch c.body[1] {
			case 13:
				return Curves{SRGB()}, nil
			case 8:
				c, err := newCurve(func(v float64) float64 { return v })
				return Curves{c}, err
			}
			return nil, fmt.Errorf("light: found a PNG of transfer characteristics %d, expected 13 (sRGB) or 8 (linear)", c.body[1])
		case c.typ == "sRGB":
			return Curves{SRGB()}, nil
		case c.typ == "gAMA" && len(c.body) == 4:
			g := binary.BigEndian.Uint32(c.body)
			if g < 10000 || g > 1000000 {
				return nil, fmt.Errorf("light: found a PNG of gamma %g, expected 0.1 to 10", float64(g)/100000)
			}
			if g == 45455 { // what writers of sRGB state
				continue
			}
			c, err := newCurve(func(v float64) float64 { return math.Pow(v, 100000/float64(g)) })
			if err != nil {
				return nil, err
			}
			gamma = Curves{c}
		}
	}
	return gamma, nil
}

// profileCurves reads the tone curves of an ICC profile for c channels.
func profileCurves(icc []byte, c int) (Curves, error) {
	names := []string{"kTRC"}
	if c == 3 {
		names = []string{"rTRC", "gTRC", "bTRC"}
	}
	var out Curves
	var last []byte
	for _, name := range names {
		body := profileTag(icc, name)
		if body == nil {
			return nil, fmt.Errorf("light: found a colour profile without the tone curve %s, expected one with it", name)
		}
		if last != nil && &last[0] == &body[0] { // shared, as is usual
			out = append(out, out[len(out)-1])
			continue
		}
		f, err := toneCurve(body)
		if err == nil {
			var curve *Curve
			if curve, err = newCurve(f); err == nil {
				out, last = append(out, curve), body
				continue
			}
		}
		return nil, fmt.Errorf("light: found %w in the colour profile, expected one that rises from 0 to 1", err)
	}
	return out, nil
}

// profileTag is the data of a tag of a profile, nil if it is not there.
func profileTag(icc []byte, name string) []byte {
	if len(icc) < 132 {
		return nil
	}
	n := int64(binary.BigEndian.Uint32(icc[128:]))
	for k := int64(0); k < min(n, 256) && 132+12*(k+1) <= int64(len(icc)); k++ {
		e := icc[132+12*k:]
		off, size := int64(binary.BigEndian.Uint32(e[4:])), int64(binary.BigEndian.Uint32(e[8:]))
		if string(e[:4]) == name && size >= 12 && off+size <= int64(len(icc)) {
			return icc[off : off+size]
		}
	}
	return nil
}

// toneCurve reads a curve of type curv (the identity, a power or a table) or para
// (five forms of a power with a linear beginning); ICC.1:2022, 10.6 and 10.18.
func toneCurve(b []byte) (func(float64) float64, error) {
	switch string(b[:4]) {
	case "curv":
		n := int64(binary.BigEndian.Uint32(b[8:]))
		if n > 65536 || 12+2*n > int64(len(b)) {
			return nil, errors.New("a damaged tone curve")
		}
		at := func(i int) float64 { return float64(binary.BigEndian.Uint16(b[12+2*i:])) }
		switch n {
		case 0:
			return func(v float64) float64 { return v }, nil
		case 1:
			g := at(0) / 256
			if !(g > 0) {
				return nil, errors.New("a power of 0")
			}
			return func(v float64) float64 { return math.Pow(v, g) }, nil
		}
		return func(v float64) float64 {
			p := v * float64(n-1)
			i := min(int(p), int(n)-2)
			t := p - float64(i)
			return (at(i)*(1-t) + at(i+1)*t) / 65535
		}, nil
	case "para":
		kind := binary.BigEndian.Uint16(b[8:])
		if kind > 4 {
			return nil, fmt.Errorf("a tone curve of form %d", kind)
		}
		count := [5]int{1, 3, 4, 5, 7}[kind]
		if len(b) < 12+4*count {
			return nil, errors.New("a damaged tone curve")
		}
		var p [7]float64
		for i := range count {
			p[i] = float64(int32(binary.BigEndian.Uint32(b[12+4*i:]))) / 65536
		}
		g, a, bb, c, d, e, f := p[0], p[1], p[2], p[3], p[4], p[5], p[6]
		pow := func(v float64) float64 { return math.Pow(max(0, v), g) }
		return func(v float64) float64 {
			switch {
			case kind == 0:
				return pow(v)
			case kind == 1 && a*v+bb >= 0:
				return pow(a*v + bb)
			case kind == 1:
				return 0
			case kind == 2 && a*v+bb >= 0:
				return pow(a*v+bb) + c
			case kind == 2:
				return c
			case v >= d && kind == 3:
				return pow(a*v + bb)
			case v >= d:
				return pow(a*v+bb) + e
			case kind == 3:
				return c * v
			}
			return c*v + f
		}, nil
	}
	return nil, fmt.Errorf("a tone curve of type %q", b[:4])
}
