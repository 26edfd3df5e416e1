package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	simrun "github.com/ternmesh/tern/sim/run"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// simCommand is the simulator. Exit status of run: 0 completed and safe, 1 a checker failed or the run broke off,
// 2 the scenario or the command line is wrong.
func simCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run whole nodes over an emulated network, as a scenario says",
	}
	c.AddCommand(simRunCommand(), simListCommand(), simDescribeCommand(), simNewCommand(), simLinkCommand())
	return c
}

// simFlags are those of tern sim run.
type simFlags struct {
	seed           uint64
	virtual, real  bool
	jsonFile, html string
	plots          string
	verbose        bool
}

func simRunCommand() *cobra.Command {
	var f simFlags
	c := &cobra.Command{
		Use:     "run SCENARIO",
		Example: "  tern sim run global\n  tern sim run my.yaml --seed 7 --html report.html",
		Short:   "Run a scenario: a file, or the name of a built-in one",
		Long: "Run a scenario: a file, or the name of a built-in one (tern sim list).\n\n" +
			"Exit status: 0 completed and safe, 1 a checker failed, 2 the scenario is wrong.",
		Args: args(1, "one scenario"),
		RunE: func(cmd *cobra.Command, got []string) error { return simRun(cmd, got[0], f) },
	}
	c.Flags().Uint64Var(&f.seed, "seed", 0, "seed of everything random (0: the scenario's)")
	c.Flags().BoolVar(&f.virtual, "virtual", false, "virtual time: as fast as the processors can (the default)")
	c.Flags().BoolVar(&f.real, "real", false, "real time: a minute takes a minute")
	c.Flags().StringVar(&f.jsonFile, "json", "", "write the report as JSON to this file (-: standard output)")
	c.Flags().StringVar(&f.html, "html", "", "write the report as one HTML file")
	c.Flags().StringVar(&f.plots, "plots", "", "write map and plots into this folder, as SVG and PNG")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show the nodes' warnings on standard error")
	return c
}

func simRun(cmd *cobra.Command, name string, f simFlags) error {
	if f.virtual && f.real {
		return usageError{errors.New("--virtual and --real exclude each other")}
	}
	s, err := simrun.Load(name, f.seed)
	if err != nil {
		return usageError{err}
	}
	if err := writable(f.plots, f.jsonFile, f.html); err != nil {
		return usageError{err}
	}
	o := simrun.Options{Seed: f.seed, Version: version}
	if !f.real {
		o.Bubble = simrun.VirtualTime
	}
	if f.verbose {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	o.Progress = new(simrun.Progress)
	stop := showProgress(os.Stderr, o.Progress, s.Duration)
	report, err := simrun.Run(cmd.Context(), s, o)
	stop()
	if err != nil {
		return err
	}
	if err := writeReport(report, f); err != nil {
		return err
	}
	if !report.Safe {
		fmt.Fprintf(os.Stderr, "tern: a checker failed; replay with: %s\n", replay(name, report, f.real))
		return quietError{errors.New("a checker failed")}
	}
	return nil
}

// progressEvery is how often a run in a terminal says how far it is.
const progressEvery = 500 * time.Millisecond

// showProgress keeps a line of a terminal up to date until stop is called; it does nothing if out is none.
func showProgress(out *os.File, p *simrun.Progress, length time.Duration) (stop func()) {
	info, err := out.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				at, formed := p.Now()
				text := fmt.Sprintf("forming, %v", at.Round(time.Second))
				if formed {
					text = fmt.Sprintf("%v of %v", at.Round(time.Second), length)
				}
				fmt.Fprintf(out, "\r\033[K%s", text)
			case <-done:
				fmt.Fprint(out, "\r\033[K")
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// replay is the command that runs the same scenario again.
func replay(name string, r *simrun.Report, real bool) string {
	line := fmt.Sprintf("tern sim run %s --seed %d", name, r.Seed)
	if real {
		line += " --real"
	}
	return line
}

func writeReport(r *simrun.Report, f simFlags) error {
	if f.jsonFile != "-" {
		fmt.Print(r.Summary())
	}
	for file, write := range map[string]func(io.Writer) error{f.jsonFile: r.WriteJSON, f.html: r.WriteHTML} {
		if file == "" {
			continue
		}
		if err := writeTo(file, write); err != nil {
			return err
		}
	}
	if f.plots != "" {
		return r.WritePlots(f.plots)
	}
	return nil
}

func simListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Example: "  tern sim list",
		Short:   "List the built-in scenarios",
		Args:    args(0, "no arguments"),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list := []listed{}
		for _, name := range simrun.Library() {
			s, err := simrun.Load(name, 0)
			if err != nil {
				return err
			}
			list = append(list, listed{name, s.About})
		}
		return printList(cmd.OutOrStdout(), list, *asJSON)
	}
	return cmd
}

