package data

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// The classes of CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in the order of their
// labels, for copies without the file that lists them.
var (
	cifar10Classes  = strings.Fields("airplane automobile bird cat deer dog frog horse ship truck")
	cifar100Classes = strings.Fields(`
		apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar cattle
		chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house
		kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
		otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew
		skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
		tulip turtle wardrobe whale willow_tree wolf woman worm`)
)

// cifarImage is the number of bytes of an image, (3,32,32).
const cifarImage = 3 * 32 * 32

// openCIFAR reads the binary version of CIFAR-10 (data_batch_1.bin and on,
// test_batch.bin; names in batches.meta.txt) or of CIFAR-100 (train.bin,
// test.bin; names in fine_label_names.txt). A record is one byte with the label
// (CIFAR-100: two, the coarse label first) and the image (3,32,32).
func openCIFAR(dir string, entries []fs.DirEntry, o LabelledOptions) (LabelledImages, error) {
	names, fine := []string{o.file("train.bin", "test.bin")}, o.Format == FormatCIFAR100
	meta, known := "fine_label_names.txt", cifar100Classes
	if !fine {
		meta, known = "batches.meta.txt", cifar10Classes
		names = []string{"test_batch.bin"}
		if o.Part != PartTest {
			var err error
			if names, err = numbered(dir, entries, "data_batch_", ".bin", 1); err != nil {
				return nil, err
			}
		}
	}
	s := &byteSet{c: 3, h: 32, w: 32}
	var err error
	if s.classes, err = classNames(dir, meta, known); err != nil {
		return nil, err
	}
	for _, n := range names {
		path := filepath.Join(dir, n)
		data, err := readFile(path, "records of CIFAR", maxSet)
		if err != nil {
			return nil, err
		}
		if err := s.addCIFAR(path, data, fine); err != nil {
			return nil, err
		}
	}
	return s.part(dir, o)
}

// addCIFAR appends the records of one file.
func (s *byteSet) addCIFAR(path string, data []byte, fine bool) error {
	head := 1
	if fine {
		head = 2
	}
	size := head + cifarImage
	if len(data) == 0 || len(data)%size != 0 {
		return refuse(path, fmt.Sprintf("%d bytes", len(data)), fmt.Sprintf("a multiple of %d, records of %d label and %d image bytes", size, head, cifarImage))
	}
	if len(s.pix)+len(data) > maxSet {
		return refuse(path, fmt.Sprintf("%d bytes beside the %d of the files before", len(data), len(s.pix)), fmt.Sprintf("at most %d in all", maxSet))
	}
	labels := make([]byte, 0, len(data)/size)
	for i := 0; i < len(data); i += size {
		if fine && data[i] >= 20 {
			return refuse(path, fmt.Sprintf("coarse label %d of example %d", data[i], i/size), "0 to 19")
		}
		labels = append(labels, data[i+head-1])
		s.pix = append(s.pix, data[i+head:i+size]...)
	}
	return s.addLabels(path, labels)
}
