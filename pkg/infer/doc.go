// Package infer restores whole images with trained networks: it is the public
// interface of the project, and what its command is a client of.
//
// Five lines turn the mosaic of a colour sensor into a picture:
//
//	net, err := infer.Open("uglr-demosaic")
//	if err != nil {
//		return err
//	}
//	picture, err := net.Restore(ctx, mosaic, infer.WithPattern("rggb"))
//
// # What can be restored
//
// A network was trained for one of three tasks, and Restore does that one: a
// one-channel mosaic becomes RGB ("demosaic"); an image becomes s times larger,
// sample (i,j) at pixel (s*i, s*j) ("scale"); pixels under a mask, or those whose
// alpha is 0, are filled ("fill"). Networks come with the binary (names as in
// weights.Names) or from files, which describe themselves. Resolve finds
// networks and the classical methods of package baseline by one name, as a
// Restorer, so that they can be compared; Simulate tries one on any complete
// image.
//
// There are three levels. Network.Restore takes an image.Image and returns one of
// the same depth. RestoreImage takes and returns an imageio.Image, with alpha and
// colour profile. RestorePlanar takes samples y and mask as float32 (C,H,W) and
// returns the restored (C,H,W), in the range of the samples, unrounded.
//
// # How it is done
//
// The samples are first interpolated over the whole image (graph.Initial). Then
// the network goes over the image block by block. The estimate of the whole
// image is kept between blocks, and each block goes over tiles, computed by
// several workers at once. A tile is a core inside a window; the window is larger
// by the pixels one block looks around itself (model.Network.Reach), so the core
// is what the block would compute on the whole image, bit for bit: results do not
// depend on the size of tiles or the number of workers. (A halo for the whole
// network instead would be several hundred pixels wide.)
//
// All windows of a block have one size, since a window at the image's border is
// pushed inwards rather than cut, so a worker compiles one graph for each block.
//
// # Memory
//
// Between blocks two estimates, the samples and one bit an element are kept:
// 8.1 bytes for each element of the image and 4 for each sample. The rest of
// Options.MaxMemory is for the graphs of the workers, and decides the size of
// tiles: larger ones compute fewer pixels twice.
package infer
