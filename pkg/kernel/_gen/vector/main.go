// Vector writes the elementwise kernels, the reductions and the softmax. Every
// kernel runs the same operations on full vectors and on its masked last one, so
// that an element's bits do not depend on where it lies.
package main

import (
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"unrollnet.kernel/gen/isa"
)

type vec = reg.VecVirtual

func main() {
	for _, v := range isa.All {
		elementwiseKernels(v)
		linearCombination(v)
		dot(v)
		sum(v)
		softmaxRows(v)
		softmaxRowsGrad(v)
	}
	Generate()
}

func begin(v isa.ISA, name, signature, doc string) {
	TEXT(name+v.Suffix, attr.NOSPLIT|attr.NOFRAME, signature)
	Pragma("noescape")
	Doc(name + v.Suffix + " " + doc)
}

func end() {
	VZEROUPPER()
	RET()
}

// place is one vector of the loop of each: full, or the masked last one.
type place struct {
	v     isa.ISA
	index reg.GPVirtual // elements
	disp  int           // bytes
	mask  *isa.Mask     // nil for all lanes
}

func (p place) mem(base reg.Register) Mem {
	return Mem{Base: base, Index: p.index, Scale: 4, Disp: p.disp}
}

// load reads the vector of the slice at base; lanes beyond the end are zero.
func (p place) load(base reg.Register) vec {
	r := p.v.Vec()
	if p.mask != nil {
		p.v.LoadMask(*p.mask, p.mem(base), r)
	} else {
		p.v.Load(p.mem(base), r)
	}
	return r
}

func (p place) store(r vec, base reg.Register) {
	if p.mask != nil {
		p.v.StoreMask(*p.mask, r, p.mem(base))
	} else {
		p.v.Store(r, p.mem(base))
	}
}

// each goes through n elements, n > 0 or not, calling body for groups of unroll
// vectors, then for single vectors, then for what is left. n is preserved.
func each(v isa.ISA, n reg.Register, unroll int, body func(places []place)) {
	index, left := GP64(), GP64()
	XORQ(index, index)
	MOVQ(n, left)
	groups := []int{unroll, 1}
	if unroll == 1 {
		groups = groups[1:]
	}
	for _, u := range groups {
		loop, next := isa.NewLabel("loop"), isa.NewLabel("next")
		Label(loop)
		CMPQ(left, I32(int32(u*v.Lanes)))
		JL(LabelRef(next))
		places := make([]place, u)
		for i := range places {
			places[i] = place{v: v, index: index, disp: i * v.Bytes()}
		}
		body(places)
		ADDQ(I32(int32(u*v.Lanes)), index)
		SUBQ(I32(int32(u*v.Lanes)), left)
		JMP(LabelRef(loop))
		Label(next)
	}
	done := isa.NewLabel("done")
	TESTQ(left, left)
	JLE(LabelRef(done))
	mask := v.TailMask(left)
	body([]place{{v: v, index: index, mask: &mask}})
	Label(done)
}

func base(name string) reg.Register { return Load(Param(name).Base(), GP64()) }

func length(name string) reg.Register { return Load(Param(name).Len(), GP64()) }

func pointer(name string) reg.Register { return Load(Param(name), GP64()) }

// broadcast returns the scalar parameter in all lanes.
func broadcast(v isa.ISA, name string) vec {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	r := v.Vec()
	VBROADCASTSS(b.Addr, r)
	return r
}

// elementwise writes dst[i] = f(dst[i], a[i], ...) with the slices the body
// loads. scalar names a float32 parameter in all lanes, "" for none. setup
// prepares constants and returns the body.
func elementwise(v isa.ISA, name string, unroll int, dst, scalar string, src []string, doc string, setup func(s vec) func(load func(name string) vec) vec) {
	var params []string
	params = append(params, dst+" []float32")
	if scalar != "" {
		params = append(params, scalar+" float32")
	}
	for _, s := range src {
		params = append(params, s+" []float32")
	}
	begin(v, name, "func("+strings.Join(params, ", ")+")", doc)
	n := length(dst)
	bases := map[string]reg.Register{dst: base(dst)}
	for _, s := range src {
		bases[s] = base(s)
	}
	var s vec
	if scalar != "" {
		s = broadcast(v, scalar)
	}
	body := setup(s)
	each(v, n, unroll, func(places []place) {
		for _, p := range places {
			r := body(func(name string) vec { return p.load(bases[name]) })
			p.store(r, bases[dst])
		}
	})
	end()
}

