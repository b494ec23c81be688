package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// version is set by the linker (make build).
var version string

// versionOf returns the version set at build time, else that of the module.
func versionOf() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func newVersion(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version, the Go release and the kernels in use",
		Args:  argCount(0, 0, "none"),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
				Kernels  string `json:"kernels"`
			}{versionOf(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, kernel.Active().String()}
			if asJSON {
				return json.NewEncoder(a.out).Encode(v)
			}
			_, err := fmt.Fprintf(a.out, "unrollnet %s (%s, %s, %s kernels)\n", v.Version, v.Go, v.Platform, v.Kernels)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
