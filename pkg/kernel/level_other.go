//go:build !amd64

package kernel

// haveAssembly says whether assembly kernels are compiled in.
const haveAssembly = false