func elementwiseKernels(v isa.ISA) {
	type loader = func(name string) vec
	elementwise(v, "mul", 4, "dst", "", []string{"a", "b"}, "is Mul.", func(vec) func(loader) vec {
		return func(load loader) vec {
			a, b := load("a"), load("b")
			VMULPS(b, a, a)
			return a
		}
	})
	elementwise(v, "mulAdd", 4, "dst", "scale", []string{"a", "b"}, "is MulAdd.", func(s vec) func(loader) vec {
		return func(load loader) vec {
			d, a, b := load("dst"), load("a"), load("b")
			VMULPS(s, a, a)
			VFMADD231PS(a, b, d)
			return d
		}
	})
	elementwise(v, "axpy", 4, "y", "alpha", []string{"x"}, "is Axpy.", func(s vec) func(loader) vec {
		return func(load loader) vec {
			y, x := load("y"), load("x")
			VFMADD231PS(x, s, y)
			return y
		}
	})
	elementwise(v, "scale", 4, "x", "alpha", nil, "is Scale.", func(s vec) func(loader) vec {
		return func(load loader) vec {
			x := load("x")
			VMULPS(s, x, x)
			return x
		}
	})
	elementwise(v, "exp", 2, "dst", "", []string{"x"}, "is Exp.", func(vec) func(loader) vec {
		e := newExponential(v)
		return func(load loader) vec {
			x := load("x")
			return e.emit(x)
		}
	})
	elementwise(v, "expNegClip", 2, "dst", "clip", []string{"x"}, "is ExpNegClip.", func(clip vec) func(loader) vec {
		e := newExponential(v)
		sign := v.Const("sign", 0x80000000)
		return func(load loader) vec {
			x := load("x")
			VMINPS(x, clip, x) // the first operand, where one is NaN
			VXORPS(sign, x, x)
			return e.emit(x)
		}
	})
	elementwise(v, "log", 2, "dst", "", []string{"x"}, "is Log.", func(vec) func(loader) vec {
		l := newLogarithm(v)
		return func(load loader) vec { return l.emit(load("x")) }
	})
	elementwise(v, "reciprocal", 2, "dst", "", []string{"x"}, "is Reciprocal.", func(vec) func(loader) vec {
		one, zero := v.ConstReg("one", isa.F32(1)), v.Zero()
		return func(load loader) vec {
			x := load("x")
			nonzero := v.Compare(isa.NEQ, x, zero)
			VDIVPS(x, one, x)
			v.Keep(nonzero, x)
			return x
		}
	})
	elementwise(v, "rsqrt", 2, "dst", "", []string{"x"}, "is Rsqrt.", func(vec) func(loader) vec {
		one, zero := v.ConstReg("one", isa.F32(1)), v.Zero()
		return func(load loader) vec {
			x := load("x")
			nonzero := v.Compare(isa.NEQ, x, zero)
			VSQRTPS(x, x)
			VDIVPS(x, one, x)
			v.Keep(nonzero, x)
			return x
		}
	})
	elementwise(v, "relu", 4, "dst", "", []string{"x"}, "is ReLU.", func(vec) func(loader) vec {
		zero := v.Zero()
		return func(load loader) vec {
			x := load("x")
			VMAXPS(x, zero, x) // the first operand, where one is NaN or both are 0
			return x
		}
	})
	elementwise(v, "reluGrad", 4, "dx", "", []string{"y", "dy"}, "is ReLUGrad.", func(vec) func(loader) vec {
		zero := v.Zero()
		return func(load loader) vec {
			y, dy := load("y"), load("dy")
			v.Keep(v.Compare(isa.GT, y, zero), dy)
			return dy
		}
	})
}

// exponential holds the constants of exp. With n = round(x/ln 2) and
// r = x - n ln 2, exp(x) = 2^n exp(r); exp(r) is 1 + r + r^2 P(r) with the
// polynomial of Cephes' expf for |r| <= ln(2)/2.
type exponential struct {
	v                   isa.ISA
	hi, lo              vec
	log2e, ln2hi, ln2lo Op
	p                   []Op
	one                 Op
	bias                Op // AVX2 alone
}

func newExponential(v isa.ISA) exponential {
	e := exponential{
		v: v,
		// Beyond these the result is +Inf and 0 anyway.
		hi: v.ConstReg("exphi", isa.F32(89)), lo: v.ConstReg("explo", isa.F32(-104)),
		log2e: v.Const("log2e", isa.F32(1.44269504088896341)),
		ln2hi: v.Const("ln2hi", isa.F32(0.693359375)), ln2lo: v.Const("ln2lo", isa.F32(-2.12194440e-4)),
		one: v.Const("one", isa.F32(1)),
	}
	for i, c := range []float64{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		e.p = append(e.p, v.Const("exp"+string(rune('0'+i)), isa.F32(c)))
	}
	if !v.Wide {
		e.bias = v.Const("bias", 127)
	}
	return e
}

