package data

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// The files of MNIST (LeCun, Cortes and Burges) and of the sets that follow it
// (Fashion-MNIST, KMNIST, ...), with or without .gz; some copies have a dot
// before "idx".
const (
	mnistTrainImages = "train-images-idx3-ubyte"
	mnistTrainLabels = "train-labels-idx1-ubyte"
	mnistTestImages  = "t10k-images-idx3-ubyte"
	mnistTestLabels  = "t10k-labels-idx1-ubyte"
)

func isMNIST(name string) bool {
	name = strings.Replace(strings.TrimSuffix(name, ".gz"), ".idx", "-idx", 1)
	switch name {
	case mnistTrainImages, mnistTrainLabels, mnistTestImages, mnistTestLabels:
		return true
	}
	return false
}

var digits = strings.Fields("0 1 2 3 4 5 6 7 8 9")

// openMNIST reads a pair of idx files: gray images and their labels. The class
// names are those of classes.txt, else the ten digits.
func openMNIST(dir string, o LabelledOptions) (LabelledImages, error) {
	classes, err := classNames(dir, classFile, digits)
	if err != nil {
		return nil, err
	}
	imagePath, err := findIDX(dir, o.file(mnistTrainImages, mnistTestImages))
	if err != nil {
		return nil, err
	}
	labelPath, err := findIDX(dir, o.file(mnistTrainLabels, mnistTestLabels))
	if err != nil {
		return nil, err
	}
	shape, pix, err := readIDX(imagePath, 3)
	if err != nil {
		return nil, err
	}
	count, labels, err := readIDX(labelPath, 1)
	if err != nil {
		return nil, err
	}
	if count[0] != shape[0] {
		return nil, refuse(labelPath, fmt.Sprintf("%d labels", count[0]), fmt.Sprintf("%d, one for each image of %s", shape[0], filepath.Base(imagePath)))
	}
	s := &byteSet{c: 1, h: shape[1], w: shape[2], pix: pix, classes: classes}
	if err := s.addLabels(labelPath, labels); err != nil {
		return nil, err
	}
	return s.part(dir, o)
}

// findIDX returns the path of an idx file under one of the names it goes by.
func findIDX(dir, name string) (string, error) {
	for _, n := range []string{name, strings.Replace(name, "-idx", ".idx", 1)} {
		for _, ext := range []string{"", ".gz"} {
			path := filepath.Join(dir, n+ext)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", refuse(dir, "no file "+name+" or "+name+".gz", "the idx files of MNIST")
}

// readIDX reads an idx file of unsigned bytes; see decodeIDX.
func readIDX(path string, dims int) (shape []int, values []byte, err error) {
	f, err := openFile(path, "an idx file", maxSet)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return decodeIDX(f, path, dims)
}

// decodeIDX decodes an idx file of unsigned bytes with the given number of
// dimensions: the bytes 0, 0, 8, dims; dims sizes of 32 bits, big endian; then
// as many bytes as the product of the sizes and nothing more. A gzip stream is
// told by its first bytes and unpacked. All sizes must be positive and their
// product at most maxSet.
func decodeIDX(r io.Reader, name string, dims int) (shape []int, values []byte, err error) {
	br := bufio.NewReader(r)
	r = br
	if magic, _ := br.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, refuse(name, fmt.Sprintf("a damaged gzip stream (%v)", err), "an idx file")
		}
		r = z
	}
	damaged := func(err error) error {
		return refuse(name, fmt.Sprintf("a file that cannot be unpacked or read (%v)", err), "a whole idx file")
	}
	head := make([]byte, 4+4*dims)
	if n, err := io.ReadFull(r, head); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && r == io.Reader(br) {
			return nil, nil, refuse(name, fmt.Sprintf("%d bytes", n), fmt.Sprintf("an idx file, which begins with %d", len(head)))
		}
		return nil, nil, damaged(err)
	}
	if want := [4]byte{0, 0, 8, byte(dims)}; [4]byte(head) != want {
		return nil, nil, refuse(name, fmt.Sprintf("a file starting with % x", head[:4]), fmt.Sprintf("% x, the mark of an idx file of unsigned bytes with %d dimensions", want, dims))
	}
	total := uint64(1)
	for i := range dims {
		n := binary.BigEndian.Uint32(head[4+4*i:])
		if n == 0 {
			return nil, nil, refuse(name, fmt.Sprintf("size 0 in dimension %d", i+1), "sizes >= 1")
		}
		if total *= uint64(n); total > maxSet {
			return nil, nil, refuse(name, fmt.Sprintf("sizes %v ...", append(shape, int(n))), fmt.Sprintf("a product of at most %d", maxSet))
		}
		shape = append(shape, int(n))
	}
	values, err = readAll(r, int64(total))
	switch {
	case err != nil:
		return nil, nil, damaged(err)
	case uint64(len(values)) < total:
		return nil, nil, refuse(name, fmt.Sprintf("%d bytes after the header", len(values)), fmt.Sprintf("%d, the product of the sizes %v", total, shape))
	case uint64(len(values)) > total:
		return nil, nil, refuse(name, "bytes after the last value", fmt.Sprintf("%d, the product of the sizes %v", total, shape))
	}
	return shape, values, nil
}
