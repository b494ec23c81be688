// Command gemm generates the AVX2 and AVX-512 kernels under the matrix product
// and the convolutions. The drivers in pkg/kernel hold their definitions as
// plain loops (see gemm_amd64.go there).
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// isa is what differs between the instruction sets: the vector width and how a
// register of that width is made.
type isa struct {
	name  string
	lanes int
	vec   func() VecVirtual
}

var (
	avx2   = isa{"avx2", 8, YMM}
	avx512 = isa{"avx512", 16, ZMM}
)

func (s isa) bytes() int { return 4 * s.lanes }

// register returns vector register i of the set's width.
func (s isa) register(i int) Register {
	z := [32]VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15,
		Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31}[i]
	if s.lanes == 8 {
		return z.AsY()
	}
	return z
}

// Flags of the tile kernels' last argument, as in gemm_amd64.go.
const (
	flagAdd  = 1 // add what C holds
	flagReLU = 2 // max(0, .) last
)

func main() {
	for _, t := range []struct {
		isa
		rows, vecs int
	}{{avx2, 6, 2}, {avx512, 12, 2}, {avx512, 6, 2}} {
		for _, indirect := range []bool{false, true} {
			tile(t.isa, t.rows, t.vecs, indirect)
		}
	}
	dots(avx2, 4, 3)
	dots(avx512, 4, 6)
	transpose()
	copyPanels()
	copyRows()
	splitRow()
	peak(avx2, 12)
	peak(avx512, 24)
	Generate()
}

// zero clears a vector register.
func zero(v VecVirtual) { VXORPS(v, v, v) }

