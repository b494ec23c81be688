// Pair writes the elementwise kernels of attention over tiles of token pairs. The
// drivers in pkg/kernel hold their definitions as plain loops (see pair.go there).
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

// Compare predicates beside those of isa.
const (
	lessOrEqual = 0x12
	notLess     = 0x15 // or unordered
)

func main() {
	for _, v := range isa.All {
		distances(v)
		scores(v)
		softmaxStep(v)
		grad(v, true)
		grad(v, false)
	}
	Generate()
}

func begin(v isa.ISA, name, signature, doc string) {
	TEXT(name+v.Suffix, attr.NOSPLIT, signature)
	Pragma("noescape")
	Doc(name + v.Suffix + " is " + doc)
}

func pointer(name string) reg.Register { return Load(Param(name), GP64()) }

func broadcast(v isa.ISA, name string) vec {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	r := v.Vec()
	VBROADCASTSS(b.Addr, r)
	return r
}

// tile is a matrix, or several of one shape, gone through by columns of vectors.
type tile struct {
	v      isa.ISA
	width  reg.Register    // bytes of a row
	column reg.GPVirtual   // bytes before the present column
	at     reg.GPVirtual   // bytes before the present row's vector
	left   reg.GPVirtual   // rows to go
	extra  []reg.GPVirtual // registers that go on by a number of bytes each row
	steps  []int
}

func newTile(v isa.ISA) *tile {
	t := &tile{v: v, width: Load(Param("cols"), GP64()), column: GP64(), at: GP64(), left: GP64()}
	SHLQ(U8(2), t.width)
	XORQ(t.column, t.column)
	return t
}

// columns calls body for each vector of columns, or group of n vectors.
func (t *tile) columns(n int, body func()) {
	loop := isa.NewLabel("columns")
	Label(loop)
	body()
	ADDQ(U32(uint32(n*t.v.Bytes())), t.column)
	CMPQ(t.column, t.width)
	JL(LabelRef(loop))
	VZEROUPPER()
	RET()
}

// rows calls body for each row, of which there is at least one.
func (t *tile) rows(body func()) {
	loop := isa.NewLabel("rows")
	MOVQ(t.column, t.at)
	Load(Param("rows"), t.left)
	Label(loop)
	body()
	ADDQ(t.width, t.at)
	for i, e := range t.extra {
		ADDQ(I32(int32(t.steps[i])), e)
	}
	DECQ(t.left)
	JNZ(LabelRef(loop))
}

// of is where the present vector of the matrix at base is, j vectors on.
func (t *tile) of(base reg.Register, j int) Mem {
	return Mem{Base: base, Index: t.at, Scale: 1, Disp: j * t.v.Bytes()}
}

// head is where the present vector of the row of cols elements at base is.
func (t *tile) head(base reg.Register, j int) Mem {
	return Mem{Base: base, Index: t.column, Scale: 1, Disp: j * t.v.Bytes()}
}

func distances(v isa.ISA) {
	begin(v, "pairDistances", "func(rows, cols int, near float32, gk, q, add, low, x *float32)", "PairDistances.")
	t := newTile(v)
	near, g, q, add, low, x := broadcast(v, "near"), pointer("gk"), pointer("q"), pointer("add"), pointer("low"), pointer("x")
	two, zero := v.ConstReg("two", isa.F32(2)), v.Zero()
	sign, inf := v.Const("sign", 0x80000000), v.ConstMem("inf", 0x7f800000)
	gr := GP64()
	t.extra, t.steps = []reg.GPVirtual{gr}, []int{4}
	t.columns(1, func() {
		gq, plus, minus, least := v.Vec(), v.Vec(), v.Vec(), v.Vec()
		v.Load(t.head(q, 0), gq)
		v.Load(t.head(add, 0), plus)
		VXORPS(sign, plus, minus)
		VMOVUPS(inf, least)
		MOVQ(g, gr)
		t.rows(func() {
			sum, d, m, r := v.Vec(), v.Vec(), v.Vec(), v.Vec()
			VBROADCASTSS(Mem{Base: gr}, sum)
			VADDPS(gq, sum, sum)
			v.Load(t.of(x, 0), d)
			VFNMADD213PS(sum, two, d)
			VADDPS(plus, d, r)
			// Not above zero, and no NaN: the distance is zero, and marked.
			clamped := v.Compare(lessOrEqual, d, zero)
			v.Select(clamped, minus, r)
			v.Store(r, t.of(x, 0))
			VMOVAPS(r, m)
			v.Select(clamped, plus, m)
			VFNMADD231PS(near, sum, m)
			VMINPS(least, m, least)
		})
		v.Store(least, t.head(low, 0))
	})
}

