//go:build !amd64

package kernel

// run is never reached: no level above Generic exists on this architecture.
func (p *product) run(s *Scratch[float32], workers int) {
	panic("kernel: no assembly on this architecture")
}