// tile generates the register-blocked inner kernel of a product: panels of rows
// rows of A, packed as a[l*rows+i], times vecs vectors of columns of B, whose
// row l starts at b + l*vecs*bytes, or at b + off[l] bytes if indirect.
//
//	for p < panels: for i < rows, j < vecs*lanes:
//	    s = sum over l < k, in order, of a[(p*k+l)*rows+i] * b_l[j]   (fused multiply-add)
//	    if bias != nil { s += bias[p*rows+i] }
//	    if flags&flagAdd != 0 { s = c + s }
//	    if flags&flagReLU != 0 { s = max(0, s), NaN stays }
//	    c[(p*rows+i)*ldc+j] = s
//
// ldc is in bytes.
func tile(s isa, rows, vecs int, indirect bool) {
	name, sig := "tile", "func(panels, k int, a, b *float32, c *float32, ldc int, bias *float32, flags int)"
	if indirect {
		name, sig = "indirect", "func(panels, k int, a, b *float32, off *int, c *float32, ldc int, bias *float32, flags int)"
	}
	TEXT(fmt.Sprintf("%s%dx%d%s", name, rows, vecs*s.lanes, s.name), NOSPLIT, sig)
	Pragma("noescape")
	Doc(fmt.Sprintf("%s multiplies panels of %d rows by %d columns; see _gen/gemm.", name, rows, vecs*s.lanes))
	panels := Load(Param("panels"), GP64())
	a := Load(Param("a"), GP64())
	base := Load(Param("b"), GP64())
	c := Load(Param("c"), GP64())
	ldc := Load(Param("ldc"), GP64())
	bias := Load(Param("bias"), GP64())
	flags := Load(Param("flags"), GP64())

	acc := make([][]VecVirtual, rows)
	for i := range acc {
		acc[i] = make([]VecVirtual, vecs)
		for j := range acc[i] {
			acc[i][j] = s.vec()
		}
	}
	col := make([]VecVirtual, vecs)
	for j := range col {
		col[j] = s.vec()
	}
	row := []VecVirtual{s.vec(), s.vec()}
	b, off, left, at := GP64(), GP64(), GP64(), GP64()

	// step is one l, the unroll-th of its group.
	step := func(unroll int) {
		for j := range col {
			if indirect {
				if j == 0 {
					MOVQ(Mem{Base: off, Disp: 8 * unroll}, at)
				}
				VMOVUPS(Mem{Base: b, Index: at, Scale: 1, Disp: j * s.bytes()}, col[j])
			} else {
				VMOVUPS(Mem{Base: b, Disp: (unroll*vecs + j) * s.bytes()}, col[j])
			}
		}
		for i := range acc {
			r := row[i%len(row)]
			VBROADCASTSS(Mem{Base: a, Disp: 4 * (unroll*rows + i)}, r)
			for j := range col {
				VFMADD231PS(r, col[j], acc[i][j])
			}
		}
	}
	advance := func(n int) {
		ADDQ(U32(4*n*rows), a)
		if indirect {
			ADDQ(U32(8*n), off)
		} else {
			ADDQ(U32(n*vecs*s.bytes()), b)
		}
	}

	Label("panel")
	// C is written last: fetch its lines meanwhile.
	MOVQ(c, at)
	for i := range acc {
		for line := 0; line < vecs*s.bytes(); line += 64 {
			PREFETCHT0(Mem{Base: at, Disp: line})
		}
		if i < rows-1 {
			ADDQ(ldc, at)
		}
	}
	for i := range acc {
		for j := range acc[i] {
			zero(acc[i][j])
		}
	}
	MOVQ(base, b)
	if indirect {
		Load(Param("off"), off)
	}
	Load(Param("k"), left)
	const unroll = 4
	SUBQ(Imm(unroll), left)
	JLT(LabelRef("rest"))
	Label("group")
	for u := range unroll {
		step(u)
	}
	advance(unroll)
	SUBQ(Imm(unroll), left)
	JGE(LabelRef("group"))
	Label("rest")
	ADDQ(Imm(unroll), left)
	JZ(LabelRef("bias"))
	Label("single")
	step(0)
	advance(1)
	DECQ(left)
	JNZ(LabelRef("single"))

	Label("bias")
	TESTQ(bias, bias)
	JZ(LabelRef("add"))
	for i := range acc {
		r := row[i%len(row)]
		VBROADCASTSS(Mem{Base: bias, Disp: 4 * i}, r)
		for j := range col {
			VADDPS(r, acc[i][j], acc[i][j])
		}
	}
	ADDQ(U32(4*rows), bias)
	Label("add")
	TESTQ(U32(flagAdd), flags)
	JZ(LabelRef("relu"))
	MOVQ(c, at)
	for i := range acc {
		for j := range col {
			VADDPS(Mem{Base: at, Disp: j * s.bytes()}, acc[i][j], acc[i][j])
		}
		if i < rows-1 {
			ADDQ(ldc, at)
		}
	}
	Label("relu")
	TESTQ(U32(flagReLU), flags)
	JZ(LabelRef("store"))
	zero(row[0])
	for i := range acc {
		for j := range col {
			// The second source of MAXPS, here the sum, is the result if either is NaN.
			VMAXPS(acc[i][j], row[0], acc[i][j])
		}
	}
	Label("store")
	for i := range acc {
		for j := range col {
			VMOVUPS(acc[i][j], Mem{Base: c, Disp: j * s.bytes()})
		}
		ADDQ(ldc, c)
	}
	DECQ(panels)
	JNZ(LabelRef("panel"))
	VZEROUPPER()
	RET()
}

