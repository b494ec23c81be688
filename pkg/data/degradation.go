package data

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// Tasks.
const (
	Demosaic = "demosaic"
	Scale    = "scale"
	Fill     = "fill"
)

// Patterns lists the four Bayer patterns, named by the colours of the 2x2 cell
// in reading order.
func Patterns() []string { return []string{"rggb", "bggr", "grbg", "gbrg"} }

// Degradation says how samples are taken from a clean image: the
// `data.degradation` section of an experiment.
type Degradation struct {
	Task         string     `yaml:"task" json:"task"`                                           // demosaic | scale | fill
	Pattern      string     `yaml:"pattern,omitempty" json:"pattern,omitempty"`                 // demosaic: rggb | bggr | grbg | gbrg | any (drawn per example); default rggb
	Scale        int        `yaml:"scale,omitempty" json:"scale,omitempty"`                     // scale: 2 | 3 | 4; sample (i,j) is pixel (s*i,s*j); default 2
	Missing      float64    `yaml:"missing,omitempty" json:"missing,omitempty"`                 // fill: fraction of pixels missing, in (0, 1)
	MissingRange [2]float64 `yaml:"missing_range,flow,omitempty" json:"missing_range,omitzero"` // fill: instead of missing: the fraction is drawn from [low, high] per example
	Shape        string     `yaml:"shape,omitempty" json:"shape,omitempty"`                     // fill: random | block; default random
	Block        int        `yaml:"block,omitempty" json:"block,omitempty"`                     // fill, block: side of the square blocks in pixels, default 8
	Noise        float64    `yaml:"noise,omitempty" json:"noise,omitempty"`                     // sigma of Gaussian noise on the samples, in units of 1/255
}

// Resolved fills the defaults of the task in and checks the values. A key that
// the task does not use must be unset. Errors name the key, what was found and
// what was expected.
func (d Degradation) Resolved() (Degradation, error) {
	bad := func(key string, found any, expected string) (Degradation, error) {
		return d, fmt.Errorf("data.degradation.%s: found %v, expected %s", key, found, expected)
	}
	switch d.Task {
	case Demosaic, Scale, Fill:
	default:
		return bad("task", fmt.Sprintf("%q", d.Task), "demosaic, scale or fill")
	}
	unused := func(task string) string {
		return fmt.Sprintf("nothing: the key belongs to task %s, this is %s", task, d.Task)
	}
	if d.Task != Demosaic && d.Pattern != "" {
		return bad("pattern", d.Pattern, unused(Demosaic))
	}
	if d.Task != Scale && d.Scale != 0 {
		return bad("scale", d.Scale, unused(Scale))
	}
	if d.Task != Fill {
		switch {
		case d.Missing != 0:
			return bad("missing", d.Missing, unused(Fill))
		case d.MissingRange != [2]float64{}:
			return bad("missing_range", d.MissingRange, unused(Fill))
		case d.Shape != "":
			return bad("shape", d.Shape, unused(Fill))
		case d.Block != 0:
			return bad("block", d.Block, unused(Fill))
		}
	}
	switch d.Task {
	case Demosaic:
		if d.Pattern == "" {
			d.Pattern = "rggb"
		}
		if d.Pattern != "any" {
			if _, err := cell(d.Pattern); err != nil {
				return bad("pattern", fmt.Sprintf("%q", d.Pattern), strings.Join(Patterns(), ", ")+" or any")
			}
		}
	case Scale:
		if d.Scale == 0 {
			d.Scale = 2
		}
		if d.Scale < 2 || d.Scale > 4 {
			return bad("scale", d.Scale, "2, 3 or 4")
		}
	case Fill:
		lo, hi := d.MissingRange[0], d.MissingRange[1]
		switch {
		case d.MissingRange == [2]float64{}:
			if !(d.Missing > 0 && d.Missing < 1) {
				return bad("missing", d.Missing, "a fraction in (0, 1), or missing_range instead")
			}
		case d.Missing != 0:
			return bad("missing", d.Missing, "nothing beside missing_range")
		case !(lo >= 0 && lo <= hi && hi < 1 && hi > 0):
			return bad("missing_range", d.MissingRange, "[low, high] with 0 <= low <= high < 1")
		}
		switch d.Shape {
		case "":
			d.Shape = "random"
		case "random", "block":
		default:
			return bad("shape", fmt.Sprintf("%q", d.Shape), "random or block")
		}
		if d.Shape == "block" && d.Block == 0 {
			d.Block = 8
		}
		if d.Block < 0 || d.Shape == "random" && d.Block != 0 {
			return bad("block", d.Block, "a side >= 1, with shape block")
		}
	}
	if !(d.Noise >= 0 && d.Noise <= 255) {
		return bad("noise", d.Noise, "a sigma from 0 to 255 (8-bit units)")
	}
	return d, nil
}

