package kernel

// The fast convolutions copy a strip of image rows into zero-padded planes and
// run the "indirect" product kernel over them: row l = (channel, tap) of the
// matrix of patches is the strip itself, shifted by the tap, so patches are never
// gathered. A stride of 2 splits each plane into four by the parity of row and
// column, after which every tap is a plain shift again; the input gradient of a
// stride of 2 computes the four parities of dx one after the other.

// planes is the layout of padded image planes. Grid position (r, q) of phase
// (a, b), which is pixel (step*r+a, step*q+b) of the image, is at
//
//	(channel*phases*phases + a*phases + b)*plane + lead + (r-first+halo)*pitch + q
//
// for first-halo <= r < first+rows+halo. Columns -1 and gw, where there is a
// halo, and rows outside the image are zero.
type planes struct {
	channels, h, w int // of the image
	step, halo     int
	phases         int // per axis: step, or 1 without halo, where no tap meets the others
	gh, gw         int // grid: ceil(h/step), ceil(w/step)
	rows           int // grid rows of a strip, without halo
	pitch, plane   int
}

// lead is the space before the first row of a plane: room for column -1 and the
// alignment of a vector.
const lead = 16

// makePlanes lays out strips of rows rows. Rows whose width is a multiple of
// align keep a pitch that leaves them aligned; others are as dense as can be.
func makePlanes(channels, h, w, step, halo, rows, align int) planes {
	p := planes{channels: channels, h: h, w: w, step: step, halo: halo, rows: rows, phases: step}
	if halo == 0 {
		p.phases = 1
	}
	p.gh, p.gw = (h+step-1)/step, (w+step-1)/step
	switch {
	case halo == 0:
		p.pitch = p.gw
	case p.gw%align == 0:
		p.pitch = p.gw + lead
	default:
		p.pitch = p.gw + 1
	}
	// An odd number of cache lines spreads the channels over the cache's sets;
	// 32 elements more than the rows keep a vector that overhangs a plane away
	// from the next.
	lines := (lead + (rows+2*halo)*p.pitch + 32 + 15) / 16
	p.plane = 16 * (lines | 1)
	return p
}

// size returns the elements of the padded planes and what kernels may read
// beyond.
func (p *planes) size() int { return p.channels*p.phases*p.phases*p.plane + p.pitch + 64 }

// origin returns the index of grid position (first, 0) of plane 0.
func (p *planes) origin() int { return lead + p.halo*p.pitch }

// offset returns the distance in bytes of grid position (dr, dc) of phase (a, b)
// of a channel from the origin.
func (p *planes) offset(channel, a, b, dr, dc int) int {
	return 4 * (((channel*p.phases+a)*p.phases+b)*p.plane + dr*p.pitch + dc)
}

// fill copies rows first-halo to first+rows+halo of channels lo to hi of the
// image into the planes, which must be zero outside the rows.
func (p *planes) fill(dst, image []float32, first, rows, lo, hi int) {
	for ch := lo; ch < hi; ch++ {
		src := image[ch*p.h*p.w:][:p.h*p.w]
		switch {
		case p.step > 1:
			for a := range p.phases {
				p.fillSplit(dst[(ch*p.phases+a)*p.phases*p.plane:][:p.phases*p.plane], src, first, rows, a)
			}
		case p.halo == 0:
			copy(dst[ch*p.plane+lead:], src[first*p.w:][:rows*p.w])
		default:
			p.fillPlane(dst[ch*p.plane:][:p.plane], src, first, rows)
		}
	}
}

// fillPlane is fill for one channel and step 1.
func (p *planes) fillPlane(plane, src []float32, first, rows int) {
	// Rows h0 to h1 are inside the image.
	h0, h1 := max(0, first-p.halo), min(p.h, first+rows+p.halo)
	at := lead
	for range h0 - (first - p.halo) {
		clear(plane[at:][:p.w])
		at += p.pitch
	}
	if p.w >= 8 {
		// These keep the kernel inside the slices.
		d, s := plane[at:][:(h1-h0-1)*p.pitch+p.w], src[h0*p.w:h1*p.w]
		copyRowsavx2(h1-h0, p.w, &d[0], 4*p.pitch, &s[0], 4*p.w)
		at += (h1 - h0) * p.pitch
	} else {
		for h := h0; h < h1; h++ {
			copy(plane[at:], src[h*p.w:][:p.w])
			at += p.pitch
		}
	}
	for range first + rows + p.halo - h1 {
		clear(plane[at:][:p.w])
		at += p.pitch
	}
}