// dots generates the inner kernel of the weight gradient: outs*taps dot products
// over rows of n vectors each.
//
//	for o < outs, t < taps:
//	    lane[e] = sum over r < rows, v < n, in order, of dy_o[(r*n+v)*lanes+e] * x_t[r*(n*lanes)+r*gap+v*lanes+e]
//	    s = sum of lane in a fixed tree
//	    dst[o*ldd+t] = s, or += s if flags&flagAdd
//
// dy_o starts at dy + o*dystride, x_t at x + off[t]; dystride, off, gap and ldd
// are in bytes.
func dots(s isa, outs, taps int) {
	TEXT(fmt.Sprintf("dots%dx%d%s", outs, taps, s.name), NOSPLIT,
		"func(rows, n int, x *float32, off *int, gap int, dy *float32, dystride int, dst *float32, ldd int, flags int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("dots computes %d by %d dot products of image rows; see _gen/gemm.", outs, taps))
	dy := Load(Param("dy"), GP64())
	stride := Load(Param("dystride"), GP64())
	stride3 := GP64()
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	x := Load(Param("x"), GP64())
	offs := Load(Param("off"), GP64())
	tap := make([]GPVirtual, taps)
	for t := range tap {
		tap[t] = GP64()
		MOVQ(Mem{Base: offs, Disp: 8 * t}, tap[t])
		ADDQ(x, tap[t])
	}
	// Chosen by hand: the horizontal additions at the end have no encoding for
	// registers above 15, so the low ones must be free then.
	next := 0
	vec := func() Register {
		next++
		return s.register(next - 1)
	}
	in := make([]Register, taps)
	for t := range in {
		in[t] = vec()
	}
	g := vec()
	acc := make([][]Register, outs)
	for o := range acc {
		acc[o] = make([]Register, taps)
		for t := range acc[o] {
			acc[o][t] = vec()
			VXORPS(acc[o][t], acc[o][t], acc[o][t])
		}
	}
	at, rows, left := GP64(), GP64(), GP64()
	XORQ(at, at)
	Load(Param("rows"), rows)
	Label("row")
	Load(Param("n"), left)
	Label("vector")
	for t := range tap {
		VMOVUPS(Mem{Base: tap[t], Index: at, Scale: 1}, in[t])
	}
	for o := range acc {
		m := []Mem{{Base: dy}, {Base: dy, Index: stride, Scale: 1}, {Base: dy, Index: stride, Scale: 2}, {Base: dy, Index: stride3, Scale: 1}}[o]
		VMOVUPS(m, g)
		for t := range tap {
			VFMADD231PS(g, in[t], acc[o][t])
		}
	}
	ADDQ(U32(s.bytes()), at)
	ADDQ(U32(s.bytes()), dy)
	DECQ(left)
	JNZ(LabelRef("vector"))
	gap := GP64()
	Load(Param("gap"), gap)
	ADDQ(gap, at)
	DECQ(rows)
	JNZ(LabelRef("row"))

	dst := Load(Param("dst"), GP64())
	ldd := Load(Param("ldd"), GP64())
	ldd3 := GP64()
	LEAQ(Mem{Base: ldd, Index: ldd, Scale: 2}, ldd3)
	flags := Load(Param("flags"), GP64())
	sum := make([]Register, taps)
	for t := range tap {
		// Halve down to 8 lanes, then two rounds of horizontal additions and one
		// of halves leave the sums of the four outputs in one register.
		y := make([]Register, outs)
		for o := range acc {
			y[o] = acc[o][t]
			if s.lanes == 16 {
				y[o] = avx2.register(o)
				VEXTRACTF64X4(Imm(1), acc[o][t], y[o])
				VADDPS(y[o], acc[o][t].(Vec).AsY(), y[o])
			}
		}
		VHADDPS(y[1], y[0], y[0])
		VHADDPS(y[3], y[2], y[2])
		VHADDPS(y[2], y[0], y[0])
		sum[t] = acc[0][t].(Vec).AsX()
		VEXTRACTF128(Imm(1), y[0], y[1].(Vec).AsX())
		VADDPS(y[1].(Vec).AsX(), y[0].(Vec).AsX(), sum[t])
	}
	place := func(o, t int) Mem {
		return []Mem{{Base: dst, Disp: 4 * t}, {Base: dst, Index: ldd, Scale: 1, Disp: 4 * t}, {Base: dst, Index: ldd, Scale: 2, Disp: 4 * t}, {Base: dst, Index: ldd3, Scale: 1, Disp: 4 * t}}[o]
	}
	TESTQ(U32(flagAdd), flags)
	JZ(LabelRef("store"))
	for t := range tap {
		old := X0
		VMOVSS(place(0, t), old)
		for o := 1; o < outs; o++ {
			VINSERTPS(Imm(uint64(o<<4)), place(o, t), old, old)
		}
		VADDPS(old, sum[t], sum[t])
	}
	Label("store")
	for t := range tap {
		VMOVSS(sum[t], place(0, t))
		for o := 1; o < outs; o++ {
			VEXTRACTPS(Imm(uint64(o)), sum[t], place(o, t))
		}
	}
	VZEROUPPER()
	RET()
}

// transpose generates the packing of four rows into panel columns:
//
//	for c < 8*blocks, r < 4: dst[c*dstep+r] = src[r*sstep+c]
//
// dstep and sstep are in bytes.
func transpose() {
	TEXT("transpose4avx2", NOSPLIT, "func(blocks int, dst *float32, dstep int, src *float32, sstep int)")
	Pragma("noescape")
	Doc("transpose4avx2 writes blocks of 4 rows by 8 columns column by column; see _gen/gemm.")
	blocks := Load(Param("blocks"), GP64())
	dst := Load(Param("dst"), GP64())
	dstep := Load(Param("dstep"), GP64())
	src := Load(Param("src"), GP64())
	sstep := Load(Param("sstep"), GP64())
	dstep3, sstep3, half := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: dstep, Index: dstep, Scale: 2}, dstep3)
	LEAQ(Mem{Base: sstep, Index: sstep, Scale: 2}, sstep3)
	Label("block")
	r := []VecVirtual{YMM(), YMM(), YMM(), YMM()}
	VMOVUPS(Mem{Base: src}, r[0])
	VMOVUPS(Mem{Base: src, Index: sstep, Scale: 1}, r[1])
	VMOVUPS(Mem{Base: src, Index: sstep, Scale: 2}, r[2])
	VMOVUPS(Mem{Base: src, Index: sstep3, Scale: 1}, r[3])
	lo01, hi01, lo23, hi23 := YMM(), YMM(), YMM(), YMM()
	VUNPCKLPS(r[1], r[0], lo01)
	VUNPCKHPS(r[1], r[0], hi01)
	VUNPCKLPS(r[3], r[2], lo23)
	VUNPCKHPS(r[3], r[2], hi23)
	c := []VecVirtual{YMM(), YMM(), YMM(), YMM()}
	VSHUFPS(Imm(0x44), lo23, lo01, c[0])
	VSHUFPS(Imm(0xee), lo23, lo01, c[1])
	VSHUFPS(Imm(0x44), hi23, hi01, c[2])
	VSHUFPS(Imm(0xee), hi23, hi01, c[3])
	LEAQ(Mem{Base: dst, Index: dstep, Scale: 4}, half)
	at := func(base Register, j int) Mem {
		return []Mem{{Base: base}, {Base: base, Index: dstep, Scale: 1}, {Base: base, Index: dstep, Scale: 2}, {Base: base, Index: dstep3, Scale: 1}}[j]
	}
	for j := range c {
		VMOVUPS(c[j].AsX(), at(dst, j))
	}
	for j := range c {
		VEXTRACTF128(Imm(1), c[j], at(half, j))
	}
	ADDQ(Imm(32), src)
	LEAQ(Mem{Base: half, Index: dstep, Scale: 4}, dst)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// copyPanels generates the packing of consecutive columns of one row into
