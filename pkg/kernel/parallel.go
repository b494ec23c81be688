package kernel

import "sync"

// Parallel calls f(worker, lo, hi) on contiguous parts of [0, n) that cover it,
// on at most workers goroutines, and returns when all are done. f must give each
// index the same result whatever the partition. With workers <= 1 it is
// f(0, 0, n) on the caller's goroutine.
func Parallel(workers, n int, f func(worker, lo, hi int)) {
	if n <= 0 {
		return
	}
	workers = min(workers, n)
	if workers <= 1 {
		f(0, 0, n)
		return
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { f(w, w*n/workers, (w+1)*n/workers) })
	}
	f(0, 0, n/workers)
	wg.Wait()
}
