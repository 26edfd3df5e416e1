package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestAReportThatCannotBeWrittenIsToldOfBeforeTheRun(t *testing.T) {
	dir := t.TempDir()
	if err := writable(filepath.Join(dir, "plots"), "", "-", filepath.Join(dir, "r.json")); err != nil {
		t.Errorf("what can be written: %v", err)
	}
	missing := filepath.Join(dir, "none", "r.json")
	for _, args := range [][]string{
		{"load", "--whip", "http://127.0.0.1:9/w", "--whep", "http://127.0.0.1:9/w", "--json", missing},
		{"bench", "run", "braid-loss", "--json", missing},
		{"probe", "a", "b", "--json", missing},
		{"sim", "run", "swarm", "--html", missing},
	} {
		c := rootCommand()
		c.SetArgs(args)
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "the report cannot be written: open "+missing) {
			t.Errorf("tern %s: %v", strings.Join(args, " "), err)
		}
	}
}
