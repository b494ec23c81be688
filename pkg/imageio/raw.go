package imageio

import (
	"fmt"
	"math"
)

// Raw says how to make a picture out of the mosaic of a camera: the sensor's
// samples, linear in light, 0 at its black and 1 at its white level.
type Raw struct {
	Pattern  string     // Bayer pattern of the first 2x2 samples: rggb, bggr, grbg or gbrg
	Balance  [3]float64 // factors that make the light of the scene white; the smallest is 1
	Matrix   [9]float64 // from balanced camera colours to linear sRGB, row by row; keeps white
	Exposure float64    // factor on the light of the picture that the file asks for, 1 for none
}

// letters of a pattern's colours.
const letters = "rgb"

// orient is the description of a mosaic of w by h samples that is turned as
// orient turns its samples. Four patterns turn into each other.
func (r *Raw) orient(w, h, o int) *Raw {
	if r == nil {
		return nil
	}
	index := make([]float32, 0, 4)
	// The corner of the mosaic that becomes the first one decides. What orient
	// does to an image of the same parity is the same for the pattern.
	sw, sh := 2+w%2, 2+h%2
	for y := range sh {
		for x := range sw {
			index = append(index, float32(y%2*2+x%2))
		}
	}
	out := make([]float32, len(index))
	orientPlane(out, index, sw, sh, o)
	dw := sw
	if o >= 5 {
		dw = sh
	}
	n := *r
	n.Pattern = ""
	for _, k := range []int{0, 1, dw, dw + 1} {
		n.Pattern += string(r.Pattern[int(out[k])])
	}
	return &n
}

// colour is the channel of sample (x,y): 0, 1 or 2.
func (r *Raw) colour(x, y int) int {
	switch r.Pattern[y&1*2+x&1] {
	case 'r':
		return 0
	case 'g':
		return 1
	}
	return 2
}

// Balanced returns the mosaic (H,W) with its white balance applied: sample times
// factor of its colour, 1 at most, so that what is too bright in any colour is
// white.
func (r *Raw) Balanced(pix []float32, h, w int) []float32 {
	out := make([]float32, h*w)
	for y := range h {
		f := [2]float32{float32(r.Balance[r.colour(0, y)]), float32(r.Balance[r.colour(1, y)])}
		row, src := out[y*w:(y+1)*w], pix[y*w:(y+1)*w]
		for x, v := range src {
			row[x] = min(1, v*f[x&1])
		}
	}
	return out
}

// Develop turns balanced camera colours pix (3,H,W), linear in light, into sRGB,
// in place: v = encode(clip(Exposure Matrix v)).
func (r *Raw) Develop(pix []float32) {
	n := len(pix) / 3
	var m [9]float32
	for i, v := range r.Matrix {
		m[i] = float32(v * r.Exposure)
	}
	c := SRGB()
	red, green, blue := pix[:n], pix[n:2*n], pix[2*n:3*n]
	for i := range n {
		a, b, d := red[i], green[i], blue[i]
		red[i] = c.Encode(m[0]*a + m[1]*b + m[2]*d)
		green[i] = c.Encode(m[3]*a + m[4]*b + m[5]*d)
		blue[i] = c.Encode(m[6]*a + m[7]*b + m[8]*d)
	}
}

// matrix is 3x3, row by row.
type matrix [9]float64

func (a matrix) mul(b matrix) (c matrix) {
	for i := range 3 {
		for j := range 3 {
			c[3*i+j] = a[3*i]*b[j] + a[3*i+1]*b[3+j] + a[3*i+2]*b[6+j]
		}
	}
	return c
}

func (a matrix) apply(v [3]float64) (u [3]float64) {
	for i := range 3 {
		u[i] = a[3*i]*v[0] + a[3*i+1]*v[1] + a[3*i+2]*v[2]
	}
	return u
}