// fillSplit is fill for one channel, step 2 and the rows of parity a, whose
// phases of even and, with a halo, odd columns follow each other in dst.
func (p *planes) fillSplit(dst, src []float32, first, rows, a int) {
	for j := range rows + 2*p.halo {
		even := dst[lead+j*p.pitch:][:p.gw]
		var odd []float32
		if p.phases == 2 {
			odd = dst[p.plane+lead+j*p.pitch:][:p.gw]
		}
		h := (first+j-p.halo)*2 + a
		if h < 0 || h >= p.h {
			clear(even)
			clear(odd)
			continue
		}
		row := src[h*p.w:][:p.w]
		q := 0
		if blocks := p.w / 16; blocks > 0 && odd != nil {
			splitRowavx2(blocks, &even[0], &odd[0], &row[0])
			q = 8 * blocks
		}
		for ; q < p.gw; q++ {
			even[q] = row[2*q]
			if odd == nil {
				continue
			}
			if 2*q+1 < p.w {
				odd[q] = row[2*q+1]
			} else {
				odd[q] = 0
			}
		}
	}
}

// convPass is one product over the strips: packed weights of k terms per output
// channel, the byte offset of each term, and the parity of the output pixels it
// computes.
type convPass struct {
	packed []float32
	off    []int
	a, b   int
}

// convRun is a forward convolution or input gradient on its way.
type convRun struct {
	geometry
	in        planes
	src       []float32
	dst       []float32
	out       int // output channels
	oh, ow    int // output planes
	outStep   int
	passes    [4]convPass
	bias      *float32
	relu      bool
	strips    int // per image
	buffer    []float32
	bufferLen int // of one worker: padded planes, then outputs of one column of tiles
}

// stripBytes is the size aimed at for the padded planes of a strip.
const stripBytes = 256 << 10

// setInput chooses the strips and lays out the padded planes of the source:
// channels planes of h by w.
func (r *convRun) setInput(batch, workers, channels, h, w, step, halo int) {
	one := makePlanes(channels, h, w, step, halo, 1, r.cols)
	rows := min(max(stripBytes/(4*max(1, channels*one.phases*one.phases*one.pitch))-2*halo, 4), one.gh)
	r.strips = (one.gh + rows - 1) / rows
	if workers > batch*r.strips {
		r.strips = min(one.gh, (workers+batch-1)/batch)
	}
	rows = (one.gh + r.strips - 1) / r.strips
	r.strips = (one.gh + rows - 1) / rows
	r.in = makePlanes(channels, h, w, step, halo, rows, r.cols)
}

func (r *convRun) run(s *Scratch[float32], workers, batch int) {
	units := batch * r.strips
	workers = max(1, min(workers, units))
	r.bufferLen = r.in.size() + r.padded(r.out)*r.cols
	r.buffer = s.TakeZero(workers * r.bufferLen)
	if workers == 1 {
		r.work(0, 0, units)
		return
	}
	shared := *r
	Parallel(workers, units, func(worker, lo, hi int) { shared.work(worker, lo, hi) })
}

// work computes strips lo to hi of the batch.
func (r *convRun) work(worker, lo, hi int) {
	buffer := r.buffer[worker*r.bufferLen:][:r.bufferLen]
	tmp := buffer[r.in.size():]
	flags := 0
	if r.relu {
		flags = flagReLU
	}
	for u := lo; u < hi; u++ {
		image, first := u/r.strips, u%r.strips*r.in.rows
		rows := min(r.in.rows, r.in.gh-first)
		r.in.fill(buffer, r.src[image*r.in.channels*r.in.h*r.in.w:], first, rows, 0, r.in.channels)
		dst := r.dst[image*r.out*r.oh*r.ow:][:r.out*r.oh*r.ow]
		for i := range r.passes {
			if p := &r.passes[i]; p.packed != nil {
				r.pass(p, buffer, tmp, dst, first, rows, flags)
			}
		}
	}
}

// pass runs one product over a strip: tiles of cols consecutive positions of the
// padded planes, rows first. Tiles that lie in one row of outputs are written in
// place, the others by way of tmp.
func (r *convRun) pass(p *convPass, buffer, tmp, dst []float32, first, rows, flags int) {
	k, gw, pitch := len(p.off), r.in.gw, r.in.pitch
	base := buffer[r.in.origin():]
	dense := pitch == gw // rows follow each other in C too
	last := (rows-1)*pitch + gw
	for pos := 0; pos < last; {
		row, q := pos/pitch, pos%pitch
		if q >= gw {
			pos += pitch - q
			continue
		}
		if r.outStep == 1 && (q+r.cols <= gw || dense && pos+r.cols <= last) {
			r.column(r.out, k, &p.packed[0], &base[pos], &p.off[0], dst[(first+row)*gw+q:], r.oh*r.ow, r.cols, r.bias, flags, tmp)
		} else {
			r.multiply(r.padded(r.out), k, &p.packed[0], &base[pos], &p.off[0], &tmp[0], r.cols, r.bias, flags)
			r.scatter(p, tmp, dst, first, pos, min(last, pos+r.cols))
		}
		pos += r.cols
	}
}

