// Window writes the kernels of attention within windows: products without
// packing, the softmax of columns and a transposition. The drivers in pkg/kernel
// hold their definitions as plain loops (see window.go there).
package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"unrollnet.kernel/gen/isa"
)

type vec = reg.VecVirtual

func main() {
	for rows := 1; rows <= 6; rows++ {
		small(isa.AVX2, rows)
	}
	for rows := 1; rows <= 12; rows++ {
		small(isa.AVX512, rows)
	}
	for _, v := range isa.All {
		softmaxColumns(v)
	}
	transpose()
	Generate()
}

// small generates the product of rows rows of A with all columns of B, two
// vectors of columns at a time. Strides are in bytes, n is a multiple of them.
//
//	for i < rows, j < n: c[i*n+j] = (init[i*n+j] or 0) + sum over l < k, in order, of a[i*ai+l*al] * b[l*n+j]
func small(v isa.ISA, rows int) {
	TEXT(fmt.Sprintf("small%d%s", rows, v.Suffix), attr.NOSPLIT, "func(n, k int, a *float32, ai, al int, b, init, c *float32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("small%d%s multiplies %d rows, unpacked; see _gen/window.", rows, v.Suffix, rows))
	width := Load(Param("n"), GP64())
	SHLQ(U8(2), width) // bytes of a row of B, C0 and C
	ai := Load(Param("ai"), GP64())
	al := Load(Param("al"), GP64())
	ai3 := GP64()
	LEAQ(Mem{Base: ai, Index: ai, Scale: 2}, ai3)
	column := GP64() // bytes
	XORQ(column, column)
	acc := make([][2]vec, rows)
	for i := range acc {
		acc[i] = [2]vec{v.Vec(), v.Vec()}
	}
	col, factor := v.Vecs(2), v.Vecs(2)

	Label("columns")
	init := Load(Param("init"), GP64())
	TESTQ(init, init)
	JZ(LabelRef("zero"))
	ADDQ(column, init)
	for i := range acc {
		for j := range 2 {
			v.Load(Mem{Base: init, Disp: j * v.Bytes()}, acc[i][j])
		}
		if i < rows-1 {
			ADDQ(width, init)
		}
	}
	JMP(LabelRef("multiply"))
	Label("zero")
	for i := range acc {
		v.Clear(acc[i][0])
		v.Clear(acc[i][1])
	}
	Label("multiply")
	// Rows of A four by four: a, a+ai, a+2ai, a+3ai from a base each.
	bases := make([]reg.Register, (rows+3)/4)
	for i := range bases {
		bases[i] = GP64()
		if i == 0 {
			Load(Param("a"), bases[0])
		} else {
			LEAQ(Mem{Base: bases[i-1], Index: ai, Scale: 4}, bases[i])
		}
	}
	b := Load(Param("b"), GP64())
	ADDQ(column, b)
	left := Load(Param("k"), GP64())
	Label("term")
	for j := range col {
		v.Load(Mem{Base: b, Disp: j * v.Bytes()}, col[j])
	}
	for i := range acc {
		base := bases[i/4]
		m := []Mem{{Base: base}, {Base: base, Index: ai, Scale: 1}, {Base: base, Index: ai, Scale: 2}, {Base: base, Index: ai3, Scale: 1}}[i%4]
		r := factor[i%2]
		VBROADCASTSS(m, r)
		for j := range col {
			VFMADD231PS(r, col[j], acc[i][j])
		}
	}
	for _, base := range bases {
		ADDQ(al, base)
	}
	ADDQ(width, b)
	DECQ(left)
	JNZ(LabelRef("term"))
	c := Load(Param("c"), GP64())
	ADDQ(column, c)
	for i := range acc {
		for j := range 2 {
			v.Store(acc[i][j], Mem{Base: c, Disp: j * v.Bytes()})
		}
		if i < rows-1 {
			ADDQ(width, c)
		}
	}
	ADDQ(U32(uint32(2*v.Bytes())), column)
	CMPQ(column, width)
	JL(LabelRef("columns"))
	VZEROUPPER()
	RET()
}

// softmaxColumns generates, for each of cols columns, a multiple of two vectors:
//
//	m = max of the column; x[i] = exp(max(x[i]-m, -87)); scale = 1 / sum of x[i]
func softmaxColumns(v isa.ISA) {
	TEXT("softmaxColumns"+v.Suffix, attr.NOSPLIT, "func(rows, cols int, x, scale *float32)")
	Pragma("noescape")
	Doc("softmaxColumns" + v.Suffix + " is SoftmaxColumns.")
	width := Load(Param("cols"), GP64())
	SHLQ(U8(2), width)
	x := Load(Param("x"), GP64())
	scale := Load(Param("scale"), GP64())
	end := GP64()
	LEAQ(Mem{Base: scale, Index: width, Scale: 1}, end)
	e := newExponential(v)
	lowest := v.ConstMem("minusinf", 0xff800000)
	at := GP64()
	Label("columns")
	top, total := v.Vecs(2), v.Vecs(2)
	for j := range 2 {
		VMOVUPS(lowest, top[j])
		v.Clear(total[j])
	}
	MOVQ(x, at)
	left := Load(Param("rows"), GP64())
	Label("max")
	for j := range 2 {
		VMAXPS(Mem{Base: at, Disp: j * v.Bytes()}, top[j], top[j])
	}
	ADDQ(width, at)
	DECQ(left)
	JNZ(LabelRef("max"))
	MOVQ(x, at)
	left = Load(Param("rows"), GP64())
	Label("exp")
	for j := range 2 {
		a := v.Vec()
		v.Load(Mem{Base: at, Disp: j * v.Bytes()}, a)
		VSUBPS(top[j], a, a)
		a = e.emit(a)
		v.Store(a, Mem{Base: at, Disp: j * v.Bytes()})
		VADDPS(a, total[j], total[j])
	}
	ADDQ(width, at)
	DECQ(left)
	JNZ(LabelRef("exp"))
	for j := range 2 {
		r := v.Vec()
		VMOVUPS(e.one, r)
		VDIVPS(total[j], r, r)
		v.Store(r, Mem{Base: scale, Disp: j * v.Bytes()})
	}
	ADDQ(U32(uint32(2*v.Bytes())), x)
	ADDQ(U32(uint32(2*v.Bytes())), scale)
	CMPQ(scale, end)
	JL(LabelRef("columns"))
	VZEROUPPER()
	RET()
}

// exponential holds the constants of exp for arguments from -87 to 0, as in the
// vector kernels: Cephes' expf. The power of two is then a normal number.
type exponential struct {
	v                              isa.ISA
	lo                             vec
	log2e, ln2hi, ln2lo, one, bias Op
	p                              []Op
}

func newExponential(v isa.ISA) exponential {
	e := exponential{
		v: v, lo: v.ConstReg("explo", isa.F32(-87)),
		log2e: v.Const("log2e", isa.F32(1.44269504088896341)),
		ln2hi: v.Const("ln2hi", isa.F32(0.693359375)), ln2lo: v.Const("ln2lo", isa.F32(-2.12194440e-4)),
		one: v.Const("one", isa.F32(1)), bias: v.Const("bias", 127),
	}
	for i, c := range []float64{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		e.p = append(e.p, v.Const(fmt.Sprint("exp", i), isa.F32(c)))
	}
	return e
}

// emit computes exp(x), destroying x; NaN passes.
func (e exponential) emit(x vec) vec {
	v := e.v
	VMAXPS(x, e.lo, x) // the first operand, where one is NaN
	n, p, r2 := v.Vec(), v.Vec(), v.Vec()
	VMULPS(e.log2e, x, n)
	if v.Wide {
		VRNDSCALEPS(U8(8), n, n)
	} else {
		VROUNDPS(U8(8), n, n)
	}
	VFNMADD231PS(e.ln2hi, n, x)
	VFNMADD231PS(e.ln2lo, n, x)
	VMULPS(x, x, r2)
	VMOVUPS(e.p[0], p)
	for _, c := range e.p[1:] {
		VFMADD213PS(c, x, p)
	}
	VFMADD213PS(x, r2, p)
	VADDPS(e.one, p, p)
	VCVTPS2DQ(n, n)
	VPADDD(e.bias, n, n)
	VPSLLD(U8(23), n, n)
	VMULPS(n, p, p)
	return p
}

// transpose generates the transposition of blocks of 8 by 8:
//
//	for i < 8*rows, j < 8*cols: dst[j*ldd+i] = src[i*lds+j]
//
// with rows, cols > 0, ldd and lds in bytes.
func transpose() {
	TEXT("transpose8avx2", attr.NOSPLIT, "func(rows, cols int, dst *float32, ldd int, src *float32, lds int)")
	Pragma("noescape")
	Doc("transpose8avx2 transposes blocks of 8 by 8; see _gen/window.")
	ldd := Load(Param("ldd"), GP64())
	lds := Load(Param("lds"), GP64())
	src := Load(Param("src"), GP64())
	dst := Load(Param("dst"), GP64())
	rows := Load(Param("rows"), GP64())
	ldd3, lds3 := GP64(), GP64()
	LEAQ(Mem{Base: ldd, Index: ldd, Scale: 2}, ldd3)
	LEAQ(Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	four := func(base, ld, ld3 reg.Register, r, disp int) Mem {
		return []Mem{{Base: base, Disp: disp}, {Base: base, Index: ld, Scale: 1, Disp: disp}, {Base: base, Index: ld, Scale: 2, Disp: disp}, {Base: base, Index: ld3, Scale: 1, Disp: disp}}[r]
	}
	s, s4, d, left := GP64(), GP64(), GP64(), GP64()
	Label("row")
	MOVQ(src, s)
	MOVQ(dst, d)
	Load(Param("cols"), left)
	Label("block")
	LEAQ(Mem{Base: s, Index: lds, Scale: 4}, s4)
	// Register r holds the left halves of rows r and r+4, then the right halves.
	out := func(half int) {
		in := make([]vec, 4)
		for r := range in {
			in[r] = YMM()
			VMOVUPS(four(s, lds, lds3, r, 16*half), in[r].AsX())
			VINSERTF128(U8(1), four(s4, lds, lds3, r, 16*half), in[r], in[r])
		}
		lo01, hi01, lo23, hi23 := YMM(), YMM(), YMM(), YMM()
		VUNPCKLPS(in[1], in[0], lo01)
		VUNPCKHPS(in[1], in[0], hi01)
		VUNPCKLPS(in[3], in[2], lo23)
		VUNPCKHPS(in[3], in[2], hi23)
		c := []vec{YMM(), YMM(), YMM(), YMM()}
		VSHUFPS(U8(0x44), lo23, lo01, c[0])
		VSHUFPS(U8(0xee), lo23, lo01, c[1])
		VSHUFPS(U8(0x44), hi23, hi01, c[2])
		VSHUFPS(U8(0xee), hi23, hi01, c[3])
		for r := range c {
			VMOVUPS(c[r], four(d, ldd, ldd3, r, 0))
		}
		LEAQ(Mem{Base: d, Index: ldd, Scale: 4}, d)
	}
	out(0)
	out(1)
	ADDQ(U8(32), s)
	DECQ(left)
	JNZ(LabelRef("block"))
	LEAQ(Mem{Base: src, Index: lds, Scale: 8}, src)
	ADDQ(U8(32), dst)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}