// emit computes exp(x), destroying x. NaN passes: of two operands VMINPS and
// VMAXPS return the first, here x, if either is NaN.
func (e exponential) emit(x vec) vec {
	v := e.v
	VMINPS(x, e.hi, x)
	VMAXPS(x, e.lo, x)
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
	if v.Wide {
		VSCALEFPS(n, p, p)
		return p
	}
	// 2^n does not fit one factor at the ends: half of n in each of two. The
	// first product is exact, so the result is rounded once.
	half := v.Vec()
	VCVTPS2DQ(n, n)
	VPSRAD(U8(1), n, half)
	VPSUBD(half, n, n)
	for _, k := range []vec{half, n} {
		VPADDD(e.bias, k, k)
		VPSLLD(U8(23), k, k)
		VMULPS(k, p, p)
	}
	return p
}

// logarithm holds the constants of log. With x = 2^k m, sqrt(1/2) <= m <
// sqrt(2), and f = m-1, log(x) = k ln 2 + f - f^2/2 + f^3 P(f), with the
// polynomial of Cephes' logf.
type logarithm struct {
	v                                                          isa.ISA
	tiny, grow, shift, root, one, half, ln2hi, ln2lo, inf, nan Op
	minus                                                      Op
	p                                                          []Op
	zero                                                       vec
}

func newLogarithm(v isa.ISA) logarithm {
	l := logarithm{
		v:    v,
		tiny: v.Const("minnormal", 0x00800000), grow: v.Const("two23", isa.F32(1<<23)), shift: v.Const("minus23", isa.F32(-23)),
		root: v.Const("sqrthalf", 0x3f3504f3), one: v.Const("one", isa.F32(1)), half: v.Const("half", isa.F32(0.5)),
		ln2hi: v.Const("ln2hi", isa.F32(0.693359375)), ln2lo: v.Const("ln2lo", isa.F32(-2.12194440e-4)),
		inf: v.Const("inf", 0x7f800000), minus: v.Const("minusinf", 0xff800000), nan: v.Const("nan", 0x7fc00000),
		zero: v.Zero(),
	}
	for i, c := range []float64{7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1} {
		l.p = append(l.p, v.Const("log"+string(rune('0'+i)), isa.F32(c)))
	}
	return l
}

// emit computes log(x), leaving x.
func (l logarithm) emit(x vec) vec {
	v := l.v
	m, k, adjust, grown := v.Vec(), v.Vec(), v.Zero(), v.Vec()
	VMOVAPS(x, m)
	subnormal := v.Compare(isa.LT, x, l.tiny)
	VMULPS(l.grow, x, grown)
	v.Select(subnormal, grown, m)
	v.Select(subnormal, l.shift, adjust)
	// As integers, m/sqrt(1/2) has k in the exponent and m 2^-k is m - k<<23.
	VPSUBD(l.root, m, k)
	VPSRAD(U8(23), k, k)
	e := v.Vec()
	VPSLLD(U8(23), k, e)
	VPSUBD(e, m, m)
	VCVTDQ2PS(k, k)
	VADDPS(adjust, k, k)
	VSUBPS(l.one, m, m)
	z, p := v.Vec(), v.Vec()
	VMULPS(m, m, z)
	VMOVUPS(l.p[0], p)
	for _, c := range l.p[1:] {
		VFMADD213PS(c, m, p)
	}
	VMULPS(m, p, p)
	VMULPS(z, p, p)
	VFMADD231PS(l.ln2lo, k, p)
	VFNMADD231PS(l.half, z, p)
	VADDPS(m, p, p)
	VFMADD231PS(l.ln2hi, k, p)
	v.Select(v.Compare(isa.EQ, x, l.inf), l.inf, p)
	v.Select(v.Compare(isa.EQ, x, l.zero), l.minus, p)
	v.Select(v.Compare(isa.NGE, x, l.zero), l.nan, p)
	return p
}

