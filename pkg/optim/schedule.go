package optim

import (
	"fmt"
	"math"
)

// Schedule gives the learning rate of a step.
type Schedule interface {
	// LR returns the learning rate of step 0, 1, 2, ...
	LR(step int) float64
}

// ScheduleConfig is the `schedule` section of an experiment.
type ScheduleConfig struct {
	Type       string  `yaml:"type" json:"type"`                            // cosine | multistep | constant | chained
	LR         float64 `yaml:"lr" json:"lr"`                                // learning rate after the warm-up
	MinLR      float64 `yaml:"min_lr" json:"min_lr,omitempty"`              // cosine: learning rate at the end
	Warmup     int     `yaml:"warmup" json:"warmup,omitempty"`              // steps of linear warm-up
	Milestones []int   `yaml:"milestones,flow" json:"milestones,omitempty"` // multistep: steps at which the rate is multiplied by gamma
	Gamma      float64 `yaml:"gamma" json:"gamma,omitempty"`                // multistep: the factor
}

// Validate checks the values; errors name the key, what was found and what was
// expected.
func (c ScheduleConfig) Validate() error {
	switch c.Type {
	case "cosine", "multistep", "constant", "chained":
	default:
		return fmt.Errorf("schedule.type: found %q, expected cosine, multistep, constant or chained", c.Type)
	}
	if !(c.LR > 0) || math.IsInf(c.LR, 0) {
		return fmt.Errorf("schedule.lr: found %v, expected a number > 0", c.LR)
	}
	if !(c.MinLR >= 0 && c.MinLR <= c.LR) {
		return fmt.Errorf("schedule.min_lr: found %v, expected a number from 0 to lr (%v)", c.MinLR, c.LR)
	}
	if c.Warmup < 0 {
		return fmt.Errorf("schedule.warmup: found %d, expected a number of steps >= 0", c.Warmup)
	}
	if c.Type == "multistep" && !(c.Gamma > 0 && c.Gamma <= 1) {
		return fmt.Errorf("schedule.gamma: found %v, expected a number in (0, 1]", c.Gamma)
	}
	last := 0
	for _, m := range c.Milestones {
		if m <= last {
			return fmt.Errorf("schedule.milestones: found %v, expected steps > 0 in rising order", c.Milestones)
		}
		last = m
	}
	if c.Type == "multistep" && len(c.Milestones) == 0 {
		return fmt.Errorf("schedule.milestones: found none, expected at least one for type multistep")
	}
	return nil
}

// NewSchedule makes the schedule c describes for a run of that many steps. With
// w the warm-up and n the steps:
//
//	step < w:   lr * (step + 1) / w
//	cosine:     min_lr + (lr - min_lr) * (1 + cos(pi * (step - w) / (n - w))) / 2
//	multistep:  lr * gamma^(number of milestones <= step)
//	constant:   lr
//	chained:    see chained; it has a warm-up of its own
//
// From step n on cosine stays at min_lr.
func NewSchedule(c ScheduleConfig, steps int) (Schedule, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if steps < 1 {
		return nil, fmt.Errorf("train.steps: found %d, expected >= 1", steps)
	}
	if c.Type == "cosine" && c.Warmup >= steps {
		return nil, fmt.Errorf("schedule.warmup: found %d, expected fewer than the %d steps of the run", c.Warmup, steps)
	}
	if c.Type == "chained" && 2*c.Warmup >= steps {
		return nil, fmt.Errorf("schedule.warmup: found %d, expected fewer than half of the %d steps of the run", c.Warmup, steps)
	}
	c.Milestones = append([]int(nil), c.Milestones...)
	return schedule{c, steps}, nil
}

type schedule struct {
	c     ScheduleConfig
	steps int
}

// LR returns the learning rate of a step; see NewSchedule.
func (s schedule) LR(step int) float64 {
	c := s.c
	if c.Type == "chained" {
		return chained(c.LR, step, c.Warmup, s.steps)
	}
	if step < c.Warmup {
		return c.LR * float64(step+1) / float64(c.Warmup)
	}
	switch c.Type {
	case "cosine":
		if step >= s.steps {
			return c.MinLR
		}
		at := float64(step-c.Warmup) / float64(s.steps-c.Warmup)
		return c.MinLR + (c.LR-c.MinLR)*(1+math.Cos(math.Pi*at))/2
	case "multistep":
		lr := c.LR
		for _, m := range c.Milestones {
			if m <= step {
				lr *= c.Gamma
			}
		}
		return lr
	}
	return c.LR
}
