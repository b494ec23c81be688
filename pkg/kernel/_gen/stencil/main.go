// Stencil writes the row kernels of the pixel graph: Apply, Outer and Distance.
// Each computes vecs vectors of one row for a fixed number of planes; the loops
// over rows and groups of planes are in Go.
package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"unrollnet.kernel/gen/isa"
)

type shape struct{ planes, vectors int }

// applyShapes are the planes and vectors of a row computed at once: enough
// independent sums to hide the latency of an addition, and as many planes as
// possible for each weight loaded.
var applyShapes = []shape{{12, 1}, {9, 1}, {6, 1}, {4, 2}, {3, 2}, {2, 4}, {1, 4}}

// pairShapes are the same for two rows at once, which share the neighbours they
// load: twice the sums for the same planes.
var pairShapes = map[string][]shape{
	"AVX2":   {{6, 1}, {5, 1}, {4, 1}, {3, 1}, {2, 2}, {1, 4}},
	"AVX512": {{12, 1}, {9, 1}, {6, 1}, {4, 2}, {3, 2}, {2, 4}, {1, 4}},
}

// outerPlanes are the groups of planes of Outer. The symmetric form keeps two
// vectors of each plane in registers, so AVX2 stops at 6.
var outerPlanes = map[string][]int{
	"AVX2":   {6, 5, 4, 3, 2, 1},
	"AVX512": {9, 6, 5, 4, 3, 2, 1},
}

// distancePlanes are the groups of planes of Distance, kept in registers.
var distancePlanes = []int{12, 8, 6, 4, 3, 2, 1}

func main() {
	for _, v := range isa.All {
		for _, s := range applyShapes {
			apply(v, s.planes, s.vectors)
		}
		for _, s := range pairShapes[v.Suffix] {
			applyPair(v, s.planes, s.vectors)
		}
		for _, n := range outerPlanes[v.Suffix] {
			outer(v, n, false)
			outer(v, n, true)
		}
		for _, n := range distancePlanes {
			distance(v, n)
		}
	}
	Generate()
}

// strides returns operands for the same element of n planes, given base+disp
// in the first: multiples of the plane length come from the scale of an index
// register wherever possible.
type strides map[int]reg.GPVirtual

func newStrides(plane reg.GPVirtual, n int) strides {
	s := strides{1: plane}
	for m := 3; m < n; m += 2 {
		r := GP64()
		LEAQ(Mem{Base: s[m-2], Index: plane, Scale: 2}, r)
		s[m] = r
	}
	return s
}

func (s strides) at(base reg.GPVirtual, q, disp int) Mem {
	if q == 0 {
		return Mem{Base: base, Disp: disp}
	}
	scale := uint8(1)
	for q%2 == 0 && scale < 8 {
		q /= 2
		scale *= 2
	}
	return Mem{Base: base, Index: s[q], Scale: scale, Disp: disp}
}

// loadBytes loads a parameter that counts elements and turns it into bytes.
func loadBytes(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	SHLQ(U8(2), r)
	return r
}

func loadParam(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}

