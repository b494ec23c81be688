package task

import (
	"context"
	"sync"
)

// parallel calls do for 0 to n-1 on workers goroutines until one fails, and done
// after each call that has not, one at a time. The error is the first to be
// noticed, or ctx's cause.
func parallel(ctx context.Context, n, workers int, do func(i int) error, done func(i int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(max(workers, 1), n) {
		wg.Go(func() {
			for i := range jobs {
				if err := do(i); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				done(i)
				mu.Unlock()
			}
		})
	}
feed:
	for i := range n {
		select {
		case jobs <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(jobs)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
