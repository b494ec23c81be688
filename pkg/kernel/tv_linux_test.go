package kernel

import (
	"math/rand/v2"
	"testing"
)

// TestTVStaysInItsSlices puts every slice against memory that may not be read,
// first at its end and then at its beginning.
func TestTVStaysInItsSlices(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(29, 1))
		for _, atEnd := range []bool{true, false} {
			for _, n := range []int{1, 5, 8, 11, 16, 31, 32, 33, 64, 71, 150} {
				take := func(n int) []float32 { return cliff(t, n, atEnd) }
				z := newTVCase(rng, n, 3, take)
				z.run(TVFlux[float32], TVFluxGrad[float32], take)
			}
		}
	})
}
