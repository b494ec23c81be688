package imageio

// orient returns the image as EXIF orientation o (1..8) says it is to be seen.
// The names of the cases say what is done to the stored pixels.
func (m *Image) orient(o int) *Image {
	if o <= 1 || o > 8 {
		return m
	}
	n := *m
	if o >= 5 {
		n.W, n.H = m.H, m.W
	}
	n.Pix = make([]float32, len(m.Pix))
	size := m.W * m.H
	for c := range m.C {
		orientPlane(n.Pix[c*size:(c+1)*size], m.Pix[c*size:(c+1)*size], m.W, m.H, o)
	}
	n.Raw = m.Raw.orient(m.W, m.H, o)
	if m.Alpha != nil {
		n.Alpha = make([]float32, size)
		orientPlane(n.Alpha, m.Alpha, m.W, m.H, o)
	}
	return &n
}

// orientPlane writes src (h,w) to dst, which is (w,h) for o >= 5. Walking along
// a row of dst, the source index starts at base + y*dy and steps by dx.
func orientPlane(dst, src []float32, w, h, o int) {
	dw, dh := w, h
	if o >= 5 {
		dw, dh = h, w
	}
	var base, dx, dy int
	switch o {
	case 2: // mirrored left to right
		base, dx, dy = w-1, -1, w
	case 3: // turned by 180 degrees
		base, dx, dy = w*h-1, -1, -w
	case 4: // mirrored top to bottom
		base, dx, dy = (h-1)*w, 1, -w
	case 5: // transposed
		base, dx, dy = 0, w, 1
	case 6: // turned by 90 degrees clockwise
		base, dx, dy = (h-1)*w, -w, 1
	case 7: // transposed along the other diagonal
		base, dx, dy = w*h-1, -w, -1
	case 8: // turned by 90 degrees counter-clockwise
		base, dx, dy = w-1, w, -1
	}
	for y := range dh {
		s := base + y*dy
		for x := range dw {
			dst[y*dw+x] = src[s]
			s += dx
		}
	}
}
