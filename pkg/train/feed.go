package train

import "context"

// batch holds the inputs of one step.
type batch struct {
	step   int
	inputs [][]float32
	err    error
}

// feed prepares the batches of steps from, from+1, ... to-1 in a goroutine of
// its own, one ahead of the step that computes. fill(step, inputs) must depend
// on step alone.
type feed struct {
	ready chan *batch
	free  chan *batch
	stop  context.CancelFunc
	ended chan struct{}
}

func newFeed(from, to int, sizes []int, fill func(step int, inputs [][]float32) error) *feed {
	ctx, cancel := context.WithCancel(context.Background())
	f := &feed{ready: make(chan *batch, 1), free: make(chan *batch, 2), stop: cancel, ended: make(chan struct{})}
	for range 2 {
		b := &batch{}
		for _, n := range sizes {
			b.inputs = append(b.inputs, make([]float32, n))
		}
		f.free <- b
	}
	go func() {
		defer close(f.ended)
		for step := from; step < to; step++ {
			select {
			case b := <-f.free:
				b.step, b.err = step, fill(step, b.inputs)
				select {
				case f.ready <- b:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return f
}

// next waits for the next batch; give it back with recycle.
func (f *feed) next() (*batch, error) {
	b := <-f.ready
	return b, b.err
}

func (f *feed) recycle(b *batch) { f.free <- b }

// close ends the goroutine and waits for it.
func (f *feed) close() {
	f.stop()
	<-f.ended
}
