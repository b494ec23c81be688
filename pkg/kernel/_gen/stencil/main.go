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

// outerPlanes are the groups of planes of Outer, two rows of which are kept in
// registers.
var outerPlanes = map[string][]int{
	"AVX2":   {6, 5, 4, 3, 2, 1},
	"AVX512": {12, 9, 6, 5, 4, 3, 2, 1},
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

// rowEdge is where the tap list of two rows holds the edge's offset for one.
type rowEdge struct {
	row int
	at  Mem
}

func (e rowEdge) load() reg.GPVirtual {
	r := GP64()
	MOVQ(e.at, r)
	return r
}

// eachPair is the loop over the taps of two rows. Parameter taps has three ints
// for each tap of either row: the offset from the pixel of the first row, and the
// edges' offsets from that pixel for the first and the second row. The taps come
// in rounds of three counts, parameter rounds: so many of the first row alone, of
// both, of the second row alone. A negative count ends the rounds. body gets the
// address of the neighbour of x and the rows it is a neighbour for.
func eachPair(x reg.GPVirtual, body func(offset reg.GPVirtual, edges []rowEdge)) {
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
		var edges []rowEdge
		for row := range 2 {
			if kind == 1 || kind == 2*row {
				edges = append(edges, rowEdge{row, Mem{Base: tap, Disp: 8 + 8*row}})
			}
		}
		body(offset, edges)
		ADDQ(I8(24), tap)
		DECQ(count)
		JNZ(LabelRef(loop))
		Label(skip)
	}
	ADDQ(I8(24), round)
	JMP(LabelRef(next))
	Label(done)
}

// applyPair is apply for two rows.
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
		eachPair(x, func(offset reg.GPVirtual, edges []rowEdge) {
			e := make([][]reg.VecVirtual, len(edges))
			for k, edge := range edges {
				e[k] = v.Vecs(vectors)
				for j := range vectors {
					v.Load(Mem{Base: w, Index: edge.load(), Scale: 4, Disp: j * v.Bytes()}, e[k][j])
				}
			}
			for p := range planes {
				for j := range vectors {
					neighbour := Op(s.at(offset, p, j*v.Bytes()))
					if len(edges) > 1 {
						r := v.Vec()
						VMOVUPS(neighbour, r)
						neighbour = r
					}
					for k, edge := range edges {
						VFNMADD231PS(neighbour, e[k][j], acc[edge.row][p*vectors+j])
					}
				}
			}
		})
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

// outer adds the gradient of one direction, from the sums over planes of
// a[i]*b[i+offset]; with diagonal also that of diag. With pair it does so for two
// rows, which share the neighbours of b they load.
func outer(v isa.ISA, planes int, pair bool) {
	name, rows := fmt.Sprintf("outerRow%d%s", planes, v.Suffix), 1
	what := fmt.Sprintf("vecs vectors of the directed Outer from element i on, for %d planes of p = a and v = b, ddiag if diagonal.", planes)
	list := "edges, offsets *int, taps, vecs, plane int"
	if pair {
		name, rows = fmt.Sprintf("outerPair%d%s", planes, v.Suffix), 2
		what = "the same as outerRow for element i and for i+stride."
		list = "taps, rounds *int, vecs, plane, stride int"
	}
	TEXT(name, attr.NOSPLIT|attr.NOFRAME, "func(dw, ddiag, a, b *float32, scale float32, i int, "+list+", diagonal bool)")
	Pragma("noescape")
	Doc(name + " computes " + what)
	i := loadBytes("i")
	MOVQ(i, slot("i"))
	dw, b := loadParam("dw"), loadParam("b")
	ADDQ(i, dw)
	ADDQ(i, b)
	if pair {
		stride := loadBytes("stride")
		MOVQ(stride, slot("stride"))
	}
	plane := loadBytes("plane")
	s := newStrides(plane, planes)
	var taps tapList
	if !pair {
		taps = newTaps()
	}
	var scale reg.VecVirtual
	if v.Wide {
		scale = v.Vec()
		VBROADCASTSS(slot("scale"), scale)
	}
	// update does m += scale*sum, or -=, as op says.
	update := func(op func(ops ...Op), sum reg.VecVirtual, m Mem) {
		f, old := scale, v.Vec()
		if !v.Wide {
			f = v.Vec()
			VBROADCASTSS(slot("scale"), f)
		}
		v.Load(m, old)
		op(sum, f, old)
		v.Store(old, m)
	}

	countdown(v, 1, func(int) {
		centre := make([][]reg.VecVirtual, rows)
		for row := range rows {
			centre[row] = v.Vecs(planes)
			a := element("a")
			if row > 0 {
				ADDQ(slot("stride"), a)
			}
			for q := range planes {
				v.Load(s.at(a, q, 0), centre[row][q])
			}
		}
		skip := isa.NewLabel("skip")
		CMPB(slot("diagonal"), I8(0))
		JE(LabelRef(skip))
		for row := range rows {
			at, ddiag, sum := b, element("ddiag"), v.Vec()
			if row > 0 {
				ADDQ(slot("stride"), ddiag)
				at = GP64()
				MOVQ(b, at)
				ADDQ(slot("stride"), at)
			}
			VMULPS(s.at(at, 0, 0), centre[row][0], sum)
			for q := 1; q < planes; q++ {
				VFMADD231PS(s.at(at, q, 0), centre[row][q], sum)
			}
			update(VFMADD231PS, sum, Mem{Base: ddiag})
		}
		Label(skip)
		tap := func(offset reg.GPVirtual, rows []int, weight func(k int) Mem) {
			sums := v.Vecs(len(rows))
			for q := range planes {
				neighbour := Op(s.at(offset, q, 0))
				if len(rows) > 1 {
					r := v.Vec()
					VMOVUPS(neighbour, r)
					neighbour = r
				}
				for k, row := range rows {
					if q == 0 {
						VMULPS(neighbour, centre[row][q], sums[k])
					} else {
						VFMADD231PS(neighbour, centre[row][q], sums[k])
					}
				}
			}
			for k := range rows {
				update(VFNMADD231PS, sums[k], weight(k))
			}
		}
		if pair {
			eachPair(b, func(offset reg.GPVirtual, edges []rowEdge) {
				var rows []int
				for _, e := range edges {
					rows = append(rows, e.row)
				}
				tap(offset, rows, func(k int) Mem { return Mem{Base: dw, Index: edges[k].load(), Scale: 4} })
			})
		} else {
			taps.each(func(edge, offset reg.GPVirtual) {
				LEAQ(Mem{Base: b, Index: offset, Scale: 4}, offset)
				tap(offset, []int{0}, func(int) Mem { return Mem{Base: dw, Index: edge, Scale: 4} })
			})
		}
		for _, r := range []Op{slot("i"), dw, b} {
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