// logarithm computes log|x| for normal numbers, NaN for what is not finite,
// leaving x: Cephes' logf, as in the vector kernels.
func logarithm(v isa.ISA, x vec) vec {
	m, k, e, bad := v.Vec(), v.Vec(), v.Vec(), v.Vec()
	VANDPS(v.ConstMem("abs", 0x7fffffff), x, m)
	VSUBPS(x, x, bad)
	VPSUBD(v.ConstMem("sqrthalf", 0x3f3504f3), m, k)
	VPSRAD(U8(23), k, k)
	VPSLLD(U8(23), k, e)
	VPSUBD(e, m, m)
	VCVTDQ2PS(k, k)
	VSUBPS(v.ConstMem("one", isa.F32(1)), m, m)
	z, p := v.Vec(), v.Vec()
	VMULPS(m, m, z)
	for i, c := range []float64{7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1} {
		mem := v.ConstMem(fmt.Sprint("log", i), isa.F32(c))
		if i == 0 {
			VMOVUPS(mem, p)
		} else {
			VFMADD213PS(mem, m, p)
		}
	}
	VMULPS(m, p, p)
	VMULPS(z, p, p)
	VFMADD231PS(v.ConstMem("ln2lo", isa.F32(-2.12194440e-4)), k, p)
	VFNMADD231PS(v.ConstMem("half", isa.F32(0.5)), z, p)
	VADDPS(m, p, p)
	VFMADD231PS(v.ConstMem("ln2hi", isa.F32(0.693359375)), k, p)
	VADDPS(bad, p, p)
	return p
}

// exponential computes exp(min(x,88)), and 0 below -87, destroying x; NaN passes.
// Cephes' expf, as in the vector kernels.
func exponential(v isa.ISA, x vec) vec {
	lo := v.ConstReg("explo", isa.F32(-87))
	hi := v.ConstReg("exphi88", isa.F32(88))
	some := v.Compare(notLess, x, lo)
	VMINPS(x, hi, x) // the first operand, where one is NaN
	VMAXPS(x, lo, x)
	n, p, r2 := v.Vec(), v.Vec(), v.Vec()
	VMULPS(v.ConstMem("log2e", isa.F32(1.44269504088896341)), x, n)
	if v.Wide {
		VRNDSCALEPS(U8(8), n, n)
	} else {
		VROUNDPS(U8(8), n, n)
	}
	VFNMADD231PS(v.ConstMem("ln2hi", isa.F32(0.693359375)), n, x)
	VFNMADD231PS(v.ConstMem("ln2lo", isa.F32(-2.12194440e-4)), n, x)
	VMULPS(x, x, r2)
	for i, c := range []float64{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		mem := v.ConstMem(fmt.Sprint("exp", i), isa.F32(c))
		if i == 0 {
			VMOVUPS(mem, p)
		} else {
			VFMADD213PS(mem, x, p)
		}
	}
	VFMADD213PS(x, r2, p)
	VADDPS(v.ConstMem("one", isa.F32(1)), p, p)
	VCVTPS2DQ(n, n)
	VPADDD(v.ConstMem("bias", 127), n, n)
	VPSLLD(U8(23), n, n)
	VMULPS(n, p, p)
	v.Keep(some, p)
	return p
}

func scores(v isa.ISA) {
	begin(v, "pairScores", "func(rows, cols int, kappa, h float32, r, s *float32)", "PairScores.")
	t := newTile(v)
	kappa, h, r, s := broadcast(v, "kappa"), broadcast(v, "h"), pointer("r"), pointer("s")
	t.columns(1, func() {
		t.rows(func() {
			a, b := v.Vec(), v.Vec()
			v.Load(t.of(r, 0), a)
			v.Load(t.of(s, 0), b)
			l := logarithm(v, a)
			VMULPS(kappa, b, b)
			VFMADD231PS(l, h, b)
			v.Store(b, t.of(s, 0))
		})
	})
}

