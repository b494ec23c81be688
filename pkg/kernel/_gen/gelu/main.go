// Gelu writes the activation x*Phi(x) and its gradient. The masked last vector
// runs the operations of the others, so that an element's bits do not depend on
// where it lies.
package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"unrollnet.kernel/gen/isa"
)

type vec = reg.VecVirtual

func main() {
	for _, v := range isa.All {
		elementwise(v, "gelu", "func(dst, x []float32)", "dst", []string{"x"}, "is Gelu.", func(n normal, in []vec) vec {
			// max(0, x) - a*Phi(-a): the parts do not cancel.
			x := in[0]
			a := n.magnitude(x)
			tail := n.tail(a)
			VMAXPS(x, n.zero, x) // the first operand, where one is NaN
			VFNMADD231PS(tail, a, x)
			return x
		})
		elementwise(v, "geluGrad", "func(dx, x, dy []float32)", "dx", []string{"x", "dy"}, "is GeluGrad.", func(n normal, in []vec) vec {
			// The slope at -a is q = Phi(-a) - a*phi(a), at a it is 1-q.
			x, dy := in[0], in[1]
			a := n.magnitude(x)
			q, e := n.parts(a)
			VMULPS(n.root, a, a)
			VSUBPS(a, q, q)
			VMULPS(e, q, q)
			negative := v.Compare(isa.LT, x, n.zero)
			r := v.Vec()
			VSUBPS(q, n.one, r)
			v.Select(negative, q, r)
			VMULPS(dy, r, r)
			return r
		})
	}
	Generate()
}

// normal holds the constants of the lower tail of the normal distribution,
//
//	Phi(-a) = exp(-a^2/2) P(a)/Q(a)
//
// for a >= 0, with polynomials of degrees 3 and 4 fitted for the least absolute
// error: 4.2e-10. Their coefficients are all positive, so nothing cancels.
type normal struct {
	v                            isa.ISA
	zero, one                    vec
	limit, sign, minusHalf, root Op
	log2e, ln2hi, ln2lo, bias    Op
	exp, p, q                    []Op
}

func newNormal(v isa.ISA) normal {
	n := normal{
		v: v, zero: v.Zero(), one: v.ConstReg("one", isa.F32(1)),
		// Beyond 13 Phi(-a) is below 1e-37; up to there exp is a normal number.
		limit: v.Const("limit", isa.F32(13)), sign: v.Const("magnitude", 0x7fffffff),
		minusHalf: v.Const("minushalf", isa.F32(-.5)),
		root:      v.Const("root", isa.F32(1/math.Sqrt(2*math.Pi))),
		log2e:     v.Const("log2e", isa.F32(1.44269504088896341)),
		ln2hi:     v.Const("ln2hi", isa.F32(0.693359375)), ln2lo: v.Const("ln2lo", isa.F32(-2.12194440e-4)),
		bias: v.Const("bias", 127),
	}
	// Cephes' expf, as for Exp.
	for i, c := range []float64{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		n.exp = append(n.exp, v.Const(fmt.Sprint("exp", i), isa.F32(c)))
	}
	for i, c := range []float64{0.0101463414747, 0.087564767451, 0.300272350406, 0.499999999749} {
		n.p = append(n.p, v.Const(fmt.Sprint("p", i), isa.F32(c)))
	}
	for i, c := range []float64{0.0255067540601, 0.21809166985, 0.790915730109, 1.39842919822} {
		n.q = append(n.q, v.Const(fmt.Sprint("q", i), isa.F32(c)))
	}
	return n
}

// magnitude returns min(|x|, 13); NaN passes.
func (n normal) magnitude(x vec) vec {
	a := n.v.Vec()
	VMOVAPS(x, a)
	VANDPS(n.sign, a, a)
	limit := n.v.Vec()
	VMOVUPS(n.limit, limit)
	VMINPS(a, limit, a) // the first operand, where one is NaN
	return a
}

// parts returns Phi(-a)*exp(a^2/2) and exp(-a^2/2).
func (n normal) parts(a vec) (q, e vec) {
	v := n.v
	x, k, r2 := v.Vec(), v.Vec(), v.Vec()
	e = v.Vec()
	VMULPS(a, a, x)
	VMULPS(n.minusHalf, x, x)
	VMULPS(n.log2e, x, k)
	if v.Wide {
		VRNDSCALEPS(U8(8), k, k)
	} else {
		VROUNDPS(U8(8), k, k)
	}
	VFNMADD231PS(n.ln2hi, k, x)
	VFNMADD231PS(n.ln2lo, k, x)
	VMULPS(x, x, r2)
	VMOVUPS(n.exp[0], e)
	for _, c := range n.exp[1:] {
		VFMADD213PS(c, x, e)
	}
	VFMADD213PS(x, r2, e)
	VADDPS(n.one, e, e)
	VCVTPS2DQ(k, k)
	VPADDD(n.bias, k, k)
	VPSLLD(U8(23), k, k)
	VMULPS(k, e, e)

	d := v.Vec()
	q = v.Vec()
	VMOVUPS(n.q[0], d)
	for _, c := range append(n.q[1:], n.one) {
		VFMADD213PS(c, a, d)
	}
	VMOVUPS(n.p[0], q)
	for _, c := range n.p[1:] {
		VFMADD213PS(c, a, q)
	}
	VDIVPS(d, q, q)
	return q, e
}

// tail returns Phi(-a).
func (n normal) tail(a vec) vec {
	q, e := n.parts(a)
	VMULPS(e, q, q)
	return q
}

// elementwise writes dst[i] = body(in[0][i], ...).
func elementwise(v isa.ISA, name, signature, dst string, in []string, doc string, body func(n normal, in []vec) vec) {
	TEXT(name+v.Suffix, attr.NOSPLIT|attr.NOFRAME, signature)
	Pragma("noescape")
	Doc(name + v.Suffix + " " + doc)
	left := Load(Param(dst).Len(), GP64()).(reg.GPVirtual)
	to := Load(Param(dst).Base(), GP64())
	from := make([]reg.Register, len(in))
	for i, s := range in {
		from[i] = Load(Param(s).Base(), GP64())
	}
	n := newNormal(v)
	index := GP64()
	XORQ(index, index)
	at := func(base reg.Register) Mem { return Mem{Base: base, Index: index, Scale: 4} }
	loop, tail, done := isa.NewLabel("loop"), isa.NewLabel("tail"), isa.NewLabel("done")
	Label(loop)
	CMPQ(left, I32(int32(v.Lanes)))
	JL(LabelRef(tail))
	r := v.Vecs(len(in))
	for i := range in {
		v.Load(at(from[i]), r[i])
	}
	v.Store(body(n, r), at(to))
	ADDQ(I32(int32(v.Lanes)), index)
	SUBQ(I32(int32(v.Lanes)), left)
	JMP(LabelRef(loop))
	Label(tail)
	TESTQ(left, left)
	JLE(LabelRef(done))
	mask := v.TailMask(left)
	for i := range in {
		v.LoadMask(mask, at(from[i]), r[i])
	}
	v.StoreMask(mask, body(n, r), at(to))
	Label(done)
	VZEROUPPER()
	RET()
}
