package infer

import "math/bits"

// samples keeps the known samples of an image (C,H,W) and where they are: one
// bit an element and the samples themselves in reading order. A mosaic of 24
// megapixels takes 105 MB so, where its samples and mask in float32 take 576.
type samples struct {
	words  int      // of bits a row (channel and line)
	known  []uint64 // (C*H, words): bit x of a row is set where pixel x is known
	first  []int    // (C*H) index into values of a row's first sample
	values []float32
}

// newSamples returns an empty set for rows = C*H rows of w pixels, of which
// mask says which are known; the values are taken by keep.
func newSamples(mask []float32, rows, w int) *samples {
	s := &samples{words: ceilDiv(w, 64)}
	s.known, s.first = make([]uint64, rows*s.words), make([]int, rows+1)
	n := 0
	for r := range rows {
		s.first[r] = n
		row := s.known[r*s.words : (r+1)*s.words]
		for x, v := range mask[r*w : (r+1)*w] {
			if v != 0 {
				row[x>>6] |= 1 << (x & 63)
				n++
			}
		}
	}
	s.first[rows] = n
	return s
}

// keep copies the known elements of y (C,H,W).
func (s *samples) keep(y []float32, w int) {
	rows := len(s.first) - 1
	s.values = make([]float32, 0, s.first[rows])
	for r := range rows {
		row := s.known[r*s.words : (r+1)*s.words]
		for x, v := range y[r*w : (r+1)*w] {
			if row[x>>6]>>(x&63)&1 != 0 {
				s.values = append(s.values, v)
			}
		}
	}
}

// read copies pixels [x, x+len(y)) of row r: y[i] is the sample and mask[i] 1
// where pixel x+i is known, both 0 where it is not.
func (s *samples) read(y, mask []float32, r, x int) {
	row := s.known[r*s.words : (r+1)*s.words]
	at := s.first[r]
	for _, b := range row[:x>>6] {
		at += bits.OnesCount64(b)
	}
	if x&63 != 0 {
		at += bits.OnesCount64(row[x>>6] << (64 - x&63))
	}
	values := s.values[at:s.first[r+1]]
	for i := range y {
		if j := x + i; row[j>>6]>>(j&63)&1 != 0 {
			y[i], mask[i] = values[0], 1
			values = values[1:]
		} else {
			y[i], mask[i] = 0, 0
		}
	}
}