// slot returns the memory of a parameter. What changes once per vector lives
// there: general registers are scarce in these kernels.
func slot(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// element returns the address of the present element of parameter name, a
// pointer that is not kept in a register; slot i holds the offset in bytes.
func element(name string) reg.GPVirtual {
	r := loadParam(name)
	ADDQ(slot("i"), r)
	return r
}

// tapList is the loop over the taps; body gets the offsets in elements of the
// edge weight and the neighbour from pixel i, and may overwrite them.
type tapList struct{ edges, offsets reg.GPVirtual }

// newTaps prepares the list: both pointers at its end, slot taps at minus its
// length.
func newTaps() tapList {
	n := loadParam("taps")
	t := tapList{edges: loadParam("edges"), offsets: loadParam("offsets")}
	LEAQ(Mem{Base: t.edges, Index: n, Scale: 8}, t.edges)
	LEAQ(Mem{Base: t.offsets, Index: n, Scale: 8}, t.offsets)
	NEGQ(n)
	MOVQ(n, slot("taps"))
	return t
}

func (t tapList) each(body func(edge, offset reg.GPVirtual)) {
	n := GP64()
	loop, done := isa.NewLabel("tap"), isa.NewLabel("tapdone")
	MOVQ(slot("taps"), n)
	TESTQ(n, n)
	JZ(LabelRef(done))
	Label(loop)
	edge, offset := GP64(), GP64()
	MOVQ(Mem{Base: t.edges, Index: n, Scale: 8}, edge)
	MOVQ(Mem{Base: t.offsets, Index: n, Scale: 8}, offset)
	body(edge, offset)
	INCQ(n)
	JNZ(LabelRef(loop))
	Label(done)
}

func apply(v isa.ISA, planes, vectors int) {
	TEXT(fmt.Sprintf("applyRow%d%s", planes, v.Suffix), attr.NOSPLIT|attr.NOFRAME,
		"func(dst, diag, w, x *float32, i int, edges, offsets *int, taps, vecs, plane int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("applyRow%d%s computes vecs vectors of Apply from element i on, for %d planes.", planes, v.Suffix, planes))
	i := loadBytes("i")
	MOVQ(i, slot("i"))
	w, x := loadParam("w"), loadParam("x")
	ADDQ(i, w)
	ADDQ(i, x)
	plane := loadBytes("plane")
	s := newStrides(plane, planes)
	taps := newTaps()

	block := func(vectors int) {
		acc := v.Vecs(planes * vectors)
		d := v.Vecs(vectors)
		diag := element("diag")
		for j := range vectors {
			v.Load(Mem{Base: diag, Disp: j * v.Bytes()}, d[j])
			for p := range planes {
				VMULPS(s.at(x, p, j*v.Bytes()), d[j], acc[p*vectors+j])
			}
		}
		taps.each(func(edge, offset reg.GPVirtual) {
			e := v.Vecs(vectors)
			LEAQ(Mem{Base: x, Index: offset, Scale: 4}, offset)
			for j := range vectors {
				v.Load(Mem{Base: w, Index: edge, Scale: 4, Disp: j * v.Bytes()}, e[j])
			}
			for p := range planes {
				for j := range vectors {
					VFNMADD231PS(s.at(offset, p, j*v.Bytes()), e[j], acc[p*vectors+j])
				}
			}
		})
		dst := element("dst")
		for p := range planes {
			for j := range vectors {
				v.Store(acc[p*vectors+j], s.at(dst, p, j*v.Bytes()))
			}
		}
		for _, r := range []Op{slot("i"), w, x} {
			ADDQ(U32(uint32(vectors*v.Bytes())), r)
		}
	}
	countdown(v, vectors, block)
}

// applyPair is apply for two rows. Its tap list has three ints for each tap of
// either row, by ascending offset: the offset from the pixel of the first row,
// and the edges' offsets from that pixel for the first and the second row. The
// taps come in rounds of three counts: so many of the first row alone, of both,
// of the second row alone. A negative count ends the rounds.
func applyPair(v isa.ISA, planes, vectors int) {
	name := fmt.Sprintf("applyPair%d%s", planes, v.Suffix)
	TEXT(name, attr.NOSPLIT|attr.NOFRAME,
		"func(dst, diag, w, x *float32, i int, taps, rounds *int, vecs, plane, stride int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes vecs vectors of Apply from element i on, and from i+stride on, for %d planes.", name, planes))
	i := loadBytes("i")
	MOVQ(i, slot("i"))
	w, x := loadParam("w"), loadParam("x")
	ADDQ(i, w)
	ADDQ(i, x)
	stride := loadBytes("stride")
	MOVQ(stride, slot("stride"))
	plane := loadBytes("plane")
	s := newStrides(plane, planes)

	countdown(v, vectors, func(vectors int) {
		acc := [2][]reg.VecVirtual{v.Vecs(planes * vectors), v.Vecs(planes * vectors)}
		for row := range 2 {
			diag, centre := element("diag"), x
			if row > 0 {
				ADDQ(slot("stride"), diag)
				centre = GP64()
				MOVQ(x, centre)
				ADDQ(slot("stride"), centre)
			}
			for j := range vectors {
				d := v.Vec()
				v.Load(Mem{Base: diag, Disp: j * v.Bytes()}, d)
				for p := range planes {
					VMULPS(s.at(centre, p, j*v.Bytes()), d, acc[row][p*vectors+j])
				}
			}
		}
		tap, round := loadParam("taps"), loadParam("rounds")
		next, done := isa.NewLabel("round"), isa.NewLabel("rounds")
		Label(next)
		for kind := range 3 {
			count := GP64()
			loop, skip := isa.NewLabel("tap"), isa.NewLabel("skip")
			MOVQ(Mem{Base: round, Disp: 8 * kind}, count)
			TESTQ(count, count)
			if kind == 0 {
				JL(LabelRef(done))
			}
			JZ(LabelRef(skip))
			Label(loop)
			offset := GP64()
			MOVQ(Mem{Base: tap}, offset)
			LEAQ(Mem{Base: x, Index: offset, Scale: 4}, offset)
			var rows []int
			var e [2][]reg.VecVirtual
			for row := range 2 {
				if kind == 1 || kind == 2*row {
					rows = append(rows, row)
					edge := GP64()
					MOVQ(Mem{Base: tap, Disp: 8 + 8*row}, edge)
					e[row] = v.Vecs(vectors)
					for j := range vectors {
						v.Load(Mem{Base: w, Index: edge, Scale: 4, Disp: j * v.Bytes()}, e[row][j])
					}
				}
			}
			for p := range planes {
				for j := range vectors {
					neighbour := Op(s.at(offset, p, j*v.Bytes()))
					if len(rows) > 1 {
						r := v.Vec()
						VMOVUPS(neighbour, r)
						neighbour = r
					}
					for _, row := range rows {
						VFNMADD231PS(neighbour, e[row][j], acc[row][p*vectors+j])
					}
				}
			}
			ADDQ(I8(24), tap)
			DECQ(count)
			JNZ(LabelRef(loop))
			Label(skip)
		}
		ADDQ(I8(24), round)
		JMP(LabelRef(next))
		Label(done)
		for row := range 2 {
			dst := element("dst")
			if row > 0 {
				ADDQ(slot("stride"), dst)
			}
			for p := range planes {
				for j := range vectors {
					v.Store(acc[row][p*vectors+j], s.at(dst, p, j*v.Bytes()))
				}
			}
		}
		for _, r := range []Op{slot("i"), w, x} {
			ADDQ(U32(uint32(vectors*v.Bytes())), r)
		}
	})
}

// countdown runs block for all vectors of parameter vecs, several at once
// while enough are left.
func countdown(v isa.ISA, vectors int, block func(vectors int)) {
	vecs := slot("vecs")
	if vectors > 1 {
		many, few := isa.NewLabel("many"), isa.NewLabel("few")
		Label(many)
		CMPQ(vecs, I8(int8(vectors)))
		JL(LabelRef(few))
		block(vectors)
		SUBQ(I8(int8(vectors)), vecs)
		JMP(LabelRef(many))
		Label(few)
	}
	one, done := isa.NewLabel("one"), isa.NewLabel("done")
	Label(one)
	CMPQ(vecs, I8(1))
	JL(LabelRef(done))
	block(1)
	SUBQ(I8(1), vecs)
	JMP(LabelRef(one))
	Label(done)
	VZEROUPPER()
	RET()
}

func outer(v isa.ISA, planes int, symmetric bool) {
	name := fmt.Sprintf("outerRow%d%s", planes, v.Suffix)
	what := "directed"
	if symmetric {
		name, what = fmt.Sprintf("outerSymmetricRow%d%s", planes, v.Suffix), "symmetric"
	}
	TEXT(name, attr.NOSPLIT|attr.NOFRAME, "func(dw, ddiag, a, b *float32, scale float32, i int, edges, offsets *int, taps, vecs, plane int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes vecs vectors of the %s Outer from element i on, for %d planes of p = a and v = b.", name, what, planes))
	i := loadBytes("i")
	dw, a, b := loadParam("dw"), loadParam("a"), loadParam("b")
	ADDQ(i, dw)
	ADDQ(i, a)
	ADDQ(i, b)
	MOVQ(i, slot("i"))
	plane := loadBytes("plane")
	s := newStrides(plane, planes)
	taps := newTaps()
	var scale reg.VecVirtual
	if v.Wide {
		scale = v.Vec()
		VBROADCASTSS(slot("scale"), scale)
	}
	scaled := func() reg.VecVirtual {
		if v.Wide {
			return scale
		}
		r := v.Vec()
		VBROADCASTSS(slot("scale"), r)
		return r
	}

	countdown(v, 1, func(int) {
		pa := v.Vecs(planes)
		var vb []reg.VecVirtual
		sum := v.Vec()
		for q := range planes {
			v.Load(s.at(a, q, 0), pa[q])
		}
		if symmetric {
			vb = v.Vecs(planes)
			for q := range planes {
				v.Load(s.at(b, q, 0), vb[q])
			}
			VMULPS(pa[0], vb[0], sum)
			for q := 1; q < planes; q++ {
				VFMADD231PS(pa[q], vb[q], sum)
			}
		} else {
			VMULPS(s.at(b, 0, 0), pa[0], sum)
			for q := 1; q < planes; q++ {
				VFMADD231PS(s.at(b, q, 0), pa[q], sum)
			}
		}
		f, old := scaled(), v.Vec()
		ddiag := element("ddiag")
		v.Load(Mem{Base: ddiag}, old)
		VFMADD231PS(sum, f, old)
		v.Store(old, Mem{Base: ddiag})
		taps.each(func(edge, offset reg.GPVirtual) {
			sum := v.Vec()
			SHLQ(U8(2), offset)
			at := GP64()
			LEAQ(Mem{Base: b, Index: offset, Scale: 1}, at)
			VMULPS(s.at(at, 0, 0), pa[0], sum)
			for q := 1; q < planes; q++ {
				VFMADD231PS(s.at(at, q, 0), pa[q], sum)
			}
			if symmetric {
				other := v.Vec()
				ADDQ(a, offset)
				VMULPS(s.at(offset, 0, 0), vb[0], other)
				for q := 1; q < planes; q++ {
					VFMADD231PS(s.at(offset, q, 0), vb[q], other)
				}
				VADDPS(other, sum, sum)
			}
			LEAQ(Mem{Base: dw, Index: edge, Scale: 4}, edge)
			f, old := scaled(), v.Vec()
			v.Load(Mem{Base: edge}, old)
			VFNMADD231PS(sum, f, old)
			v.Store(old, Mem{Base: edge})
		})
		for _, r := range []Op{slot("i"), dw, a, b} {
			ADDQ(U32(uint32(v.Bytes())), r)
		}
	})
}