// Validate returns the error Resolved would give.
func (d Degradation) Validate() error {
	_, err := d.Resolved()
	return err
}

// CheckChannels says whether signals of c channels can be degraded so.
func (d Degradation) CheckChannels(c int) error {
	switch {
	case d.Task == Demosaic && c != 3:
		return fmt.Errorf("model.channels: found %d, expected 3 for task demosaic", c)
	case c != 1 && c != 3:
		return fmt.Errorf("model.channels: found %d, expected 1 or 3", c)
	}
	return nil
}

// Drawn says whether the mask needs a random number generator.
func (d Degradation) Drawn() bool { return d.Task == Fill || d.Pattern == "any" }

var errPattern = errors.New("unknown Bayer pattern")

// cell gives the channel (0 R, 1 G, 2 B) of the four places of the 2x2 cell.
func cell(pattern string) ([4]int, error) {
	switch pattern {
	case "rggb":
		return [4]int{0, 1, 1, 2}, nil
	case "bggr":
		return [4]int{2, 1, 1, 0}, nil
	case "grbg":
		return [4]int{1, 0, 2, 1}, nil
	case "gbrg":
		return [4]int{1, 2, 0, 1}, nil
	}
	return [4]int{}, fmt.Errorf("%w: found %q, expected %s", errPattern, pattern, strings.Join(Patterns(), ", "))
}

// BayerMask returns the mask (c,h,w) of a Bayer sensor: pixel (y,x) knows the
// one channel that pattern names at (y mod 2, x mod 2). c must be 3.
func BayerMask(pattern string, c, h, w int) ([]float32, error) {
	if _, err := cell(pattern); err != nil {
		return nil, err
	}
	if c != 3 {
		return nil, fmt.Errorf("Bayer mask: found %d channels, expected 3", c)
	}
	mask := make([]float32, c*h*w)
	bayerInto(mask, pattern, h, w)
	return mask, nil
}

func bayerInto(mask []float32, pattern string, h, w int) {
	cl, _ := cell(pattern)
	clear(mask)
	for y := range h {
		for x0 := range min(2, w) {
			row := mask[cl[y%2*2+x0]*h*w+y*w:][:w]
			for x := x0; x < w; x += 2 {
				row[x] = 1
			}
		}
	}
}

// GridMask returns the mask (c,h,w) of a decimation by s: pixel (y,x) is known,
// in all channels, where s divides y and x.
func GridMask(s, c, h, w int) []float32 {
	mask := make([]float32, c*h*w)
	gridInto(mask, s, c, h, w)
	return mask
}

func gridInto(mask []float32, s, c, h, w int) {
	clear(mask)
	for k := range c {
		for y := 0; y < h; y += s {
			row := mask[(k*h+y)*w:][:w]
			for x := 0; x < w; x += s {
				row[x] = 1
			}
		}
	}
}

// Mask returns a mask (c,h,w). d must be valid and fit c (see Validate and
// CheckChannels; Mask panics otherwise). rng is used where Drawn says so and
// may be nil elsewhere.
//
// With task fill all channels share one mask in which exactly
// round(missing*h*w) pixels are missing, though never all.
func (d Degradation) Mask(c, h, w int, rng *rand.Rand) []float32 {
	mask := make([]float32, c*h*w)
	d.MaskInto(mask, c, h, w, rng)
	return mask
}

