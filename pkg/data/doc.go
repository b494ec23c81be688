// Package data feeds training and evaluation: folders of images behind a
// bounded decode cache, the degradations that turn a clean image into samples
// and a mask (Bayer mosaics, decimation grids, missing pixels), and a sampler
// whose every example is a function of (seed, epoch, index) alone. Classifiers
// get labelled images (MNIST, CIFAR, sheets, folders of classes) with a sampler
// that augments them, language models a text with its vocabulary.
//
// Signals are planar float32, (C,H,W), in [0,1]. A mask has the shape of its
// signal, 1 where the sample is known and 0 where it is missing; the degraded
// signal is 0 there.
package data
