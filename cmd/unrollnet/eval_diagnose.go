package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/explain"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// diagnosed is the most inputs that --diagnose takes: means settle long before.
const diagnosed = 64

// diagnosis is what --diagnose measures of each network.
type diagnosis struct {
	on    bool
	names []string
	found []*explain.Diagnostics
}

// spread returns up to most of n places, evenly spread.
func spread(n, most int) []int {
	count := min(n, most)
	out := make([]int, count)
	for i := range out {
		out[i] = i * n / count
	}
	return out
}

// images diagnoses a classifier on images as they are: without noise, nothing
// covered.
func (d *diagnosis) images(ctx context.Context, name string, net model.Classifier, images data.LabelledImages, limit, workers int) error {
	if !d.on {
		return nil
	}
	var inputs [][]float32
	c, h, w := net.Input()
	for _, i := range spread(images.Len(), most(limit)) {
		x := make([]float32, c*h*w)
		if _, err := images.Example(i, x); err != nil {
			return err
		}
		inputs = append(inputs, x)
	}
	return d.run(ctx, name, net, inputs, workers)
}

// text diagnoses a language model on windows of a text.
func (d *diagnosis) text(ctx context.Context, name string, net model.LanguageModel, text *data.Sequences, limit, workers int) error {
	if !d.on {
		return nil
	}
	var inputs [][]float32
	next := make([]float32, net.Context())
	for _, i := range spread(text.Windows(net.Context()), most(limit)) {
		x := make([]float32, net.Context())
		if err := text.Window(i, x, next); err != nil {
			return err
		}
		inputs = append(inputs, x)
	}
	return d.run(ctx, name, net, inputs, workers)
}

// most is the number of inputs for a --limit, 0 for none.
func most(limit int) int {
	if limit > 0 {
		return min(limit, diagnosed)
	}
	return diagnosed
}

func (d *diagnosis) run(ctx context.Context, name string, net model.Model, inputs [][]float32, workers int) error {
	found, err := explain.Attention(ctx, net, workers, inputs...)
	var none *explain.NoAttentionError
	if errors.As(err, &none) {
		none.Name = name
		return usagef("--diagnose: %s", none)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.names, d.found = append(d.names, name), append(d.found, found)
	return nil
}

// encode writes a result as a line of JSON, with the last diagnosis where there is
// one.
func (d *diagnosis) encode(w io.Writer, result any) error {
	b, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if d.on {
		more, err := json.Marshal(d.found[len(d.found)-1])
		if err != nil {
			return err
		}
		b = append(append(append(bytes.TrimSuffix(b, []byte("}")), `,"diagnostics":`...), more...), '}')
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// print writes a table for each network.
func (d *diagnosis) print(w io.Writer) error {
	for i, found := range d.found {
		fmt.Fprintf(w, "\n%s: attention over %d inputs of %d tokens (cosine of tokens before the first layer: %s)\n", d.names[i], found.Inputs, found.Tokens, figure(float64(found.Embedding), 4))
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(tw, "LAYER\tHEAD\tP\tSELF WEIGHT\tENTROPY (NATS)\tTOKENS SEEN\tCOSINE\t")
		for l, layer := range found.Layers {
			for h, head := range layer.Heads {
				cosine := ""
				if h == 0 {
					cosine = figure(float64(layer.Cosine), 4)
				}
				fmt.Fprintf(tw, "%d\t%d\t%.3f\t%.4f\t%.4f\t%.1f\t%s\t\n", l+1, h+1, head.P, head.Self, head.Entropy, math.Exp(head.Entropy), cosine)
			}
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}