// panels of width columns:
//
//	for p < panels, j < width: dst[p*dstep+j] = src[p*width+j]
//
// with width 16 or 32 and dstep in bytes.
func copyPanels() {
	for _, vecs := range []int{2, 4} {
		TEXT(fmt.Sprintf("copyPanels%davx2", 8*vecs), NOSPLIT, "func(rows, panels int, dst *float32, dstep int, src *float32, sstep int)")
		Pragma("noescape")
		Doc(fmt.Sprintf("copyPanels cuts rows into panels of %d columns; see _gen/gemm.", 8*vecs))
		rows := Load(Param("rows"), GP64())
		dst := Load(Param("dst"), GP64())
		dstep := Load(Param("dstep"), GP64())
		src := Load(Param("src"), GP64())
		sstep := Load(Param("sstep"), GP64())
		d, s, left := GP64(), GP64(), GP64()
		Label("row")
		MOVQ(dst, d)
		MOVQ(src, s)
		Load(Param("panels"), left)
		Label("panel")
		for j := range vecs {
			v := YMM()
			VMOVUPS(Mem{Base: s, Disp: 32 * j}, v)
			VMOVUPS(v, Mem{Base: d, Disp: 32 * j})
		}
		ADDQ(U32(32*vecs), s)
		ADDQ(dstep, d)
		DECQ(left)
		JNZ(LabelRef("panel"))
		ADDQ(U32(32*vecs), dst)
		ADDQ(sstep, src)
		DECQ(rows)
		JNZ(LabelRef("row"))
		VZEROUPPER()
		RET()
	}
}

