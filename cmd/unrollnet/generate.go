package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/infer"
)

// maxPrompt bounds a prompt from standard input, in bytes.
const maxPrompt = 64 << 20

// generated is what --json prints.
type generated struct {
	Model   string `json:"model"`
	Prompt  string `json:"prompt"`
	Text    string `json:"text"`            // what follows the prompt
	Bytes   []byte `json:"bytes,omitempty"` // the same in base64, where it is no UTF-8
	Symbols int    `json:"symbols"`
	Seed    uint64 `json:"seed"`
}

func newGenerate(a *app) *cobra.Command {
	var (
		name   string
		prompt string
		asJSON bool
		opt    infer.GenerateOptions
	)
	c := &cobra.Command{
		Use:   "generate",
		Short: "Go on with a text, with a trained language model",
		Long: `Print a prompt and what a language model makes follow it, symbol by symbol as they
come, each drawn by the probability the model gives it. The same seed gives the same
text. --temperature 0 takes the likeliest symbol each time; below 1 what is likely
becomes likelier, above 1 less so. --top-k draws from that many of the likeliest.

--prompt - reads the prompt from standard input. Without a prompt the text begins as
after a newline (after symbol 0, if the model knows no newline). A prompt may only
hold symbols that the model was trained on.`,
		Example: "  unrollnet generate --model runs/lm/model.safetensors --prompt 'func main() {' --length 400\n" +
			"  unrollnet generate --model runs/lm/model.safetensors --temperature 0 --json",
		Args: argCount(0, 0, "none: the text goes into --prompt"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case name == "":
				return usagef("--model: found none, expected the weight file of a language model")
			case opt.Length < 1:
				return usagef("--length: found %d, expected at least 1", opt.Length)
			case !(opt.Temperature >= 0 && opt.Temperature <= 1e6):
				return usagef("--temperature: found %v, expected 0 (the likeliest) or more", opt.Temperature)
			case opt.TopK < 0:
				return usagef("--top-k: found %d, expected 0 (all) or more", opt.TopK)
			}
			net, err := infer.OpenLanguageModel(name)
			if err != nil {
				return openError(name, err)
			}
			if prompt == "-" {
				b, err := io.ReadAll(io.LimitReader(a.in, maxPrompt+1))
				if err != nil {
					return &rejected{fmt.Errorf("stdin: %w", err)}
				}
				if len(b) > maxPrompt {
					return &rejected{fmt.Errorf("stdin: found a prompt of more than %d bytes, expected fewer", maxPrompt)}
				}
				prompt = string(b)
			}
			return generate(cmd.Context(), a, net, prompt, opt, asJSON)
		},
	}
	f := c.Flags()
	f.StringVarP(&name, "model", "m", "", "weight `FILE` of a language model")
	f.StringVar(&prompt, "prompt", "", "`TEXT` to go on with, or - for standard input")
	f.IntVar(&opt.Length, "length", 256, "symbols to add")
	f.Float64Var(&opt.Temperature, "temperature", 0.8, "0: the likeliest symbol each time; else what logits are divided by")
	f.IntVar(&opt.TopK, "top-k", 0, "draw from the `K` likeliest symbols (default all)")
	f.Uint64Var(&opt.Seed, "seed", 1, "of the symbols drawn")
	f.BoolVar(&asJSON, "json", false, "print one JSON object when done")
	return c
}

// generate prints a prompt and what follows.
func generate(ctx context.Context, a *app, net *infer.LanguageModel, prompt string, opt infer.GenerateOptions, asJSON bool) error {
	var broken *outputError
	begun := false
	if !asJSON {
		// The prompt is printed with the first symbol: not at all if it is refused.
		opt.Each = func(s string) error {
			if !begun {
				s, begun = prompt+s, true
			}
			if _, err := io.WriteString(a.out, s); err != nil {
				broken = &outputError{err}
				return broken
			}
			return nil
		}
	}
	text, err := net.Generate(ctx, prompt, opt)
	var unknown *infer.PromptError
	switch {
	case broken != nil:
		return broken
	case errors.As(err, &unknown):
		return usagef("--%s", err)
	case asJSON && err == nil:
		line := generated{Model: net.Name(), Prompt: prompt, Text: text, Symbols: opt.Length, Seed: opt.Seed}
		if !utf8.ValidString(text) {
			line.Bytes = []byte(text)
		}
		if err := json.NewEncoder(a.out).Encode(line); err != nil {
			return &outputError{err}
		}
	case begun && !strings.HasSuffix(text, "\n"):
		fmt.Fprintln(a.out)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return &damaged{fmt.Errorf("%s: %w", net.Name(), err)}
	}
	return err
}