// inverse is by cofactors; false for a matrix that has none.
func (a matrix) inverse() (matrix, bool) {
	c := matrix{
		a[4]*a[8] - a[5]*a[7], a[2]*a[7] - a[1]*a[8], a[1]*a[5] - a[2]*a[4],
		a[5]*a[6] - a[3]*a[8], a[0]*a[8] - a[2]*a[6], a[2]*a[3] - a[0]*a[5],
		a[3]*a[7] - a[4]*a[6], a[1]*a[6] - a[0]*a[7], a[0]*a[4] - a[1]*a[3],
	}
	det := a[0]*c[0] + a[1]*c[3] + a[2]*c[6]
	if !(math.Abs(det) > 1e-9) || math.IsInf(det, 0) {
		return a, false
	}
	for i := range c {
		c[i] /= det
	}
	return c, true
}

func diagonal(v [3]float64) matrix { return matrix{0: v[0], 4: v[1], 8: v[2]} }

// Colours of standard illuminants, and the matrices of sRGB and of Bradford's
// adaptation.
var (
	whiteD50 = [3]float64{0.96422, 1, 0.82521}
	// sRGB of XYZ under D50: IEC 61966-2-1 adapted by Bradford's method.
	srgbD50 = matrix{
		3.1338561, -1.6168667, -0.4906146,
		-0.9787684, 1.9161415, 0.0334540,
		0.0719453, -0.2289914, 1.4052427,
	}
	bradford = matrix{0.8951, 0.2664, -0.1614, -0.7502, 1.7135, 0.0367, 0.0389, -0.0685, 1.0296}
)

// adapt maps XYZ under one white to XYZ under another, by Bradford's method.
func adapt(from, to [3]float64) matrix {
	inv, _ := bradford.inverse()
	a, b := bradford.apply(from), bradford.apply(to)
	return inv.mul(diagonal([3]float64{b[0] / a[0], b[1] / a[1], b[2] / a[2]})).mul(bradford)
}

// whiteOf is the white of chromaticity (x,y), Y = 1.
func whiteOf(xy [2]float64) [3]float64 {
	return [3]float64{xy[0] / xy[1], 1, (1 - xy[0] - xy[1]) / xy[1]}
}

// temperature is the correlated colour temperature of a chromaticity in kelvin,
// by McCamy's polynomial.
func temperature(xy [2]float64) float64 {
	n := (xy[0] - 0.3320) / (0.1858 - xy[1])
	return min(25000, max(1500, ((449*n+3525)*n+6823.3)*n+5520.33))
}

// illuminant is the colour temperature of an EXIF light source, 0 if unknown.
func illuminant(code uint32) float64 {
	switch code {
	case 3, 17: // tungsten, A
		return 2856
	case 1, 4, 9, 18, 20: // daylight, flash, fine weather, B, D55
		return 5500
	case 10, 19, 21: // cloudy, C, D65
		return 6504
	case 11, 22: // shade, D75
		return 7504
	case 12:
		return 6430
	case 2, 14: // fluorescent, white fluorescent
		return 4230
	case 13:
		return 5000
	case 15:
		return 3450
	case 23:
		return 5003
	case 24:
		return 3200
	}
	return 0
}

// camera is what a DNG file says of colours, by calibration illuminant.
type camera struct {
	kelvin  [2]float64 // 0 for none
	colour  [2]*matrix // XYZ to camera
	forward [2]*matrix // balanced camera to XYZ under D50
	calib   [2]matrix
	analog  matrix
	neutral *[3]float64 // camera colour of white, or
	white   *[2]float64 // its chromaticity
}

// blend interpolates between the two illuminants' matrices, linearly in the
// reciprocal of the temperature, as the DNG specification says.
func (c *camera) blend(m [2]*matrix, kelvin float64) *matrix {
	switch {
	case m[0] == nil:
		return m[1]
	case m[1] == nil || c.kelvin[0] == 0 || c.kelvin[1] == 0 || c.kelvin[0] == c.kelvin[1]:
		return m[0]
	}
	t := (1/kelvin - 1/c.kelvin[1]) / (1/c.kelvin[0] - 1/c.kelvin[1])
	t = min(1, max(0, t))
	var out matrix
	for i := range out {
		out[i] = t*m[0][i] + (1-t)*m[1][i]
	}
	return &out
}

