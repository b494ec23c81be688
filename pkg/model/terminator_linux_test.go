package model

import (
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// BenchmarkTerminator measures the processor time of a training step of the network
// published for CIFAR-10 on 8 images, one thread, and the most memory the process
// has held.
func BenchmarkTerminator(b *testing.B) {
	const batch = 8
	n := buildTerminator(b, 3, cifarTerminator("published"), 1)
	rng := rand.New(rand.NewPCG(1, 2))
	x, labels := make([]float32, batch*3*1024), make([]float32, batch)
	for i := range x {
		x[i] = rng.Float32()
	}
	for i := range labels {
		labels[i] = float32(rng.IntN(10))
	}
	g := G.NewGraph()
	bl := nn.NewBuilder(g, op.NewEnv(1), n.params)
	logits, penalty, err := n.ClassifyPenalised(bl, bl.Input("x", x, batch, 3, 32, 32), 5e-5)
	if err != nil {
		b.Fatal(err)
	}
	loss, err := op.CrossEntropy(bl.Env, logits, bl.Input("labels", labels, 1, batch), .09)
	if err != nil {
		b.Fatal(err)
	}
	loss = G.Must(G.Add(loss, penalty))
	nodes, _ := bl.Learnables()
	grads, err := G.Grad(loss, nodes...)
	if err != nil {
		b.Fatal(err)
	}
	var inputs G.Nodes
	for _, n := range g.AllNodes() {
		if n.IsVar() {
			inputs = append(inputs, n)
		}
	}
	prog, loc, err := G.CompileFunction(g, inputs, append(G.Nodes{loss}, grads...))
	if err != nil {
		b.Fatal(err)
	}
	m := G.NewTapeMachine(g, G.WithPrecompiled(prog, loc))
	defer m.Close()
	step := func() {
		if err := m.RunAll(); err != nil {
			b.Fatal(err)
		}
		m.Reset()
	}
	step() // allocates
	start, steps := processorTime(b), 0
	for b.Loop() {
		step()
		steps++
	}
	b.ReportMetric(1000*(processorTime(b)-start)/float64(steps), "cpu-ms/step")
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(u.Maxrss)/1024, "peak-MiB")
}