// copyRows generates the copy of a block of an image into a padded plane:
//
//	for r < rows, j < width: dst[r*dstep+j] = src[r*sstep+j]
//
// with width >= 8 and dstep and sstep in bytes. The last vector of a row steps
// back and overlaps the one before.
func copyRows() {
	TEXT("copyRowsavx2", NOSPLIT, "func(rows, width int, dst *float32, dstep int, src *float32, sstep int)")
	Pragma("noescape")
	Doc("copyRowsavx2 copies rows of at least 8 elements; see _gen/gemm.")
	rows := Load(Param("rows"), GP64())
	end := Load(Param("width"), GP64())
	dst := Load(Param("dst"), GP64())
	dstep := Load(Param("dstep"), GP64())
	src := Load(Param("src"), GP64())
	sstep := Load(Param("sstep"), GP64())
	SHLQ(Imm(2), end) // bytes
	SUBQ(Imm(32), end)
	j := GP64()
	v, last := YMM(), YMM()
	Label("row")
	XORQ(j, j)
	VMOVUPS(Mem{Base: src, Index: end, Scale: 1}, last)
	Label("vector")
	CMPQ(j, end)
	JGE(LabelRef("last"))
	VMOVUPS(Mem{Base: src, Index: j, Scale: 1}, v)
	VMOVUPS(v, Mem{Base: dst, Index: j, Scale: 1})
	ADDQ(Imm(32), j)
	JMP(LabelRef("vector"))
	Label("last")
	VMOVUPS(last, Mem{Base: dst, Index: end, Scale: 1})
	ADDQ(sstep, src)
	ADDQ(dstep, dst)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// splitRow generates the separation of a row's even and odd elements:
//
//	for j < 8*blocks: even[j], odd[j] = src[2*j], src[2*j+1]
func splitRow() {
	TEXT("splitRowavx2", NOSPLIT, "func(blocks int, even, odd, src *float32)")
	Pragma("noescape")
	Doc("splitRowavx2 separates even and odd elements; see _gen/gemm.")
	blocks := Load(Param("blocks"), GP64())
	even := Load(Param("even"), GP64())
	odd := Load(Param("odd"), GP64())
	src := Load(Param("src"), GP64())
	a, b, e, o := YMM(), YMM(), YMM(), YMM()
	Label("block")
	VMOVUPS(Mem{Base: src}, a)
	VMOVUPS(Mem{Base: src, Disp: 32}, b)
	VSHUFPS(Imm(0x88), b, a, e) // a0 a2 b0 b2 a4 a6 b4 b6
	VSHUFPS(Imm(0xdd), b, a, o)
	VPERMPD(Imm(0xd8), e, e)
	VPERMPD(Imm(0xd8), o, o)
	VMOVUPS(e, Mem{Base: even})
	VMOVUPS(o, Mem{Base: odd})
	ADDQ(Imm(64), src)
	ADDQ(Imm(32), even)
	ADDQ(Imm(32), odd)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// peak generates a loop of independent fused multiply-adds on registers alone:
// regs of them in each of n rounds.
func peak(s isa, regs int) {
	TEXT("peak"+s.name, NOSPLIT, "func(n int)")
	Doc(fmt.Sprintf("peak%s runs n rounds of %d fused multiply-adds of %d lanes.", s.name, regs, s.lanes))
	n := Load(Param("n"), GP64())
	x, y := s.vec(), s.vec()
	zero(x)
	zero(y)
	acc := make([]VecVirtual, regs)
	for i := range acc {
		acc[i] = s.vec()
		zero(acc[i])
	}
	Label("round")
	for i := range acc {
		VFMADD231PS(x, y, acc[i])
	}
	DECQ(n)
	JNZ(LabelRef("round"))
	VZEROUPPER()
	RET()
}