// MaskInto is Mask into a slice of c*h*w values.
func (d Degradation) MaskInto(mask []float32, c, h, w int, rng *rand.Rand) {
	d, err := d.Resolved()
	if err == nil {
		err = d.CheckChannels(c)
	}
	if err != nil {
		panic("data: Mask of an invalid degradation: " + err.Error())
	}
	mask = mask[:c*h*w]
	switch d.Task {
	case Demosaic:
		p := d.Pattern
		if p == "any" {
			p = Patterns()[rng.IntN(4)]
		}
		bayerInto(mask, p, h, w)
	case Scale:
		gridInto(mask, d.Scale, c, h, w)
	case Fill:
		missing := d.Missing
		if d.MissingRange != [2]float64{} {
			missing = d.MissingRange[0] + rng.Float64()*(d.MissingRange[1]-d.MissingRange[0])
		}
		n := h * w
		holes := min(int(math.Round(missing*float64(n))), n-1)
		if d.Shape == "block" {
			blockInto(mask[:n], holes, d.Block, h, w, rng)
		} else {
			randomInto(mask[:n], holes, rng)
		}
		for k := 1; k < c; k++ {
			copy(mask[k*n:(k+1)*n], mask[:n])
		}
	}
}

// randomInto clears exactly holes places of mask, every choice equally likely,
// by selection sampling (Knuth, volume 2, 3.4.2, algorithm S).
func randomInto(mask []float32, holes int, rng *rand.Rand) {
	for i := range mask {
		// hole is 1 where the draw is below holes: the sign of the difference,
		// since a branch here would be mispredicted all the time.
		hole := (int64(rng.Uint32N(uint32(len(mask)-i))) - int64(holes)) >> 63 & 1
		holes -= int(hole)
		mask[i] = float32(1 - hole)
	}
}

// blockInto clears side x side squares at random places, which may overhang the
// border and each other, until exactly holes pixels are missing; the last one
// is cut short.
func blockInto(mask []float32, holes, side, h, w int, rng *rand.Rand) {
	for i := range mask {
		mask[i] = 1
	}
	side = min(side, max(h, w))
	for holes > 0 {
		y0 := rng.IntN(h+side-1) - side + 1
		x0 := rng.IntN(w+side-1) - side + 1
		for y := max(y0, 0); y < min(y0+side, h); y++ {
			for x := max(x0, 0); x < min(x0+side, w) && holes > 0; x++ {
				if mask[y*w+x] != 0 {
					mask[y*w+x] = 0
					holes--
				}
			}
		}
	}
}

// Apply degrades clean (c,h,w): it draws the mask, then returns
//
//	y = mask * (clean + noise/255 * N(0,1))
//
// and the mask. Noisy samples are not clipped to [0,1]. The draws come from rng
// in a fixed order: mask, then noise channel by channel in reading order at the
// known samples. rng may be nil where neither needs it. Panics as Mask does.
func (d Degradation) Apply(clean []float32, c, h, w int, rng *rand.Rand) (y, mask []float32) {
	y, mask = make([]float32, c*h*w), make([]float32, c*h*w)
	d.ApplyInto(y, mask, clean, c, h, w, rng)
	return y, mask
}

// ApplyInto is Apply into slices of c*h*w values.
func (d Degradation) ApplyInto(y, mask, clean []float32, c, h, w int, rng *rand.Rand) {
	d.MaskInto(mask, c, h, w, rng)
	n := c * h * w
	y, mask, clean = y[:n], mask[:n], clean[:n]
	if d.Noise == 0 {
		for i, v := range clean {
			// Not a product: a NaN at a missing pixel must not get through.
			if mask[i] != 0 {
				y[i] = v
			} else {
				y[i] = 0
			}
		}
		return
	}
	sigma := d.Noise / 255
	for i, v := range clean {
		if mask[i] != 0 {
			y[i] = v + float32(sigma*rng.NormFloat64())
		} else {
			y[i] = 0
		}
	}
}

// Rand returns the generator that belongs to a seed and two counters, such as
// epoch and index. Different arguments give unrelated streams.
func Rand(seed, a, b uint64) *rand.Rand {
	h := mix(seed + 0x9e3779b97f4a7c15)
	h = mix(h ^ mix(a+0xbf58476d1ce4e5b9))
	return rand.New(rand.NewPCG(h, mix(h^mix(b+0x94d049bb133111eb))))
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
