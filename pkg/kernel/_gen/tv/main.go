// Tv writes the recurrence of the edges of a graph total variation and its
// adjoint. A group of vectors goes through all layers before the next: its state
// is in registers, and what the adjoint needs of each layer in a record of the
// work buffer. Full vectors and the masked last one do the same operations, so
// that an edge's bits do not depend on where it lies.
package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"unrollnet.kernel/gen/isa"
)

type vec = reg.VecVirtual

// header is the size of a slice header in bytes.
const header = 24

// fluxVectors and gradVectors are how many vectors go through the layers
// together: enough to hide the latency of a layer, as far as registers go.
var (
	fluxVectors = map[string]int{"AVX2": 2, "AVX512": 4}
	gradVectors = map[string]int{"AVX2": 2, "AVX512": 4}
)

// Vectors of a record of the work buffer, one record a layer: constants and sums
// in every lane, then what the way forward keeps of each vector of a group.
// tv_amd64.go has the same numbers.
const (
	slotShrink    = iota // 1/(4 g_l)
	slotRatio            // g_l/g_{l+1}
	slotRatio1           // 1 + ratio
	slotSumShrink        // of the gradients, negative
	slotSumRatio
	slotP1
	slotP2   = slotP1 + maxVectors
	slotJump = slotP2 + maxVectors
	slotPhi  = slotJump + maxVectors
	slots    = slotPhi + maxVectors

	maxVectors = 4
)

func main() {
	for _, v := range isa.All {
		flux(v)
		grad(v, true)
		grad(v, false)
	}
	Generate()
}

func begin(v isa.ISA, name, signature, doc string) {
	TEXT(name+v.Suffix, attr.NOSPLIT|attr.NOFRAME, signature)
	Pragma("noescape")
	Doc(name + v.Suffix + " " + doc)
}