func linearCombination(v isa.ISA) {
	begin(v, "linearCombination", "func(dst []float32, coef *float32, src *[]float32, n int)", "is LinearCombination of n > 0 sources.")
	size, dst := length("dst"), base("dst")
	coef, src := pointer("coef"), pointer("src")
	terms := pointer("n")
	each(v, size, 4, func(places []place) {
		acc := v.Vecs(len(places))
		for _, a := range acc {
			v.Clear(a)
		}
		c, header, left, at := GP64(), GP64(), GP64(), GP64()
		MOVQ(coef, c)
		MOVQ(src, header)
		MOVQ(terms, left)
		loop := isa.NewLabel("term")
		Label(loop)
		MOVQ(Mem{Base: header}, at)
		factor := v.Vec()
		VBROADCASTSS(Mem{Base: c}, factor)
		for i, p := range places {
			if p.mask == nil {
				VFMADD231PS(p.mem(at), factor, acc[i])
			} else {
				VFMADD231PS(p.load(at), factor, acc[i])
			}
		}
		ADDQ(I8(4), c)
		ADDQ(I8(24), header)
		DECQ(left)
		JNZ(LabelRef(loop))
		for i, p := range places {
			p.store(acc[i], dst)
		}
	})
	end()
}

// block is how many groups of four vectors are added in float32 before the
// lanes go to float64: 64*4 = 256 terms a lane.
const block = 64

// reduction writes a sum over n elements of terms added to one of four float32
// accumulators by add, in blocks, and of blocks in float64.
func reduction(v isa.ISA, n reg.Register, add func(p place, acc vec)) {
	wide := []vec{v.Zero(), v.Zero()}
	acc := v.Vecs(4)
	index, left, turns := GP64(), GP64(), GP64()
	XORQ(index, index)
	MOVQ(n, left)
	flush := func() {
		VADDPS(acc[1], acc[0], acc[0])
		VADDPS(acc[3], acc[2], acc[2])
		VADDPS(acc[2], acc[0], acc[0])
		lo, hi := v.Vec(), v.Vec()
		if v.Wide {
			VCVTPS2PD(acc[0].AsY(), lo)
			VEXTRACTF64X4(U8(1), acc[0], hi.AsY())
			VCVTPS2PD(hi.AsY(), hi)
		} else {
			VCVTPS2PD(acc[0].AsX(), lo)
			VEXTRACTF128(U8(1), acc[0], hi.AsX())
			VCVTPS2PD(hi.AsX(), hi)
		}
		VADDPD(lo, wide[0], wide[0])
		VADDPD(hi, wide[1], wide[1])
	}
	outer, inner, flushed, rest := isa.NewLabel("block"), isa.NewLabel("group"), isa.NewLabel("flush"), isa.NewLabel("rest")
	Label(outer)
	for _, a := range acc {
		v.Clear(a)
	}
	CMPQ(left, I32(int32(4*v.Lanes)))
	JL(LabelRef(rest))
	MOVQ(I32(block), turns)
	Label(inner)
	CMPQ(left, I32(int32(4*v.Lanes)))
	JL(LabelRef(flushed))
	for i, a := range acc {
		add(place{v: v, index: index, disp: i * v.Bytes()}, a)
	}
	ADDQ(I32(int32(4*v.Lanes)), index)
	SUBQ(I32(int32(4*v.Lanes)), left)
	DECQ(turns)
	JNZ(LabelRef(inner))
	Label(flushed)
	flush()
	JMP(LabelRef(outer))

	Label(rest)
	single, tail, done := isa.NewLabel("single"), isa.NewLabel("tail"), isa.NewLabel("done")
	Label(single)
	CMPQ(left, I32(int32(v.Lanes)))
	JL(LabelRef(tail))
	add(place{v: v, index: index}, acc[0])
	ADDQ(I32(int32(v.Lanes)), index)
	SUBQ(I32(int32(v.Lanes)), left)
	JMP(LabelRef(single))
	Label(tail)
	TESTQ(left, left)
	JZ(LabelRef(done))
	mask := v.TailMask(left)
	add(place{v: v, index: index, mask: &mask}, acc[1])
	Label(done)
	flush()

	VADDPD(wide[1], wide[0], wide[0])
	if v.Wide {
		VEXTRACTF64X4(U8(1), wide[0], wide[1].AsY())
		VADDPD(wide[1].AsY(), wide[0].AsY(), wide[0].AsY())
	}
	x, y := wide[0].AsX(), wide[1].AsX()
	VEXTRACTF128(U8(1), wide[0].AsY(), y)
	VADDPD(y, x, x)
	VUNPCKHPD(x, x, y)
	VADDSD(y, x, x)
	b, err := ReturnIndex(0).Resolve()
	if err != nil {
		panic(err)
	}
	VMOVSD(x, b.Addr)
	end()
}

