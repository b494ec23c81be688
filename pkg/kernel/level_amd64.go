package kernel

// haveAssembly says whether assembly kernels are compiled in.
const haveAssembly = true
