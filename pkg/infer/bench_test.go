package infer

import (
	"context"
	"fmt"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// BenchmarkTile says which tile size is fastest for the default network on an
// image of 768x512, one worker.
func BenchmarkTile(b *testing.B) {
	net, err := model.New(model.Config{}, 1)
	if err != nil {
		b.Fatal(err)
	}
	const h, w = 512, 768
	d := data.Degradation{Task: data.Demosaic}
	n := New("default", net, d)
	y, mask := degraded(b, d, 3, h, w)
	for _, tile := range []int{0, 32, 64, 96, 128, 192, 256, 384, 1024} {
		b.Run(fmt.Sprint(tile), func(b *testing.B) {
			pixels := 0
			opt := Options{Tile: tile, Workers: 1}
			plan, err := n.engine.plan(h, w, opt, 1<<30)
			if err != nil {
				b.Fatal(err)
			}
			for _, l := range plan.blocks {
				pixels += l.tiles() * l.pixels()
			}
			restore := func() {
				if _, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, opt); err != nil {
					b.Fatal(err)
				}
			}
			restore() // compiles
			for b.Loop() {
				restore()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(pixels), "ns/window-pixel")
			b.ReportMetric(float64(pixels)/float64(h*w*net.Blocks()), "overhead")
		})
	}
	b.Logf("a window's pixel takes %.0f bytes", n.engine.cache.measured)
}