// scatter copies the outputs of positions pos to end from tmp to where they
// belong.
func (r *convRun) scatter(p *convPass, tmp, dst []float32, first, pos, end int) {
	for at := pos; at < end; {
		row, q := at/r.in.pitch, at%r.in.pitch
		n := min(end-at, r.in.gw-q)
		if n <= 0 {
			at += r.in.pitch - q
			continue
		}
		h, w := (first+row)*r.outStep+p.a, q*r.outStep+p.b
		if h < r.oh && w < r.ow {
			for o := range r.out {
				from := tmp[o*r.cols+at-pos:][:n]
				to := dst[(o*r.oh+h)*r.ow:][:r.ow]
				if r.outStep == 1 {
					copy(to[w:], from)
					continue
				}
				for j, v := range from {
					if w+j*r.outStep < len(to) {
						to[w+j*r.outStep] = v
					}
				}
			}
		}
		at += n
	}
}

func convForwardFast(s *Scratch[float32], workers int, c Conv, x, weight, bias, y []float32, relu bool) {
	pixels := c.H * c.W
	if c.Batch == 0 || c.Out == 0 || pixels == 0 {
		return
	}
	if c.Size == 1 && c.Stride == 1 || c.In == 0 {
		p := product{
			batch: c.Batch, m: c.Out, n: c.OutH() * c.OutW(), k: c.In,
			a: weight, lda: c.In,
			b: x, ldb: pixels, stepB: c.In * pixels,
			c: y, ldc: c.OutH() * c.OutW(), stepC: c.Out * c.OutH() * c.OutW(),
			bias: bias, relu: relu,
		}
		p.run(s, workers)
		return
	}
	mark := s.Mark()
	defer s.Release(mark)
	r := convRun{geometry: activeGeometry(), src: x, dst: y, out: c.Out, oh: c.OutH(), ow: c.OutW(), outStep: 1, relu: relu}
	r.setInput(c.Batch, workers, c.In, c.H, c.W, c.Stride, c.Size/2)
	k := c.In * c.Size * c.Size
	p := &r.passes[0]
	p.packed = s.Take(r.padded(c.Out) * k)
	r.packRows(p.packed, weight, k, 1, c.Out, k)
	p.off = takeInts(s, k)
	c.tapOffsets(&r.in, p.off)
	r.bias = r.packBias(s, bias, c.Out)
	r.run(s, workers, c.Batch)
}

// tapOffsets computes the offset of every (i,u,v) in padded planes of the input.
func (c Conv) tapOffsets(in *planes, off []int) {
	l := 0
	for i := range c.In {
		for u := range c.Size {
			a, dr := tapPhase(u-c.Size/2, c.Stride)
			for v := range c.Size {
				b, dc := tapPhase(v-c.Size/2, c.Stride)
				off[l] = in.offset(i, a, b, dr, dc)
				l++
			}
		}
	}
}

// tapPhase writes the displacement d as step*shift + phase, 0 <= phase < step.
func tapPhase(d, step int) (phase, shift int) {
	phase = ((d % step) + step) % step
	return phase, (d - phase) / step
}

