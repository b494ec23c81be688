package data

import "fmt"

// Tasks of networks that do not restore images.
const (
	Classify = "classify"
	Language = "language"
)

// Trained says what the outputs of a classifier or a language model mean. Its
// JSON travels in the weight file, under the metadata key unrollnet.task.
type Trained struct {
	Task       string      `json:"task"`                 // classify | language
	Classes    []string    `json:"classes,omitempty"`    // classify: the name of each output
	Vocabulary *Vocabulary `json:"vocabulary,omitempty"` // language: the symbol of each output
}

// Validate checks a description that came from outside, such as a weight file,
// against the number of outputs of the network.
func (t Trained) Validate(outputs int) error {
	switch t.Task {
	case Classify:
		if len(t.Classes) != outputs || t.Vocabulary != nil {
			return fmt.Errorf("found %d class names (vocabulary: %t), expected %d and no vocabulary", len(t.Classes), t.Vocabulary != nil, outputs)
		}
	case Language:
		if t.Vocabulary == nil || t.Classes != nil {
			return fmt.Errorf("found %d class names (vocabulary: %t), expected a vocabulary alone", len(t.Classes), t.Vocabulary != nil)
		}
		if err := t.Vocabulary.Validate(); err != nil {
			return err
		}
		if n := t.Vocabulary.Len(); n != outputs {
			return fmt.Errorf("found a vocabulary of %d symbols, expected %d", n, outputs)
		}
	default:
		return fmt.Errorf("found task %q, expected classify or language", t.Task)
	}
	return nil
}
