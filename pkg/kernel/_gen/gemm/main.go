// Command gemm generates the AVX2 and AVX-512 kernels under the matrix product
// and the convolutions.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	_ "github.com/mmcloughlin/avo/reg"
)

func main() {
	TEXT("cpuPause", NOSPLIT, "func()")
	NOP()
	_ = Imm(0)
	RET()
	Generate()
}
