// Package optim turns gradients into parameter updates: optimisers, learning
// rate schedules, gradient clipping and the moving average of weights. It knows
// float32 slices only, no graph.
//
// Every sum runs in one fixed order and every product is rounded to float32
// where the code says so, so the same inputs give the same bits on every
// machine, and a state that was saved and restored continues with the same
// bits.
package optim
