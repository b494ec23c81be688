package train

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/task"
)

// pool computes the gradient of a batch on replicas that take micro-batches as
// they become free. The gradient of micro-batch j goes to slot j and the slots
// are summed in order, so the result has the same bits for any number of
// replicas and any timing.
type pool struct {
	replicas []*replica
	strides  []int         // elements of one example of each input
	micro    int           // examples in a micro-batch
	flat     [][]float32   // slot j: all gradients of micro-batch j, end to end
	slots    [][][]float32 // the same, by parameter
	losses   []float64     // mean loss of micro-batch j
	sum      []float32     // the batch's gradient, end to end
	grads    [][]float32   // the same, by parameter
}

// newPool divides workers threads over replicas and, where there are fewer
// micro-batches than threads, over the kernels inside them. batch must be a
// multiple of micro.
func newPool(net model.Model, t task.Task, batch, micro, workers int) (*pool, error) {
	if micro < 1 || batch < micro || batch%micro != 0 {
		return nil, fmt.Errorf("train.batch: found %d, expected a multiple of train.micro_batch (%d)", batch, micro)
	}
	n := batch / micro
	p := &pool{micro: micro, losses: make([]float64, n)}
	for _, x := range t.Inputs() {
		p.strides = append(p.strides, x.Size())
	}
	replicas := min(max(workers, 1), n)
	for range replicas {
		r, err := newReplica(net, t, micro, max(workers/replicas, 1))
		if err != nil {
			return nil, err
		}
		p.replicas = append(p.replicas, r)
	}
	views := func(flat []float32) (v [][]float32) {
		at := 0
		for _, q := range net.Params().All() {
			v = append(v, flat[at:at+len(q.Data):at+len(q.Data)])
			at += len(q.Data)
		}
		return v
	}
	for range n {
		flat := make([]float32, net.Params().Count())
		p.flat = append(p.flat, flat)
		p.slots = append(p.slots, views(flat))
	}
	p.sum = make([]float32, net.Params().Count())
	p.grads = views(p.sum)
	return p, nil
}

// gradient computes the mean loss over a batch and its gradient, which is left
// in p.grads. batch[i] holds the examples of input i, one after the other.
func (p *pool) gradient(batch [][]float32) (loss float64, err error) {
	var next atomic.Int64
	errs := make([]error, len(p.replicas))
	var wg sync.WaitGroup
	for w, r := range p.replicas {
		wg.Go(func() {
			for errs[w] == nil {
				j := int(next.Add(1)) - 1
				if j >= len(p.slots) {
					return
				}
				for i, s := range p.strides {
					n := s * p.micro
					copy(r.inputs[i], batch[i][j*n:(j+1)*n])
				}
				p.losses[j], errs[w] = r.run(p.slots[j])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	p.reduce()
	for _, l := range p.losses {
		loss += l
	}
	return loss / float64(len(p.losses)), nil
}

// reduce sets sum[i] = (flat[0][i] + flat[1][i] + ...) / len(flat), added in
// that order for each i.
func (p *pool) reduce() {
	scale := 1 / float32(len(p.flat))
	kernel.Parallel(len(p.replicas), len(p.sum), func(_, lo, hi int) {
		dst := p.sum[lo:hi]
		copy(dst, p.flat[0][lo:hi])
		for _, s := range p.flat[1:] {
			kernel.Axpy(1, s[lo:hi], dst)
		}
		if scale != 1 {
			kernel.Scale(scale, dst)
		}
	})
}

// scratch returns the temporary memory the replicas' operations hold, in bytes.
func (p *pool) scratch() (n int64) {
	for _, r := range p.replicas {
		n += r.env.ScratchBytes()
	}
	return n
}
