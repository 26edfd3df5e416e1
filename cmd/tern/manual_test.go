package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

// each calls f for every command that does something.
func each(cmd *cobra.Command, f func(*cobra.Command)) {
	if cmd.Runnable() {
		f(cmd)
	}
	for _, c := range cmd.Commands() {
		if c.Name() != "help" && c.Name() != "completion" {
			each(c, f)
		}
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	each(rootCommand(), func(cmd *cobra.Command) {
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example of itself", cmd.CommandPath())
		}
		if cmd.Short == "" {
			t.Errorf("%s does not say what it does", cmd.CommandPath())
		}
	})
}

// plain are the commands without --json, and what they print instead.
var plain = map[string]string{
	"tern authority approve":     "a line", // the book is in tern authority list
	"tern authority deny":        "a line",
	"tern authority invite":      "an invitation",
	"tern authority serve":       "a log",
	"tern audit export":          "JSON",
	"tern bench fanout":          "media",
	"tern bench gate":            "a verdict on bench/gate.json",
	"tern bench instructions":    "lines of go test -bench", // which bench gate reads
	"tern ca admin":              "files",
	"tern ca authority":          "files",
	"tern ca init":               "files",
	"tern ca issue":              "files",
	"tern control snapshot show": "JSON",
	"tern demo":                  "a page",
	"tern enrol":                 "files",
	"tern export graph":          "JSON",
	"tern filter verdict":        "JSON",
	"tern health":                "a status",
	"tern man":                   "files",
	"tern node":                  "a log",
	"tern policy schema":         "JSON",
	"tern sim describe":          "a text for people",
	"tern sim link":              "a log",
	"tern sim new":               "YAML",
	"tern token create":          "a token",
}

func TestResultsAreAlsoJSON(t *testing.T) {
	seen := 0
	each(rootCommand(), func(cmd *cobra.Command) {
		why, isPlain := plain[cmd.CommandPath()]
		if isPlain {
			seen++
		}
		if has := cmd.Flags().Lookup("json") != nil; has == isPlain {
			t.Errorf("%s: --json %v, listed as plain: %q", cmd.CommandPath(), has, why)
		}
	})
	if seen != len(plain) {
		t.Errorf("%d of the %d plain commands exist", seen, len(plain))
	}
}

const cliHead = `# The commands of tern

Written by ` + "`go test ./cmd/tern -run TestTheDocumentOfCommands -update`" + ` from the commands themselves; a test compares.
` + "`tern COMMAND --help`" + ` says the same, ` + "`tern man --dir DIR`" + ` writes manual pages, ` + "`tern completion bash|zsh|fish`" + ` completes.

Exit status: 0 done; 1 failed, or not fine where a command judges (status --check, doctor, health, lease show, token inspect, policy
explain, policy apply --wait, routes, fence prove, audit verify, conformance, probe, bench gate, sim run, demo --headless); 2 wrong
usage. Errors go to standard error and say what to do; results go to standard output, as JSON with ` + "`--json`" + `. Without it are
commands whose output is a document as it is (YAML, JSON, a token, a script), or files and a line that says which.

`

// TestTheDocumentOfCommands keeps docs/cli.md what the commands say of themselves.
func TestTheDocumentOfCommands(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(cliHead)
	each(rootCommand(), func(cmd *cobra.Command) {
		fmt.Fprintf(&b, "## %s\n\n%s.\n\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
		if cmd.Long != "" {
			fmt.Fprintf(&b, "%s\n\n", cmd.Long)
		}
		fmt.Fprintf(&b, "```sh\n%s\n```\n\n", dedent(cmd.Example))
		if flags := cmd.NonInheritedFlags().FlagUsagesWrapped(120); flags != "" {
			fmt.Fprintf(&b, "```\n%s```\n\n", flags)
		}
	})
	got := strings.TrimRight(b.String(), "\n") + "\n"
	file := filepath.Join(root(t), "docs", "cli.md")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("docs/cli.md is not what the commands say; run this test with -update and read the difference")
	}
}

func dedent(s string) string {
	lines := strings.Split(strings.Trim(s, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}

func TestManualPagesAreWritten(t *testing.T) {
	dir := t.TempDir()
	if status := run(t.Context(), []string{"man", "--dir", dir}); status != 0 {
		t.Fatalf("status %d", status)
	}
	for _, page := range []string{"tern.1", "tern-node.1", "tern-policy-apply.1", "tern-doctor.1"} {
		if _, err := os.Stat(filepath.Join(dir, page)); err != nil {
			t.Error(err)
		}
	}
}

func TestWrongUsageHasAStatusOfItsOwn(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, line := range [][]string{
		{"no-such-command"}, {"policy", "no-such-command"}, {"admin", "token", "no-such-command"}, {"completion", "no-such-shell"},
		{"status", "--no-such-flag"}, {"drain"}, {"sim", "new"}, {"filter", "check"}, {"ca", "issue", "--node", "a"},
		{"ca", "authority"}, {"token", "create", "--channel", "stage"}, {"admin", "token", "create", "--name", "a"},
	} {
		if status := run(t.Context(), line); status != 2 {
			t.Errorf("tern %v: status %d, want 2", line, status)
		}
	}
}
