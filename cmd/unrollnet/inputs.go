package main

import (
	"bufio"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// inputFlags say which files a command works on, beside its arguments.
type inputFlags struct {
	recursive bool
	filesFrom string
	shard     string
}

func (f *inputFlags) register(c *cobra.Command) {
	c.Flags().BoolVarP(&f.recursive, "recursive", "r", false, "take images from the folders inside folders too")
	c.Flags().StringVar(&f.filesFrom, "files-from", "", "`FILE|-` that names further inputs, one a line")
	c.Flags().StringVar(&f.shard, "shard", "", "`I/N`: of every N inputs the I-th, from 0; N alone takes I from JOB_COMPLETION_INDEX or SLURM_ARRAY_TASK_ID")
}

// maxLists bounds the size of a list of files.
const maxLists = 256 << 20

// inputs returns the files to work on: arguments, then those of --files-from,
// folders and patterns expanded; of these the part that --shard names.
func (f *inputFlags) inputs(a *app, args []string) ([]job, error) {
	if f.filesFrom != "" {
		r := a.in
		if f.filesFrom != "-" {
			file, err := os.Open(f.filesFrom)
			if err != nil {
				return nil, usagef("--files-from: %v", err)
			}
			defer file.Close()
			r = file
		} else if slices.Contains(args, "-") {
			return nil, usagef("--files-from -: found beside the input -, expected stdin for one of them")
		}
		lines := bufio.NewScanner(io.LimitReader(r, maxLists))
		for lines.Scan() {
			if line := strings.TrimSuffix(lines.Text(), "\r"); line != "" {
				args = append(args, line)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, usagef("--files-from %s: %v", f.filesFrom, err)
		}
	}
	if len(args) == 0 {
		return nil, usagef("interpolate: found no input, expected at least one image")
	}
	i, n, err := f.part(os.Getenv)
	if err != nil {
		return nil, err
	}
	jobs := expand(args, f.recursive)
	if n == 1 {
		return jobs, nil
	}
	var mine []job
	for k, j := range jobs {
		if k%n == i {
			mine = append(mine, j)
		}
	}
	return mine, nil
}

// part is the share that --shard names: part i of n.
func (f *inputFlags) part(env func(string) string) (i, n int, err error) {
	if f.shard == "" {
		return 0, 1, nil
	}
	wrong := func(found string) error {
		return usagef("--shard: found %s, expected I/N with I from 0 to N-1, or N with JOB_COMPLETION_INDEX or SLURM_ARRAY_TASK_ID set", found)
	}
	index, count, both := strings.Cut(f.shard, "/")
	from := "--shard"
	if !both {
		count = index
		from, index = "JOB_COMPLETION_INDEX", env("JOB_COMPLETION_INDEX")
		if index == "" {
			from, index = "SLURM_ARRAY_TASK_ID", env("SLURM_ARRAY_TASK_ID")
		}
	}
	n, err = strconv.Atoi(count)
	if err != nil || n < 1 {
		return 0, 0, wrong(strconv.Quote(f.shard))
	}
	if i, err = strconv.Atoi(index); err == nil && from == "SLURM_ARRAY_TASK_ID" {
		if least, err := strconv.Atoi(env("SLURM_ARRAY_TASK_MIN")); err == nil {
			i -= least // arrays often count from 1
		}
	}
	if err != nil || i < 0 || i >= n {
		return 0, 0, wrong(strconv.Quote(f.shard) + " and index " + strconv.Quote(index))
	}
	return i, n, nil
}

// imagesBelow lists the image files of a folder and of the folders in it, sorted.
// Links to folders are not followed, so that none is met twice.
func imagesBelow(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && slices.Contains(imageEndings, strings.ToLower(filepath.Ext(path))) {
			out = append(out, path)
		}
		return err
	})
	return out, err
}
