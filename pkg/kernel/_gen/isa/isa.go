// Package isa lets one generator program write a kernel for AVX2 and for
// AVX-512: registers, masks and constants differ, the arithmetic does not.
package isa

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// ISA is an instruction set kernels are written for.
type ISA struct {
	Suffix string // of the names of the functions
	Lanes  int    // float32 in a vector
	Wide   bool   // AVX-512: 32 registers and mask registers
}

// AVX2 and AVX512 are the levels with assembly.
var (
	AVX2   = ISA{Suffix: "AVX2", Lanes: 8}
	AVX512 = ISA{Suffix: "AVX512", Lanes: 16, Wide: true}
)

// All lists the instruction sets, slowest first.
var All = []ISA{AVX2, AVX512}

// Bytes is the size of a vector.
func (v ISA) Bytes() int { return 4 * v.Lanes }

// Vec returns a fresh vector register.
func (v ISA) Vec() reg.VecVirtual {
	if v.Wide {
		return ZMM()
	}
	return YMM()
}

// Vecs returns n fresh vector registers.
func (v ISA) Vecs(n int) []reg.VecVirtual {
	r := make([]reg.VecVirtual, n)
	for i := range r {
		r[i] = v.Vec()
	}
	return r
}

// Zero returns a register set to zero.
func (v ISA) Zero() reg.VecVirtual {
	r := v.Vec()
	v.Clear(r)
	return r
}

// Clear sets r to zero.
func (v ISA) Clear(r reg.VecVirtual) { VXORPS(r, r, r) }

// Mask is what a tail or a comparison selects lanes with: a mask register, or a
// vector of all ones and all zeros.
type Mask struct {
	k reg.OpmaskVirtual
	y reg.VecVirtual
}

var tables = map[bool]operand.Mem{}

// TailMask returns the mask of the first n lanes, 0 <= n < Lanes. n is a 64-bit
// register and is destroyed.
func (v ISA) TailMask(n reg.GPVirtual) Mask {
	t, ok := tables[v.Wide]
	if !ok {
		if v.Wide {
			t = GLOBL("tailmask512", attr.RODATA|attr.NOPTR)
			for i := range 16 {
				DATA(2*i, operand.U16(1<<i-1))
			}
		} else {
			t = GLOBL("tailmask2", attr.RODATA|attr.NOPTR)
			for i := range 16 {
				var m uint32
				if i < 8 {
					m = math.MaxUint32
				}
				DATA(4*i, operand.U32(m))
			}
		}
		tables[v.Wide] = t
	}
	table := GP64()
	LEAQ(t, table)
	if v.Wide {
		m := Mask{k: K()}
		KMOVW(operand.Mem{Base: table, Index: n, Scale: 2}, m.k)
		return m
	}
	m := Mask{y: YMM()}
	NEGQ(n)
	VMOVUPS(operand.Mem{Base: table, Index: n, Scale: 4, Disp: 32}, m.y)
	return m
}

// Load reads a vector.
func (v ISA) Load(m operand.Mem, r reg.VecVirtual) { VMOVUPS(m, r) }

// LoadMask reads the lanes of the mask and sets the others to zero, without
// touching their memory.
func (v ISA) LoadMask(k Mask, m operand.Mem, r reg.VecVirtual) {
	if v.Wide {
		VMOVUPS_Z(m, k.k, r)
	} else {
		VMASKMOVPS(m, k.y, r)
	}
}

// Store writes a vector.
func (v ISA) Store(r reg.VecVirtual, m operand.Mem) { VMOVUPS(r, m) }

// StoreMask writes the lanes of the mask and leaves the other memory alone.
func (v ISA) StoreMask(k Mask, r reg.VecVirtual, m operand.Mem) {
	if v.Wide {
		VMOVUPS(r, k.k, m)
	} else {
		VMASKMOVPS(r, k.y, m)
	}
}

// Compare predicates, Intel's numbers: all quiet.
const (
	EQ  = 0x00
	LT  = 0x11
	NEQ = 0x04 // or unordered
	NGE = 0x19 // below, or unordered
	GT  = 0x1e
)

// Compare returns the lanes where a (predicate) b.
func (v ISA) Compare(predicate int, a, b operand.Op) Mask {
	if v.Wide {
		m := Mask{k: K()}
		VCMPPS(operand.U8(predicate), b, a, m.k)
		return m
	}
	m := Mask{y: YMM()}
	VCMPPS(operand.U8(predicate), b, a, m.y)
	return m
}

// Select sets the lanes of r where the mask is set to x.
func (v ISA) Select(k Mask, x operand.Op, r reg.VecVirtual) {
	if v.Wide {
		VBLENDMPS(x, r, k.k, r)
	} else {
		VBLENDVPS(k.y, x, r, r)
	}
}

// Keep sets the lanes of r where the mask is clear to zero.
func (v ISA) Keep(k Mask, r reg.VecVirtual) {
	if v.Wide {
		VMOVAPS_Z(r, k.k, r)
	} else {
		VANDPS(k.y, r, r)
	}
}

// Const returns an operand holding the bits in every lane: a register at
// AVX-512, memory at AVX2, where registers are few.
func (v ISA) Const(name string, bits uint32) operand.Op {
	m := v.ConstMem(name, bits)
	if !v.Wide {
		return m
	}
	r := v.Vec()
	VMOVUPS(m, r)
	return r
}

// ConstReg is Const in a register at every level.
func (v ISA) ConstReg(name string, bits uint32) reg.VecVirtual {
	r := v.Vec()
	VMOVUPS(v.ConstMem(name, bits), r)
	return r
}

var constants = map[string]operand.Mem{}

// ConstMem returns memory holding the bits in every lane.
func (v ISA) ConstMem(name string, bits uint32) operand.Mem {
	m, ok := constants[name]
	if !ok {
		m = GLOBL("const_"+name, attr.RODATA|attr.NOPTR)
		for i := range 16 {
			DATA(4*i, operand.U32(bits))
		}
		constants[name] = m
	}
	return m
}

// F32 returns the bits of x.
func F32(x float64) uint32 { return math.Float32bits(float32(x)) }

var labels int

// NewLabel returns a label unique in the file.
func NewLabel(name string) string {
	labels++
	return fmt.Sprintf("%s%d", name, labels)
}
