package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/unrollnet/unrollnet/pkg/model/weights"
)

// digest returns the SHA-256 of a weight file or an embedded network, or the name of
// a classical method.
func digest(ref string) string {
	if b, err := os.ReadFile(ref); err == nil {
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	if b, err := weights.Open(ref); err == nil {
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	return "name:" + ref
}

// calibration is what a training step of one experiment costs.
type calibration struct {
	Seconds float64 `json:"cpu_seconds_per_step"` // the least of all steps measured, one thread
	Steps   int     `json:"steps"`                // measured
	Held    int64   `json:"held_bytes"`           // by a training step of one 64x64 patch: heap in use between steps
	Params  int     `json:"params"`
	Batch   int     `json:"batch"`
	Kernel  string  `json:"kernel"`
}

// training is a finished training.
type training struct {
	ID       string  `json:"id"`
	Task     string  `json:"task"`
	Model    string  `json:"model"`
	Seed     uint64  `json:"seed"`
	LR       float64 `json:"lr"`
	Steps    int     `json:"steps"`
	Examples int     `json:"examples"`
	Budget   float64 `json:"budget_cpu_minutes"`
	CPU      float64 `json:"cpu_minutes"` // used by its processes, validation included
	Params   int     `json:"params"`
	Weights  string  `json:"weights"` // path
	Curve    []point `json:"curve"`   // validation, first protocol
	Protocol string  `json:"protocol"`
}

// longRun is the validation curve of a training of another length than the budget's.
type longRun struct {
	Name     string  `json:"name"`
	Images   int     `json:"images"`
	Protocol string  `json:"protocol"`
	Curve    []point `json:"curve"`
}

// point of a training curve.
type point struct {
	Step    int     `json:"step"`
	Minutes float64 `json:"cpu_minutes,omitempty"` // steps at their calibrated cost
	PSNR    float64 `json:"psnr"`
}

func (s *settings) calibrationPath(j job) string {
	return filepath.Join(s.Work, "calibrate", j.id()+".json")
}

func (s *settings) trainingPath(kind, id string) string {
	return filepath.Join(s.Work, kind, id+".json")
}
