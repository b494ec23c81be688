package train

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
)

// board writes scalars as TensorBoard reads them: a file of TFRecords, each a
// protocol buffer of tensorflow.Event. Every start of a run writes a file of its
// own; TensorBoard shows a folder's files as one course and drops the points
// that a resumed run passes a second time.
type board struct {
	f   checkpoint.Handle
	now func() time.Time
}

func newBoard(fsys checkpoint.FS, dir string, step int, now func() time.Time) (*board, error) {
	name := fmt.Sprintf("events.out.tfevents.%d.unrollnet.%08d", now().Unix(), step)
	f, err := fsys.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	b := &board{f, now}
	if err := b.record(b.event(step, 3, []byte("brain.Event:2"))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

// scalars writes the values at a step; those that are not finite are left out.
func (b *board) scalars(step int, tags []string, values []float64) error {
	var summary []byte
	for i, tag := range tags {
		if v := values[i]; !math.IsNaN(v) && !math.IsInf(v, 0) {
			value := field(nil, 1, []byte(tag))
			value = append(value, 2<<3|5)
			value = binary.LittleEndian.AppendUint32(value, math.Float32bits(float32(v)))
			summary = field(summary, 1, value)
		}
	}
	return b.record(b.event(step, 5, summary))
}

// event encodes an Event: wall_time (1, double), step (2, varint) and one more
// field of bytes: file_version (3) or summary (5).
func (b *board) event(step, number int, data []byte) []byte {
	e := []byte{1<<3 | 1}
	e = binary.LittleEndian.AppendUint64(e, math.Float64bits(float64(b.now().UnixMicro())/1e6))
	e = append(e, 2<<3)
	e = binary.AppendUvarint(e, uint64(step))
	return field(e, number, data)
}

// field appends a length-delimited field of a protocol buffer.
func field(to []byte, number int, data []byte) []byte {
	to = append(to, byte(number<<3|2))
	to = binary.AppendUvarint(to, uint64(len(data)))
	return append(to, data...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mask is TFRecord's disguise of a CRC.
func mask(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// record writes a TFRecord: length (8 bytes), its CRC, data, its CRC.
func (b *board) record(data []byte) error {
	r := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	r = binary.LittleEndian.AppendUint32(r, mask(r))
	r = append(r, data...)
	r = binary.LittleEndian.AppendUint32(r, mask(data))
	_, err := b.f.Write(r)
	return err
}

func (b *board) close() error { return b.f.Close() }
