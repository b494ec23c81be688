// Package checkpoint stores named tensors and training runs.
//
// Files are in the safetensors format: eight bytes with the length of a JSON
// header, the header, then the raw little-endian data of all tensors without
// gaps. The reader is strict and bounded: nothing is allocated before the sizes
// claimed by the header have been held against the size of the file. The writer
// is deterministic: the same names, shapes, values and metadata give the same
// bytes, whatever order they were added in.
//
// A run directory keeps checkpoints that are whole or absent:
//
//	RUN/lock                                   held by the process that trains
//	RUN/checkpoints/step-00001000/
//	    model.safetensors  ema.safetensors  optimizer.safetensors
//	    state.json         SHA256SUMS
//
// A checkpoint is written to a temporary directory, every file and the
// directory are flushed to the disk, and the directory is renamed into place.
// All file operations go through the FS interface, so that tests can make the
// n-th one fail.
package checkpoint
