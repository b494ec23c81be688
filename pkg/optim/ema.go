package optim

import "fmt"

// EMA is the exponential moving average of parameters. With t the number of
// updates so far (0 at the first),
//
//	d = min(decay, (1 + t)/(10 + t))
//	average = average + (1 - d) * (p - average)
//
// so that early averages forget the initial values quickly.
type EMA struct {
	decay   float64
	tensors []Tensor
	avg     [][]float32
	updates int64
}

// NewEMA starts the average at a copy of params. decay in [0, 1).
func NewEMA(decay float64, tensors []Tensor, params [][]float32) (*EMA, error) {
	if !(decay >= 0 && decay < 1) {
		return nil, fmt.Errorf("train.ema: found %v, expected a number in [0, 1)", decay)
	}
	if err := checkTensors(tensors); err != nil {
		return nil, err
	}
	checkStep(tensors, params)
	e := &EMA{decay: decay, tensors: append([]Tensor(nil), tensors...), avg: alloc(tensors)}
	for i, p := range params {
		copy(e.avg[i], p)
	}
	return e, nil
}

// Update takes params into the average.
func (e *EMA) Update(params [][]float32) {
	checkStep(e.tensors, params)
	t := float64(e.updates)
	w := float32(1 - min(e.decay, (1+t)/(10+t)))
	e.updates++
	for i, p := range params {
		a := e.avg[i][:len(p)]
		for j, v := range p {
			a[j] += float32(w * (v - a[j]))
		}
	}
}

// Values returns the average, one slice per tensor; they belong to the EMA.
func (e *EMA) Values() [][]float32 { return e.avg }

// State returns ema/<name> and the counter "updates".
func (e *EMA) State() State {
	s := State{Tensors: make(map[string][]float32), Ints: map[string]int64{"updates": e.updates}}
	s.export("ema", e.tensors, e.avg)
	return s
}

// Restore sets what State returned; on an error nothing has changed.
func (e *EMA) Restore(s State) error {
	if err := s.load(e.tensors, []kind{{"ema", e.avg}}, []string{"updates"}); err != nil {
		return err
	}
	e.updates = s.Ints["updates"]
	return nil
}