func dot(v isa.ISA) {
	begin(v, "dot", "func(x, y []float32) float64", "is Dot.")
	n, x, y := length("x"), base("x"), base("y")
	reduction(v, n, func(p place, acc vec) {
		a := p.load(x)
		if p.mask == nil {
			VFMADD231PS(p.mem(y), a, acc)
		} else {
			VFMADD231PS(p.load(y), a, acc)
		}
	})
}

func sum(v isa.ISA) {
	begin(v, "sum", "func(x []float32) float64", "is Sum.")
	n, x := length("x"), base("x")
	reduction(v, n, func(p place, acc vec) {
		if p.mask == nil {
			VADDPS(p.mem(x), acc, acc)
		} else {
			VADDPS(p.load(x), acc, acc)
		}
	})
}

// across combines all lanes of r by op and returns the result in all lanes.
func across(v isa.ISA, r vec, op func(src, a, dst Op)) vec {
	t, all := v.Vec(), v.Vec()
	if v.Wide {
		VEXTRACTF64X4(U8(1), r, t.AsY())
		op(t.AsY(), r.AsY(), r.AsY())
	}
	VEXTRACTF128(U8(1), r.AsY(), t.AsX())
	op(t.AsX(), r.AsX(), r.AsX())
	VPERMILPS(U8(0x4e), r.AsX(), t.AsX())
	op(t.AsX(), r.AsX(), r.AsX())
	VPERMILPS(U8(0xb1), r.AsX(), t.AsX())
	op(t.AsX(), r.AsX(), r.AsX())
	VBROADCASTSS(r.AsX(), all)
	return all
}

func addOp(src, a, dst Op) { VADDPS(src, a, dst) }
func maxOp(src, a, dst Op) { VMAXPS(src, a, dst) }

// rowsLoop is the loop over rows of cols elements of the slices at bases, which it
// moves along.
func rowsLoop(bases []reg.Register, cols reg.Register, body func()) {
	rows := pointer("rows")
	loop, done := isa.NewLabel("row"), isa.NewLabel("rows")
	Label(loop)
	TESTQ(rows, rows)
	JLE(LabelRef(done))
	body()
	for _, b := range bases {
		LEAQ(Mem{Base: b, Index: cols, Scale: 4}, b)
	}
	DECQ(rows)
	JMP(LabelRef(loop))
	Label(done)
	end()
}

func softmaxRows(v isa.ISA) {
	begin(v, "softmaxRows", "func(dst, x *float32, rows, cols int)", "is SoftmaxRows.")
	dst, x, cols := pointer("dst"), pointer("x"), pointer("cols")
	e := newExponential(v)
	lowest := v.Const("minusinf", 0xff800000)
	rowsLoop([]reg.Register{dst, x}, cols, func() {
		top := v.Vec()
		VMOVUPS(lowest, top)
		each(v, cols, 1, func(places []place) {
			p := places[0]
			a := p.load(x)
			if p.mask != nil {
				filled := v.Vec()
				VMOVUPS(lowest, filled)
				v.Select(*p.mask, a, filled)
				a = filled
			}
			VMAXPS(a, top, top)
		})
		top = across(v, top, maxOp)
		total := v.Zero()
		each(v, cols, 1, func(places []place) {
			p := places[0]
			a := p.load(x)
			VSUBPS(top, a, a)
			a = e.emit(a)
			p.store(a, dst)
			if p.mask != nil {
				v.Keep(*p.mask, a)
			}
			VADDPS(a, total, total)
		})
		total = across(v, total, addOp)
		each(v, cols, 1, func(places []place) {
			p := places[0]
			a := p.load(dst)
			VDIVPS(total, a, a)
			p.store(a, dst)
		})
	})
}

func softmaxRowsGrad(v isa.ISA) {
	begin(v, "softmaxRowsGrad", "func(dx, y, dy *float32, rows, cols int)", "is SoftmaxRowsGrad.")
	dx, y, dy, cols := pointer("dx"), pointer("y"), pointer("dy"), pointer("cols")
	rowsLoop([]reg.Register{dx, y, dy}, cols, func() {
		total := v.Zero()
		each(v, cols, 1, func(places []place) {
			p := places[0]
			VFMADD231PS(p.load(y), p.load(dy), total)
		})
		total = across(v, total, addOp)
		each(v, cols, 1, func(places []place) {
			p := places[0]
			a, b := p.load(y), p.load(dy)
			VSUBPS(total, b, b)
			VMULPS(a, b, b)
			p.store(b, dx)
		})
	})
}
