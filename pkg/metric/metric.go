// Package metric measures how close a restored image is to the original. Every
// figure carries the name of its protocol, because rounding, borders and colour
// spaces move PSNR by more than methods differ.
package metric

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Protocol names a way to measure PSNR.
type Protocol string

// The protocols. Every one rounds both images to 8 bits and clamps them first.
const (
	// RGB is the PSNR of the MSE over all channels and pixels, no crop.
	RGB Protocol = "rgb"
	// CPSNR is RGB with 10 pixels left out at every border, as is common for
	// demosaicking.
	CPSNR Protocol = "cpsnr-b10"
	// Y is the PSNR of the luma of studio-range YCbCr, rounded to 8 bits, with
	// as many pixels left out at every border as the scale, as is common for
	// super-resolution. One channel is taken to be that luma already.
	Y Protocol = "y"
)

const cpsnrBorder = 10

// ProtocolNames lists the protocols, the default first.
func ProtocolNames() []string { return []string{string(RGB), string(CPSNR), string(Y)} }

// ParseProtocol checks a name from a flag or config.
func ParseProtocol(name string) (Protocol, error) {
	for _, p := range ProtocolNames() {
		if p == name {
			return Protocol(p), nil
		}
	}
	return "", fmt.Errorf("protocol: found %q, expected one of %s", name, strings.Join(ProtocolNames(), ", "))
}

// ErrTooSmall is wrapped by Measure's error when the crop leaves no pixel.
var ErrTooSmall = errors.New("image too small for the protocol")

// level is the 8-bit level 0..255 of a sample: 255 v rounded, halves up,
// clamped; NaN gives 0. It is imageio.Round8 before the division by 255.
func level(v float32) float64 {
	if !(v > 0) {
		return 0
	}
	if v >= 1 {
		return 255
	}
	return math.Floor(float64(v)*255 + 0.5)
}

// FromMSE is the PSNR in dB of a mean squared error of samples in 0..255:
// 10 log10(255^2 / mse), +Inf for 0.
func FromMSE(mse float64) float64 {
	if mse == 0 {
		return math.Inf(1)
	}
	return 10 * math.Log10(255*255/mse)
}

// PSNR is the peak signal-to-noise ratio in dB of two signals in [0,1], of any
// shape, after both are rounded to 8 bits: 10 log10(255^2 / mean (a-b)^2) over
// all values together. Equal signals give +Inf; a non-finite value in either
// gives NaN, as do empty signals. Different lengths are a caller's bug and
// panic.
func PSNR(a, b []float32) float64 {
	if len(a) != len(b) {
		panic(fmt.Sprintf("metric.PSNR: lengths %d and %d", len(a), len(b)))
	}
	if len(a) == 0 {
		return math.NaN()
	}
	var sum float64
	for i := range a {
		if bad(a[i]) || bad(b[i]) {
			return math.NaN()
		}
		d := level(a[i]) - level(b[i])
		sum += d * d
	}
	return FromMSE(sum / float64(len(a)))
}

func bad(v float32) bool { return v-v != 0 }

// Measure is the PSNR in dB of got against ref, both (c,h,w) in [0,1], by the
// protocol p. scale is the upscaling factor, which only Y looks at (values
// below 1 count as no crop). Equal images give +Inf. Errors: an unknown
// protocol, a channel count that is not 1 or 3, wrong lengths, a non-finite
// sample, and ErrTooSmall if the crop leaves nothing.
func Measure(p Protocol, scale int, ref, got []float32, c, h, w int) (float64, error) {
	if err := checkPair(ref, got, c, h, w); err != nil {
		return math.NaN(), fmt.Errorf("psnr %s: %w", p, err)
	}
	border := 0
	switch p {
	case RGB:
	case CPSNR:
		border = cpsnrBorder
	case Y:
		border = max(0, scale)
	default:
		_, err := ParseProtocol(string(p))
		return math.NaN(), err
	}
	if h <= 2*border || w <= 2*border {
		return math.NaN(), fmt.Errorf("psnr %s: found %d x %d pixels, expected more than %d on each side: %w", p, w, h, 2*border, ErrTooSmall)
	}
	n := h * w
	at := func(c, i int) float64 { return level(ref[c*n+i]) - level(got[c*n+i]) }
	planes := c
	if p == Y && c == 3 {
		at = func(_, i int) float64 { return luma8(ref, n, i) - luma8(got, n, i) }
		planes = 1
	}
	var sum float64
	for k := range planes {
		for y := border; y < h-border; y++ {
			for x := border; x < w-border; x++ {
				d := at(k, y*w+x)
				sum += d * d
			}
		}
	}
	return FromMSE(sum / float64(planes*(h-2*border)*(w-2*border))), nil
}

