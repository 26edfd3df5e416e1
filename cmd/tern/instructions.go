package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/bench"
)

// benchInstructionsCommand counts what a round of a Go benchmark executes, without the processor's counters, which virtual machines
// seldom have.
func benchInstructionsCommand() *cobra.Command {
	var pkg string
	c := &cobra.Command{
		Use:   "instructions BINARY BENCHMARK=ROUNDS...",
		Short: "Count the instructions of Go benchmarks by stepping through them, for the gate",
		Long: "Count the instructions of Go benchmarks (written with b.Loop) by stepping through so many rounds, some microseconds each, and print them\n" +
			"as go test -bench prints its figures. BINARY is what go test -c makes of the package. A count is the same from run to run to within 1 %,\n" +
			"however busy the machine: all other threads are held, and the kernel's work is not counted.\n\n" +
			"Needs Linux on amd64 and leave to trace. Without it nothing is printed but the reason; with CI=true in the environment that fails.",
		Example: "  go test -c -o media.test ./media && tern bench instructions media.test --package ./media 'BenchmarkFanOut/viewers=100=20' BenchmarkReceive=100",
		Args: func(_ *cobra.Command, got []string) error {
			if len(got) < 2 {
				return usageError{errors.New("tern bench instructions takes a test binary and at least one BENCHMARK=ROUNDS: see tern bench instructions --help")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, got []string) error {
			out := cmd.OutOrStdout()
			for i, one := range got[1:] {
				at := max(0, strings.LastIndexByte(one, '='))
				rounds, err := strconv.Atoi(one[min(len(one), at+1):])
				if at == 0 || err != nil || rounds < 1 {
					return usageError{fmt.Errorf("%q is not BENCHMARK=ROUNDS, for example BenchmarkReceive=100", one)}
				}
				n, err := bench.Instructions(cmd.Context(), got[0], pkg, one[:at], rounds)
				if errors.Is(err, bench.ErrNoSteps) && os.Getenv("CI") != "true" {
					fmt.Fprintf(cmd.ErrOrStderr(), "instructions are not counted: %v\n", err)
					return nil
				}
				if err != nil {
					return err
				}
				if i == 0 {
					fmt.Fprintf(out, "pkg: %s\n", path.Clean(pkg))
				}
				fmt.Fprintf(out, "%s\t%d\t%.1f instructions/op\n", one[:at], rounds, n)
			}
			return nil
		},
	}
	c.Flags().StringVar(&pkg, "package", ".", "the package's folder, where its benchmarks run")
	return c
}