// param returns the place of a parameter in memory.
func param(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// parameter returns the parameter in a register.
func parameter(name string) reg.GPVirtual {
	r := GP64()
	MOVQ(param(name), r)
	return r
}

// place is one vector of a group: full, or the masked last one.
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

// difference returns a-b of two slices.
func (p place) difference(a, b reg.Register) vec {
	r := p.v.Vec()
	p.differenceTo(r, a, b)
	return r
}

// differenceTo sets r to a-b of two slices.
func (p place) differenceTo(r vec, a, b reg.Register) {
	if p.mask != nil {
		p.v.LoadMask(*p.mask, p.mem(a), r)
		VSUBPS(p.load(b), r, r)
	} else {
		p.v.Load(p.mem(a), r)
		VSUBPS(p.mem(b), r, r)
	}
}

// each goes through left elements from index on, calling body for groups of
// unroll vectors, then for single vectors, then for what is left.
func each(v isa.ISA, index, left reg.GPVirtual, unroll int, body func(places []place)) {
	for _, u := range []int{unroll, 1} {
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

// pair returns the addresses of the slices that the headers at offset at of two
// lists of slices describe.
func pair(first, second reg.Register, at reg.Register) (reg.GPVirtual, reg.GPVirtual) {
	a, b := GP64(), GP64()
	MOVQ(Mem{Base: first, Index: at, Scale: 1}, a)
	MOVQ(Mem{Base: second, Index: at, Scale: 1}, b)
	return a, b
}

// edges is the state of a vector of edges.
type edges struct {
	phi, delta, p1, p2 vec
}

// start returns the state before layer 1, from e_0.
func start(v isa.ISA, e, zero vec) edges {
	s := edges{phi: e, delta: v.Vec(), p1: v.Vec(), p2: v.Vec()}
	VMOVAPS(e, s.delta)
	// Of two operands VMAXPS returns the first where one is NaN.
	VSUBPS(e, zero, s.p1)
	VMAXPS(s.p1, zero, s.p1)
	VMAXPS(e, zero, s.p2)
	return s
}

// step goes from phi_l to phi_{l+1}, given w and u_i-u_j of layer l. keep, if any,
// is told the jump, phi in its making.
func (s edges) step(w Op, difference vec, shrink, ratio, quarter Op, zero vec, keep func(jump vec)) {
	VFNMADD231PS(w, difference, s.phi) // d
	VSUBPS(shrink, s.p1, s.p1)
	VSUBPS(shrink, s.p2, s.p2)
	VFMADD231PS(quarter, s.phi, s.p1)
	VFNMADD231PS(quarter, s.phi, s.p2)
	VMAXPS(s.p1, zero, s.p1)
	VMAXPS(s.p2, zero, s.p2)
	VSUBPS(s.delta, s.phi, s.phi)
	VSUBPS(s.p1, s.p2, s.delta)
	VADDPS(s.delta, s.phi, s.phi) // jump
	if keep != nil {
		keep(s.phi)
	}
	VFMADD132PS(ratio, s.delta, s.phi)
}

func flux(v isa.ISA) {
	begin(v, "tvFlux", "func(dst, w *float32, a, b *[]float32, steps *float32, layers, n int)",
		"is TVFlux of n edges; steps points to shrink and ratio of each layer.")
	dst, w, a, b := parameter("dst"), parameter("w"), parameter("a"), parameter("b")
	steps, end, left, index := parameter("steps"), parameter("layers"), parameter("n"), GP64()
	IMUL3Q(U8(header), end, end)
	XORQ(index, index)
	zero, quarter := v.Zero(), v.ConstReg("quarter", isa.F32(0.25))
	each(v, index, left, fluxVectors[v.Suffix], func(places []place) {
		at := GP64()
		XORQ(at, at)
		weights := make([]vec, len(places))
		state := make([]edges, len(places))
		pa, pb := pair(a, b, at)
		for i, p := range places {
			weights[i] = p.load(w)
			e := p.difference(pa, pb)
			VMULPS(weights[i], e, e)
			state[i] = start(v, e, zero)
		}
		constants := GP64()
		MOVQ(steps, constants)
		loop, done := isa.NewLabel("layer"), isa.NewLabel("layers")
		Label(loop)
		ADDQ(I8(header), at)
		CMPQ(at, end)
		JGE(LabelRef(done))
		ADDQ(I8(8), constants)
		shrink, ratio := v.Vec(), v.Vec()
		VBROADCASTSS(Mem{Base: constants}, shrink)
		VBROADCASTSS(Mem{Base: constants, Disp: 4}, ratio)
		pa, pb = pair(a, b, at)
		for i, p := range places {
			state[i].step(weights[i], p.difference(pa, pb), shrink, ratio, quarter, zero, nil)
		}
		JMP(LabelRef(loop))
		Label(done)
		for i, p := range places {
			VMULPS(weights[i], state[i].phi, state[i].phi)
			p.store(state[i].phi, dst)
		}
	})
	VZEROUPPER()
	RET()
}

// grad writes the adjoint for layer 0 (first), with the gradients of weights and
// penalties, or for a later one.
func grad(v isa.ISA, first bool) {
	if first {
		begin(v, "tvFluxGradFirst", "func(dst, dw, w *float32, a, b, ga, gb *[]float32, work *float32, layers, lo, n int)",
			"is TVFluxGrad with l = 0 of the edges lo..lo+n-1, the sums of the gradients of the constants added to work.")
	} else {
		begin(v, "tvFluxGrad", "func(dst, w *float32, a, b, ga, gb *[]float32, work *float32, l, layers, n int)",
			"is TVFluxGrad with l > 0 of n edges.")
	}
	a, b, ga, gb := parameter("a"), parameter("b"), parameter("ga"), parameter("gb")
	work, left, index := parameter("work"), parameter("n"), GP64()
	if first {
		MOVQ(param("lo"), index)
	} else {
		XORQ(index, index)
	}
	zero, quarter := v.Zero(), v.Const("quarter", isa.F32(0.25))
	each(v, index, left, gradVectors[v.Suffix], func(places []place) {
		n := len(places)
		at, record := GP64(), GP64()
		XORQ(at, at)
		MOVQ(work, record)
		slot := func(k int) Mem { return Mem{Base: record, Disp: k * v.Bytes()} }
		constant := func(k int) Op {
			if !v.Wide {
				return slot(k)
			}
			r := v.Vec()
			v.Load(slot(k), r)
			return r
		}
		size := U32(slots * v.Bytes())

		// Weights are in registers where these suffice.
		state, weights := make([]edges, n), make([]Op, n)
		weightsAt := parameter("w")
		for i, p := range places {
			if p.mask != nil || v.Wide && !first {
				weights[i] = p.load(weightsAt)
			} else {
				weights[i] = p.mem(weightsAt)
			}
		}

		// Forward, keeping p1 and p2 of every layer, for first the jump and phi.
		pa, pb := pair(a, b, at)
		for i, p := range places {
			e := p.difference(pa, pb)
			VMULPS(weights[i], e, e)
			s := start(v, e, zero)
			v.Store(s.p1, slot(slotP1+i))
			v.Store(s.p2, slot(slotP2+i))
			if first {
				v.Store(s.phi, slot(slotPhi+i))
			}
			state[i] = s
		}
		end := parameter("layers")
		IMUL3Q(U8(header), end, end)
		forward, turn := isa.NewLabel("forward"), isa.NewLabel("turn")
		Label(forward)
		ADDQ(I8(header), at)
		CMPQ(at, end)
		JGE(LabelRef(turn))
		ADDQ(size, record)
		pa, pb = pair(a, b, at)
		shrink, ratio := constant(slotShrink), constant(slotRatio)
		for i, p := range places {
			s := state[i]
			var keep func(vec)
			if first {
				keep = func(jump vec) { v.Store(jump, slot(slotJump+i)) }
			}
			s.step(weights[i], p.difference(pa, pb), shrink, ratio, quarter, zero, keep)
			v.Store(s.p1, slot(slotP1+i))
			v.Store(s.p2, slot(slotP2+i))
			if first {
				v.Store(s.phi, slot(slotPhi+i))
			}
		}
		JMP(LabelRef(forward))
		Label(turn)

		// Backward: the state is now that of the gradients with respect to phi_{l+1},
		// p1, p2 and, but for the sign, to Delta_l as the step after it used it.
		SUBQ(I8(header), at)
		var stop reg.GPVirtual
		if !first {
			stop = parameter("l")
			IMUL3Q(U8(header), stop, stop)
		}
		incoming, weight := make([]vec, n), make([]vec, n)
		pa, pb = pair(ga, gb, at)
		for i, p := range places {
			incoming[i] = p.difference(pa, pb)
			VMULPS(weights[i], incoming[i], state[i].phi)
			v.Clear(state[i].delta)
			v.Clear(state[i].p1)
			v.Clear(state[i].p2)
			if first {
				weight[i] = v.Zero()
			}
		}
		backward, bottom := isa.NewLabel("backward"), isa.NewLabel("bottom")
		Label(backward)
		sumRatio, sumShrink := v.Vec(), v.Vec()
		if first {
			TESTQ(at, at)
			JZ(LabelRef(bottom))
			pa, pb = pair(a, b, at)
			v.Load(slot(slotSumRatio), sumRatio)
		}
		ratio, ratio1 := constant(slotRatio), constant(slotRatio1)
		for i, p := range places {
			s := state[i]
			VFMSUB231PS(ratio1, s.phi, s.delta)
			VSUBPS(s.delta, s.p1, s.p1)
			v.Keep(v.Compare(isa.LT, zero, slot(slotP1+i)), s.p1)
			VADDPS(s.delta, s.p2, s.p2)
			v.Keep(v.Compare(isa.LT, zero, slot(slotP2+i)), s.p2)
			if first {
				VFMADD231PS(slot(slotJump+i), s.phi, sumRatio)
				VFMADD231PS(slot(slotPhi+i), incoming[i], weight[i])
			}
			VMULPS(ratio, s.phi, s.delta)
			VSUBPS(s.p2, s.p1, s.phi)
			VFMADD132PS(quarter, s.delta, s.phi) // the gradient with respect to d
			if first {
				VFNMADD231PS(p.difference(pa, pb), s.phi, weight[i])
			}
		}
		if first {
			v.Store(sumRatio, slot(slotSumRatio))
			v.Load(slot(slotSumShrink), sumShrink)
			for _, s := range state {
				VADDPS(s.p1, sumShrink, sumShrink)
				VADDPS(s.p2, sumShrink, sumShrink)
			}
			v.Store(sumShrink, slot(slotSumShrink))
		} else {
			CMPQ(at, stop)
			JE(LabelRef(bottom))
		}
		SUBQ(I8(header), at)
		SUBQ(size, record)
		pa, pb = pair(ga, gb, at)
		for i, p := range places {
			p.differenceTo(incoming[i], pa, pb)
			VFMADD231PS(weights[i], incoming[i], state[i].phi)
		}
		JMP(LabelRef(backward))
		Label(bottom)

		dst := parameter("dst")
		if !first {
			for i, p := range places {
				VSUBPS(state[i].phi, zero, state[i].phi)
				VMULPS(weights[i], state[i].phi, state[i].phi)
				p.store(state[i].phi, dst)
			}
			return
		}
		pa, pb = pair(a, b, at)
		dw := parameter("dw")
		for i, p := range places {
			s := state[i]
			VSUBPS(s.delta, s.phi, s.phi)
			v.Keep(v.Compare(isa.LT, zero, slot(slotP1+i)), s.p1)
			v.Keep(v.Compare(isa.LT, zero, slot(slotP2+i)), s.p2)
			VADDPS(s.p2, s.phi, s.phi)
			VSUBPS(s.p1, s.phi, s.phi)
			VFMADD231PS(slot(slotPhi+i), incoming[i], weight[i])
			VFMADD231PS(p.difference(pa, pb), s.phi, weight[i])
			VMULPS(weights[i], s.phi, s.phi)
			p.store(s.phi, dst)
			VADDPS(p.load(dw), weight[i], weight[i])
			p.store(weight[i], dw)
		}
	})
	VZEROUPPER()
	RET()
}