// luma8 is the 8-bit studio-range luma (BT.601) of pixel i of an RGB image
// (3,n) rounded to 8 bits: what MATLAB's rgb2ycbcr gives for uint8 images.
func luma8(pix []float32, n, i int) float64 {
	y := 16 + (65.481*level(pix[i])+128.553*level(pix[n+i])+24.966*level(pix[2*n+i]))/255
	return math.Floor(y + 0.5)
}

func checkPair(ref, got []float32, c, h, w int) error {
	switch {
	case c != 1 && c != 3:
		return fmt.Errorf("found %d channels, expected 1 or 3", c)
	case h < 1 || w < 1:
		return fmt.Errorf("found %d x %d pixels, expected at least 1 x 1: %w", w, h, ErrTooSmall)
	case len(ref) != c*h*w || len(got) != c*h*w:
		return fmt.Errorf("found %d and %d samples, expected %d x %d x %d", len(ref), len(got), c, h, w)
	}
	for _, v := range [][]float32{ref, got} {
		for i, x := range v {
			if bad(x) {
				return fmt.Errorf("found %v at sample %d, expected finite samples", x, i)
			}
		}
	}
	return nil
}

// SSIM constants: an 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03.
const (
	ssimWindow = 11
	ssimSigma  = 1.5
	ssimC1     = (0.01 * 255) * (0.01 * 255)
	ssimC2     = (0.03 * 255) * (0.03 * 255)
)

// SSIM is the structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004) of
// two images (c,h,w) in [0,1], rounded to 8 bits: the mean over the windows
// that lie wholly inside, then the mean over channels. It is NaN if a side is
// below 11 pixels, if the lengths do not fit the shape or if a sample is not
// finite. Per window, with Gaussian weights g:
//
//	((2 ma mb + C1) (2 sab + C2)) / ((ma^2 + mb^2 + C1) (saa + sbb + C2)),
//	ma = sum g a, saa = sum g a^2 - ma^2, sab = sum g a b - ma mb.
func SSIM(ref, got []float32, c, h, w int) float64 {
	if c < 1 || h < ssimWindow || w < ssimWindow || len(ref) != c*h*w || len(got) != c*h*w {
		return math.NaN()
	}
	var g [ssimWindow]float64
	var norm float64
	for i := range g {
		d := float64(i - ssimWindow/2)
		g[i] = math.Exp(-d * d / (2 * ssimSigma * ssimSigma))
		norm += g[i]
	}
	for i := range g {
		g[i] /= norm
	}

	// The window is separable: rows are filtered as they come in, a ring keeps
	// the last eleven, and a column pass over the ring gives one row of windows.
	const planes = 5 // a, b, a^2, b^2, ab
	ow := w - ssimWindow + 1
	ring := make([]float64, ssimWindow*planes*ow)
	in := make([]float64, planes*w)
	col := make([]float64, planes*ow)
	var total float64
	for k := range c {
		a, b := ref[k*h*w:(k+1)*h*w], got[k*h*w:(k+1)*h*w]
		var sum float64
		for y := range h {
			for x := range w {
				if bad(a[y*w+x]) || bad(b[y*w+x]) {
					return math.NaN()
				}
				va, vb := level(a[y*w+x]), level(b[y*w+x])
				in[x], in[w+x], in[2*w+x], in[3*w+x], in[4*w+x] = va, vb, va*va, vb*vb, va*vb
			}
			slot := ring[y%ssimWindow*planes*ow:][:planes*ow]
			for p := range planes {
				src, dst := in[p*w:(p+1)*w], slot[p*ow:(p+1)*ow]
				for x := range dst {
					var s float64
					for i, gi := range g {
						s += gi * src[x+i]
					}
					dst[x] = s
				}
			}
			if y < ssimWindow-1 {
				continue
			}
			clear(col)
			for i, gi := range g {
				slot := ring[(y-ssimWindow+1+i)%ssimWindow*planes*ow:][:planes*ow]
				for x, v := range slot {
					col[x] += gi * v
				}
			}
			for x := range ow {
				ma, mb := col[x], col[ow+x]
				saa, sbb, sab := col[2*ow+x]-ma*ma, col[3*ow+x]-mb*mb, col[4*ow+x]-ma*mb
				sum += (2*ma*mb + ssimC1) * (2*sab + ssimC2) / ((ma*ma + mb*mb + ssimC1) * (saa + sbb + ssimC2))
			}
		}
		total += sum / float64((h-ssimWindow+1)*ow)
	}
	return total / float64(c)
}
