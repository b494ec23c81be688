// Package train fits a network to a task: batches, gradients on replicas, the
// optimiser, the moving average of the weights, and around that bare loop the
// hooks that log, validate, save and stop.
//
// A run is a directory:
//
//	RUN/config.yaml        the resolved experiment
//	RUN/runs.jsonl         one line for each start: command line, versions, first step
//	RUN/metrics.csv        training rows; log.jsonl holds the same and all other events
//	RUN/validation.csv     validation rows
//	RUN/events.out.*       the same figures for TensorBoard
//	RUN/samples/           restored validation examples
//	RUN/checkpoints/       see package checkpoint
//	RUN/best.safetensors   averaged weights of the best validation so far
//	RUN/model.safetensors  averaged weights at the end of the run or where it was stopped
//
// The bits of a run depend on its configuration and the kernel level alone: not
// on the number of workers, not on timing, not on interruptions.
package train