func convInputGradFast(s *Scratch[float32], workers int, c Conv, dy, weight, dx []float32) {
	dx = dx[:c.Batch*c.In*c.H*c.W]
	if len(dx) == 0 {
		return
	}
	oh, ow := c.OutH(), c.OutW()
	if c.Size == 1 && c.Stride == 1 || c.Out == 0 {
		p := product{
			batch: c.Batch, m: c.In, n: c.H * c.W, k: c.Out,
			a: weight, lda: c.In, transA: true,
			b: dy, ldb: c.H * c.W, stepB: c.Out * c.H * c.W,
			c: dx, ldc: c.H * c.W, stepC: c.In * c.H * c.W,
		}
		p.run(s, workers)
		return
	}
	mark := s.Mark()
	defer s.Release(mark)
	if c.Size == 1 {
		clear(dx) // three parities of four meet no weight
	}
	r := convRun{geometry: activeGeometry(), src: dy, dst: dx, out: c.In, oh: c.H, ow: c.W, outStep: c.Stride}
	r.setInput(c.Batch, workers, c.Out, oh, ow, 1, c.Size/2)
	n := 0
	for a := range c.Stride {
		for b := range c.Stride {
			// Pixel (Stride*r+a, Stride*q+b) of dx meets dy at (r+dr, q+dc) with
			// weight (u,v) where Stride*dr = a-u+Size/2.
			var taps [9]struct{ dr, dc, w int }
			t := 0
			for u := c.Size - 1; u >= 0; u-- {
				for v := c.Size - 1; v >= 0; v-- {
					pu, dr := tapPhase(a-u+c.Size/2, c.Stride)
					pv, dc := tapPhase(b-v+c.Size/2, c.Stride)
					if pu == 0 && pv == 0 {
						taps[t] = struct{ dr, dc, w int }{dr, dc, u*c.Size + v}
						t++
					}
				}
			}
			if t == 0 {
				continue
			}
			p := &r.passes[n]
			n++
			p.a, p.b = a, b
			k := c.Out * t
			p.off = takeInts(s, k)
			for o := range c.Out {
				for j, tap := range taps[:t] {
					p.off[o*t+j] = r.in.offset(o, 0, 0, tap.dr, tap.dc)
				}
			}
			p.packed = s.Take(r.padded(c.In) * k)
			area := c.Size * c.Size
			for i0 := 0; i0 < c.In; i0 += r.rows {
				rows := min(r.rows, r.padded(c.In)-i0)
				panel := p.packed[i0*k:][:rows*k]
				if rows > c.In-i0 {
					clear(panel)
				}
				for o := range c.Out {
					for i := range min(rows, c.In-i0) {
						w := weight[(o*c.In+i0+i)*area:][:area]
						for j, tap := range taps[:t] {
							panel[(o*t+j)*rows+i] = w[tap.w]
						}
					}
				}
			}
		}
	}
	r.run(s, workers, c.Batch)
}

// gradRun is a weight gradient on its way: image by image, blocks of four
// outputs by a few taps, each block's dot products over all pixels in registers.
type gradRun struct {
	geometry
	c           Conv
	terms       int // In*Size*Size
	off         []int
	x           *float32 // origin of the (padded) image
	rows, n     int      // rows of n vectors
	gap         int      // elements of x between rows
	dy          []float32
	stride      int // elements between channels of dy
	outs        int // channels dy has memory for
	dw          []float32
	accumulate  bool
	tmp         []float32
	tmpLen      int
	copies      bool // x and dy are copied to dense padded planes
	in, out     planes
	image, grad []float32 // padded planes of x and dy
}

func convWeightGradFast(s *Scratch[float32], workers int, c Conv, x, dy, dw []float32) {
	terms := c.In * c.Size * c.Size
	dw = dw[:c.Out*terms]
	oh, ow := c.OutH(), c.OutW()
	if c.Batch == 0 || oh*ow == 0 {
		clear(dw)
		return
	}
	if len(dw) == 0 {
		return
	}
	mark := s.Mark()
	defer s.Release(mark)
	r := gradRun{geometry: activeGeometry(), c: c, terms: terms, dw: dw}
	workers = max(1, min(workers, (c.Out+3)/4))
	r.tmpLen = max(alignment, 4*r.taps)
	r.tmp = s.Take(workers * r.tmpLen)
	r.off = takeInts(s, (terms+r.taps-1)/r.taps*r.taps)

	dense := c.Size == 1 && c.Stride == 1 // x needs no padding
	r.copies = c.Out < 4 || ow%r.lanes != 0 && !(dense && oh*ow%r.lanes == 0)
	r.outs, r.stride = c.Out, oh*ow
	r.rows, r.n = oh, ow/r.lanes
	if dense && !r.copies {
		r.rows, r.n = 1, oh*ow/r.lanes
	}
	if dense && !r.copies && oh*ow%1024 != 0 {
		for i := range c.In {
			r.off[i] = 4 * i * oh * ow
		}
	} else {
		// Planes a multiple of 4 KiB apart would fall into the same few lines of
		// the first cache, so a dense image is copied then too.
		align := r.lanes
		if r.copies {
			align = 1 << 30 // never: one dense run over all rows
		}
		r.in = makePlanes(c.In, c.H, c.W, c.Stride, c.Size/2, oh, align)
		r.image = s.TakeZero(r.in.size())
		c.tapOffsets(&r.in, r.off)
		r.gap = r.in.pitch - ow
		r.x = &r.image[r.in.origin()]
	}
	for l := terms; l < len(r.off); l++ {
		r.off[l] = r.off[l-1]
	}
	if r.copies {
		// dy gets the pitch of x, with zeros between rows and after the last.
		r.outs = (c.Out + 3) / 4 * 4
		r.rows, r.n = 1, (oh*r.in.pitch+r.lanes-1)/r.lanes
		r.gap = 0
		r.stride = ((r.n*r.lanes+15)/16 | 1) * 16
		r.grad = s.TakeZero(r.outs * r.stride)
	}
	if workers == 1 {
		for b := range c.Batch {
			r.setImage(b, x, dy)
			if r.image != nil {
				r.copyInput(b, x, 0, c.In)
			}
			if r.copies {
				r.copyGrad(b, dy, 0, c.Out)
			}
			r.work(0, 0, (c.Out+3)/4)
		}
		return
	}
	shared := r
	for b := range c.Batch {
		shared.setImage(b, x, dy)
		if shared.image != nil {
			Parallel(workers, c.In, func(_, lo, hi int) { shared.copyInput(b, x, lo, hi) })
		}
		if shared.copies {
			Parallel(workers, c.Out, func(_, lo, hi int) { shared.copyGrad(b, dy, lo, hi) })
		}
		Parallel(workers, (c.Out+3)/4, func(worker, lo, hi int) { shared.work(worker, lo, hi) })
	}
}