// toCamera maps XYZ to camera colours under a white of the given temperature.
func (c *camera) toCamera(kelvin float64) *matrix {
	m := c.blend(c.colour, kelvin)
	if m == nil {
		return nil
	}
	out := c.analog.mul(*c.blend([2]*matrix{&c.calib[0], &c.calib[1]}, kelvin)).mul(*m)
	return &out
}

// develop works out balance and matrix (DNG 1.6, chapter 6). The white is the one
// the camera found, given by its camera colour or its chromaticity; without both
// it is D55. With a camera colour the chromaticity follows by iteration, since
// the matrix depends on it. A file without matrices has its camera colours taken
// for those of sRGB.
func (c *camera) develop() (*Raw, error) {
	white := [2]float64{0.33242, 0.34743}
	if c.white != nil {
		white = *c.white
	}
	if c.neutral != nil && c.toCamera(5000) != nil {
		for range 30 {
			inv, ok := c.toCamera(temperature(white)).inverse()
			if !ok {
				return nil, fmt.Errorf("a colour matrix without inverse")
			}
			v := inv.apply(*c.neutral)
			sum := v[0] + v[1] + v[2]
			if !(sum > 0) || !(v[1] > 0) {
				return nil, fmt.Errorf("a white balance that no light has")
			}
			next := [2]float64{v[0] / sum, v[1] / sum}
			moved := math.Abs(next[0]-white[0]) + math.Abs(next[1]-white[1])
			white = next
			if moved < 1e-7 {
				break
			}
		}
	}
	if !(white[0] > 0.01) || !(white[1] > 0.01) || !(white[0]+white[1] < 1) {
		return nil, fmt.Errorf("a white of chromaticity %.3g, %.3g", white[0], white[1])
	}
	kelvin := temperature(white)
	to := c.toCamera(kelvin)
	neutral := [3]float64{1, 1, 1}
	switch {
	case c.neutral != nil:
		neutral = *c.neutral
	case to != nil:
		neutral = to.apply(whiteOf(white))
	}
	most := max(neutral[0], neutral[1], neutral[2])
	r := &Raw{Exposure: 1, Matrix: matrix{0: 1, 4: 1, 8: 1}}
	for i, v := range neutral {
		if !(v > most/1000) || math.IsInf(most, 0) {
			return nil, fmt.Errorf("a white balance of %.3g", neutral)
		}
		r.Balance[i] = most / v
	}
	if to == nil {
		return r, nil
	}
	var full matrix // balanced camera to XYZ under D50
	if f := c.blend(c.forward, kelvin); f != nil {
		ref, ok := c.analog.mul(*c.blend([2]*matrix{&c.calib[0], &c.calib[1]}, kelvin)).inverse()
		if !ok {
			return nil, fmt.Errorf("a camera calibration without inverse")
		}
		n := ref.apply(neutral)
		d, ok := diagonal(n).inverse()
		if !ok {
			return nil, fmt.Errorf("a camera calibration without inverse")
		}
		full = f.mul(d).mul(ref).mul(diagonal(neutral))
	} else {
		inv, ok := to.inverse()
		if !ok {
			return nil, fmt.Errorf("a colour matrix without inverse")
		}
		full = adapt(whiteOf(white), whiteD50).mul(inv).mul(diagonal(neutral))
	}
	m := srgbD50.mul(full)
	// White stays white: the sums of the rows, equal but for rounding and for
	// the scale of the camera's colours, become 1.
	for i := range 3 {
		sum := m[3*i] + m[3*i+1] + m[3*i+2]
		if !(sum > 1e-6) || math.IsInf(sum, 0) {
			return nil, fmt.Errorf("a colour matrix that loses white")
		}
		for j := range 3 {
			m[3*i+j] /= sum
		}
	}
	r.Matrix = m
	return r, nil
}