func distance(v isa.ISA, planes int) {
	name := fmt.Sprintf("distanceRow%d%s", planes, v.Suffix)
	TEXT(name, attr.NOSPLIT|attr.NOFRAME, "func(dst, x *float32, i int, edges, offsets *int, taps, vecs, plane int, more bool)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes vecs vectors of Distance from element i on, for %d planes, on top of what dst holds if more.", name, planes))
	i := loadBytes("i")
	dst, x := loadParam("dst"), loadParam("x")
	ADDQ(i, dst)
	ADDQ(i, x)
	plane := loadBytes("plane")
	s := newStrides(plane, planes)
	taps := newTaps()

	countdown(v, 1, func(int) {
		centre := v.Vecs(planes)
		for q := range planes {
			v.Load(s.at(x, q, 0), centre[q])
		}
		taps.each(func(edge, offset reg.GPVirtual) {
			sum, diff := v.Vec(), v.Vec()
			LEAQ(Mem{Base: x, Index: offset, Scale: 4}, offset)
			v.Clear(sum)
			fresh := isa.NewLabel("fresh")
			LEAQ(Mem{Base: dst, Index: edge, Scale: 4}, edge)
			CMPB(slot("more"), I8(0))
			JE(LabelRef(fresh))
			v.Load(Mem{Base: edge}, sum)
			Label(fresh)
			for q := range planes {
				VSUBPS(s.at(offset, q, 0), centre[q], diff)
				VFMADD231PS(diff, diff, sum)
			}
			v.Store(sum, Mem{Base: edge})
		})
		for _, r := range []Op{dst, x} {
			ADDQ(U32(uint32(v.Bytes())), r)
		}
	})
}
