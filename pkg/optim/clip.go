package optim

import "math"

// GlobalNorm returns the Euclidean norm over all values of all slices. Squares
// are added in float64 in one fixed order: four running sums over each slice,
// joined at its end.
func GlobalNorm(slices [][]float32) float64 {
	var sum float64
	for _, s := range slices {
		var a, b, c, d float64
		for ; len(s) >= 4; s = s[4:] {
			v0, v1, v2, v3 := float64(s[0]), float64(s[1]), float64(s[2]), float64(s[3])
			a += float64(v0 * v0)
			b += float64(v1 * v1)
			c += float64(v2 * v2)
			d += float64(v3 * v3)
		}
		for _, v := range s {
			a += float64(float64(v) * float64(v))
		}
		sum += (a + b) + (c + d)
	}
	return math.Sqrt(sum)
}

// ClipGlobalNorm scales all gradients by max/norm where their global norm is
// above max > 0, and returns the norm before. A norm that is NaN or infinite is
// returned and nothing is changed: the caller skips such a step.
func ClipGlobalNorm(grads [][]float32, max float64) float64 {
	norm := GlobalNorm(grads)
	if !(max > 0) || !(norm > max) || math.IsInf(norm, 0) {
		return norm
	}
	f := float32(max / norm)
	for _, g := range grads {
		for i := range g {
			g[i] *= f
		}
	}
	return norm
}