// setImage turns to image b of the batch.
func (r *gradRun) setImage(b int, x, dy []float32) {
	r.accumulate = b > 0
	if r.image == nil {
		r.x = &x[b*r.c.In*r.c.H*r.c.W]
	}
	if r.copies {
		r.dy = r.grad
	} else {
		r.dy = dy[b*r.c.Out*r.stride:]
	}
}

func (r *gradRun) copyInput(b int, x []float32, lo, hi int) {
	r.in.fill(r.image, x[b*r.c.In*r.c.H*r.c.W:], 0, r.in.gh, lo, hi)
}

func (r *gradRun) copyGrad(b int, dy []float32, lo, hi int) {
	oh, ow := r.c.OutH(), r.c.OutW()
	for o := lo; o < hi; o++ {
		if r.in.pitch == ow {
			copy(r.grad[o*r.stride:], dy[(b*r.c.Out+o)*oh*ow:][:oh*ow])
			continue
		}
		for row := range oh {
			copy(r.grad[o*r.stride+row*r.in.pitch:][:ow], dy[((b*r.c.Out+o)*oh+row)*ow:])
		}
	}
}

// work computes blocks lo to hi of four output channels.
func (r *gradRun) work(worker, lo, hi int) {
	tmp := r.tmp[worker*r.tmpLen:][:r.tmpLen]
	if r.rows > 1 || r.n*r.lanes <= dotTerms {
		r.accumulateDots(tmp, lo, hi, r.n, 0)
		return
	}
	for v := 0; v < r.n; v += dotTerms / r.lanes {
		r.accumulateDots(tmp, lo, hi, min(dotTerms/r.lanes, r.n-v), v)
	}
}

// accumulateDots is work over n vectors of each row from vector v on.
func (r *gradRun) accumulateDots(tmp []float32, lo, hi, n, v int) {
	add := r.accumulate || v > 0
	flags := 0
	if add {
		flags = flagAdd
	}
	x := at(r.x, v*r.lanes)
	for block := lo; block < hi; block++ {
		// The last block steps back rather than reach beyond dy.
		o0 := min(4*block, r.outs-4)
		whole := o0 == 4*block && o0+4 <= r.c.Out
		dy := &r.dy[o0*r.stride+v*r.lanes]
		for l := 0; l < r.terms; l += r.taps {
			if whole && l+r.taps <= r.terms {
				r.dots(r.rows, n, x, &r.off[l], r.gap, dy, r.stride, &r.dw[o0*r.terms+l], 4*r.terms, flags)
				continue
			}
			r.dots(r.rows, n, x, &r.off[l], r.gap, dy, r.stride, &tmp[0], 4*r.taps, 0)
			for o := 4 * block; o < min(4*block+4, r.c.Out); o++ {
				for t := range min(r.taps, r.terms-l) {
					v := tmp[(o-o0)*r.taps+t]
					if add {
						v += r.dw[o*r.terms+l+t]
					}
					r.dw[o*r.terms+l+t] = v
				}
			}
		}
	}
}
