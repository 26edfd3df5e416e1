package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ternmesh/tern/node"
)

// largePolicy has 1,000 apps of two certificates each and 10,000 blocked networks; edition changes one app's name.
func largePolicy(edition int) string {
	var b strings.Builder
	b.WriteString("regions: [{id: eu}, {id: us}, {id: asia}]\nblocklist:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "  - %d.%d.%d.0/24\n", 1+i/2500, i/10%250, i%10*20)
	}
	fmt.Fprintf(&b, "apps:\n  - {id: edition, name: %d, auth: app_id}\n", edition)
	for i := range 999 {
		fmt.Fprintf(&b, "  - {id: app%d, name: Application number %[1]d, fence: [eu, us], certificates: [%032x, %032x]}\n", i, i+1, i+1_000_001)
	}
	return b.String()
}

// What a change of a large policy takes, with three voters as processes on loopback: from the command's start to its end, and
// the resident memory of the node that needs most, at its peak and three seconds after the last change.
//
//	go test ./cmd/tern -run '^$' -bench ApplyLargePolicy -benchtime 20x
func BenchmarkApplyLargePolicy(b *testing.B) {
	binary := buildTern(b)
	nodes := startMesh(b, binary)
	nodes[0].until("three members and a leader", func(s node.Status) bool { return alive(s) == 3 && s.Control.Leader != "" })
	file := filepath.Join(b.TempDir(), "policy.yaml")
	edition := 0
	change := func() time.Duration {
		if err := os.WriteFile(file, []byte(largePolicy(edition)), 0o600); err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		if out, err := tern(b, binary, "policy", "apply", "-f", file, "--admin", nodes[edition%3].admin); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		edition++
		return time.Since(begun)
	}
	change() // the first one finds 1,000 apps that are new
	first := megabytes(b, nodes, "VmHWM")
	var took []time.Duration
	for b.Loop() {
		took = append(took, change())
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "max-ms")
	b.ReportMetric(first, "peak-MB-of-one")
	b.ReportMetric(megabytes(b, nodes, "VmHWM"), "peak-MB-of-many")
	time.Sleep(3 * time.Second) // nodes give back what a change took
	b.ReportMetric(megabytes(b, nodes, "VmRSS"), "after-MB")
	for _, p := range nodes {
		_ = p.stop(syscall.SIGTERM)
	}
}

// megabytes is the most that any of the processes has of a line in its /proc/PID/status.
func megabytes(b *testing.B, nodes []*process, line string) (most float64) {
	for _, p := range nodes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		var kb float64
		_, rest, found := strings.Cut(string(text), line+":")
		if _, scanErr := fmt.Sscan(rest, &kb); err != nil || scanErr != nil || !found {
			b.Fatalf("%s of %s: %v %v", line, p.name, err, scanErr)
		}
		most = max(most, kb/1024)
	}
	return most
}