func softmaxStep(v isa.ISA) {
	begin(v, "softmaxStep", "func(rows, cols int, x, top, sum, scale *float32)", "SoftmaxStep.")
	t := newTile(v)
	x, top, sum, scale := pointer("x"), pointer("top"), pointer("sum"), pointer("scale")
	lowest := v.ConstReg("lowest", isa.F32(-3e38))
	t.columns(2, func() {
		old, m, total := v.Vecs(2), v.Vecs(2), v.Vecs(2)
		for j := range 2 {
			v.Load(t.head(top, j), old[j])
			VMOVAPS(old[j], m[j])
		}
		t.rows(func() {
			for j := range 2 {
				VMAXPS(t.of(x, j), m[j], m[j])
			}
		})
		for j := range 2 {
			v.Store(m[j], t.head(top, j))
			VMAXPS(m[j], lowest, m[j])
			VSUBPS(m[j], old[j], old[j])
			f := exponential(v, old[j])
			v.Store(f, t.head(scale, j))
			v.Load(t.head(sum, j), total[j])
			VMULPS(f, total[j], total[j])
		}
		t.rows(func() {
			for j := range 2 {
				a := v.Vec()
				v.Load(t.of(x, j), a)
				VSUBPS(m[j], a, a)
				a = exponential(v, a)
				v.Store(a, t.of(x, j))
				VADDPS(a, total[j], total[j])
			}
		})
		for j := range 2 {
			v.Store(total[j], t.head(sum, j))
		}
	})
}

// grad writes PairGrad, with the factor of distances or without.
func grad(v isa.ISA, distances bool) {
	if distances {
		begin(v, "pairGrad", "func(rows, cols int, kappa, h float32, r, s, dw, lse, t, dp, colE, rowE *float32)", "PairGrad.")
	} else {
		begin(v, "softmaxGrad", "func(rows, cols int, kappa float32, s, dw, lse, t *float32)", "PairGrad without distances.")
	}
	tl := newTile(v)
	kappa, s, dw, lse, tp := broadcast(v, "kappa"), pointer("s"), pointer("dw"), pointer("lse"), pointer("t")
	var h vec
	var r, dp, colE, rowE reg.Register
	re := GP64()
	if distances {
		h = broadcast(v, "h")
		r, dp, colE, rowE = pointer("r"), pointer("dp"), pointer("colE"), pointer("rowE")
		tl.extra, tl.steps = []reg.GPVirtual{re}, []int{64}
	}
	tl.columns(1, func() {
		if distances {
			// Sums over rows go to 16 lanes by column: half of them are a vector of AVX2.
			MOVQ(tl.column, re)
			ANDQ(U32(uint32(64-v.Bytes())), re)
			ADDQ(rowE, re)
		}
		tl.rows(func() {
			l := v.Vec()
			v.Load(tl.of(s, 0), l)
			VMULPS(kappa, l, l)
			var lg, a vec
			if distances {
				a = v.Vec()
				v.Load(tl.of(r, 0), a)
				lg = logarithm(v, a)
				VFMADD231PS(lg, h, l)
			}
			VSUBPS(tl.head(lse, 0), l, l)
			w := exponential(v, l)
			v.Store(w, tl.of(s, 0))
			p := v.Vec()
			v.Load(tl.of(dw, 0), p)
			VSUBPS(tl.head(tp, 0), p, p)
			VMULPS(w, p, p)
			v.Store(p, tl.of(dw, 0))
			if !distances {
				return
			}
			sum := v.Vec()
			v.Load(tl.head(dp, 0), sum)
			VFMADD231PS(p, lg, sum)
			v.Store(sum, tl.head(dp, 0))
			e := v.Vec()
			VMULPS(h, p, e)
			VDIVPS(a, e, e)
			marked := v.Compare(isa.LT, a, v.ConstReg("zero", 0))
			none := v.Zero()
			v.Select(marked, none, e)
			v.Store(e, tl.of(r, 0))
			VADDPS(tl.head(colE, 0), e, sum)
			v.Store(sum, tl.head(colE, 0))
			VADDPS(Mem{Base: re}, e, e)
			v.Store(e, Mem{Base: re})
		})
	})
}
