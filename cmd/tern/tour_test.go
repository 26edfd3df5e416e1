package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTheTourOfTheReadme runs the README's tour, line by line as it stands there, in an empty folder.
func TestTheTourOfTheReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes take some seconds")
	}
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool+" is not installed")
		}
	}
	for _, port := range []string{"7900", "7910", "7920"} {
		c, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		for late := time.Now().Add(2 * time.Minute); err != nil && time.Now().Before(late); { // another run of it
			time.Sleep(100 * time.Millisecond)
			c, err = net.ListenPacket("udp", "127.0.0.1:"+port)
		}
		if err != nil {
			missing(t, fmt.Sprintf("the tour's port %s is in use on this machine: %v", port, err))
		}
		_ = c.Close()
	}
	script := tour(t)
	dir := t.TempDir()
	binary := buildTern(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Whatever happens, end the processes that the tour started, by their pids.
	cmd := exec.CommandContext(ctx, "bash", "-eu", "-o", "pipefail", "-c", "trap 'exit 1' TERM\ntrap 'for p in */pid; do kill -9 $(cat $p) 2>/dev/null || true; done' EXIT\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // the trap ends the nodes
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the tour failed: %v\n%s", err, out)
	}
	for _, want := range []string{
		"fra in eu (mesh tour)", "policy version 1 applied", "sha256:", "verdict admitted",
		"m=video", ": fra > iad > sin (", "path 2: fra > ", "path 1: fra > sin", // which of two is faster on loopback nobody knows
	} {
		if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
			t.Errorf("the tour's output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "a-secret-of-sixteen") {
		t.Errorf("the tour's output shows the secret:\n%s", out)
	}
}

// tour is the first sh block after the mark in the README.
func tour(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "<!-- tour:")
	_, block, ok2 := strings.Cut(after, "```sh\n")
	script, _, ok3 := strings.Cut(block, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatal("README.md has no tour block")
	}
	return script
}

// missing skips a test that the machine has no part for, and fails it where CI=true.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s; CI must have it", what)
	}
	t.Skip(what)
}
