package kernel

// Scratch is a stack of temporary slices, reused from call to call so that a
// warmed-up training step allocates nothing. It belongs to one goroutine; the
// zero value and nil are ready to use (nil allocates every time).
type Scratch[T Float] struct {
	blocks [][]T // every block ever made, largest need first served in order
	block  int   // index of the block in use
	used   int   // elements taken from it
}

// Mark is a position to release back to.
type Mark struct{ block, used int }

// alignment is the granularity of Take in elements: 64 bytes of float32.
const alignment = 16

// minBlock is the smallest block in elements.
const minBlock = 1 << 16

// Take returns n elements of unspecified content, valid until the release of a
// mark set before.
func (s *Scratch[T]) Take(n int) []T {
	if s == nil {
		return make([]T, n)
	}
	need := (n + alignment - 1) / alignment * alignment
	for s.block < len(s.blocks) && s.used+need > len(s.blocks[s.block]) {
		s.block++
		s.used = 0
	}
	if s.block == len(s.blocks) {
		s.blocks = append(s.blocks, make([]T, max(need, minBlock)))
		s.used = 0
	}
	t := s.blocks[s.block][s.used : s.used+n : s.used+n]
	s.used += need
	return t
}

// TakeZero is Take with the elements set to zero.
func (s *Scratch[T]) TakeZero(n int) []T {
	t := s.Take(n)
	clear(t)
	return t
}

// Mark returns the present position.
func (s *Scratch[T]) Mark() Mark {
	if s == nil {
		return Mark{}
	}
	return Mark{s.block, s.used}
}

// Release gives back everything taken since m.
func (s *Scratch[T]) Release(m Mark) {
	if s != nil {
		s.block, s.used = m.block, m.used
	}
}

// Bytes returns the memory held, in bytes.
func (s *Scratch[T]) Bytes() int64 {
	if s == nil {
		return 0
	}
	var n int64
	var zero T
	size := int64(4)
	if _, ok := any(zero).(float64); ok {
		size = 8
	}
	for _, b := range s.blocks {
		n += int64(len(b)) * size
	}
	return n
}