// listed is one of the things that a command knows by name.
type listed struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

func printList(w io.Writer, list []listed, asJSON bool) error {
	if asJSON {
		return printJSON(w, list)
	}
	for _, one := range list {
		fmt.Fprintf(w, "%-22s %s\n", one.Name, one.About)
	}
	return nil
}

func simDescribeCommand() *cobra.Command {
	var seed uint64
	c := &cobra.Command{
		Use:     "describe SCENARIO",
		Example: "  tern sim describe global",
		Short:   "Say what a scenario does, without running it",
		Args:    args(1, "one scenario"),
		RunE: func(_ *cobra.Command, got []string) error {
			s, err := simrun.Load(got[0], seed)
			if err != nil {
				return usageError{err}
			}
			fmt.Print(describe(s))
			return nil
		},
	}
	c.Flags().Uint64Var(&seed, "seed", 0, "seed, for scenarios that are drawn from one")
	return c
}

func describe(s *scenario.Scenario) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v, figures after %v, seed %d\n", s.Name, s.Duration, s.Warmup, s.Seed)
	if s.About != "" {
		fmt.Fprintf(&b, "%s\n", s.About)
	}
	fmt.Fprintf(&b, "\n%d nodes:\n", len(s.Nodes))
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, "  %-14s region %s", n.Name, n.Region)
		for _, more := range []struct{ what, is string }{{"city", n.City}, {"provider", n.Provider}, {"risks", strings.Join(n.SharedRisk, " ")}} {
			if more.is != "" {
				fmt.Fprintf(&b, ", %s %s", more.what, more.is)
			}
		}
		if n.Voter {
			b.WriteString(", voter")
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%d streams:\n", len(s.Streams))
	for _, st := range s.Streams {
		l := s.Links[scenario.Pair{From: st.From, To: st.To[0]}]
		fmt.Fprintf(&b, "  %-14s %s > %s, %d packets/s of %d bytes (first link %v one way)\n", st.Name, st.From, strings.Join(st.To, " "), st.PacketsPerSecond, st.Size, l.Delay)
	}
	fmt.Fprintf(&b, "\n%d events:\n", len(s.Events))
	for _, e := range s.Events {
		until := "to the end"
		switch {
		case e.For > 0:
			until = fmt.Sprintf("for %v", e.For)
		case e.Action == scenario.Restart || e.Policy != nil:
			until = ""
		}
		fmt.Fprintf(&b, "  %-8v %s %s\n", e.At, e.Label, until)
	}
	return b.String()
}

func simNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "new FILE [FROM]",
		Example: "  tern sim new my.yaml\n  tern sim new my.yaml global",
		Short:   "Write a scenario to start from: a built-in one, or a small example",
		Args: func(_ *cobra.Command, got []string) error {
			if len(got) != 1 && len(got) != 2 {
				return usageError{errors.New("tern sim new takes a FILE to write, and perhaps the scenario to begin FROM: see tern sim new --help")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, got []string) error {
			text := []byte(simrun.Example)
			if len(got) == 2 {
				var err error
				if text, _, err = simrun.Source(got[1], 0); err != nil {
					return usageError{err}
				}
			}
			out, err := os.OpenFile(got[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if err != nil {
				return fmt.Errorf("a new scenario overwrites nothing: %w", err)
			}
			_, err = out.Write(text)
			return errors.Join(err, out.Close())
		},
	}
}
