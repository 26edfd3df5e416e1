package demo

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/demo/report"
)

// The end-to-end tests bring the whole mesh up and measure what a person would see. Their names begin with
// TestEndToEnd, because CI runs them apart from all others, without the race detector:
//
//	go test -count=1 -run '^TestEndToEnd' ./sim/demo

// unraced skips a test whose figures depend on the machine's speed where the race detector makes it several times slower.
func unraced(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
	if raced {
		t.Skip("measures real time, which needs a binary without the race detector: go test -count=1 -run '^TestEndToEnd' ./sim/demo")
	}
}

// missing skips the test for want of a tool on a laptop and fails it where CI=true.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s; CI must have it", what)
	}
	t.Skip(what)
}

// tool finds a program.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+" is not installed")
	}
	return path
}

// artefact names a file that outlives the test if TERN_ARTIFACTS names a directory.
func artefact(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("TERN_ARTIFACTS")
	if dir == "" {
		dir = t.TempDir()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// realStage is the demo as `tern demo` has it, with the page's address. It ends with the test. fence is that of the
// app, nil for all regions.
func realStage(t *testing.T, fence []string) (s *stage, url string) {
	t.Helper()
	g, err := prepare(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g.fence = fence
	log := &logTail{}
	network := sim.New(1)
	ctx, cancel := context.WithCancel(context.Background())
	group, inside := errgroup.WithContext(ctx)
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Errorf("the demo ended with %v", err)
		}
		network.Close()
		if t.Failed() {
			t.Logf("the nodes' last words:\n%s", log)
		}
	})
	c := newCluster(inside, group, g, network, realNode, slog.New(slog.NewTextHandler(log, nil)))
	began := time.Now()
	if err := c.form(inside); err != nil {
		t.Fatal(err)
	}
	t.Logf("the mesh formed in %.1f s", time.Since(began).Seconds())
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = newStage(c, realClients{})
	group.Go(func() error { return s.show(inside, ln) })
	return s, "http://" + ln.Addr().String() + "/"
}

// logTail keeps the newest lines of the nodes' logs; safe for concurrent use.
type logTail struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

// maxTail is how many lines a failed test shows.
const maxTail = 60

func (l *logTail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, string(b)); len(l.lines) > maxTail {
		l.lines = l.lines[1:]
	}
	return len(b), nil
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}

// What `tern demo --headless --for 20s` promises: a relay dies and not one packet is lost.
func TestEndToEndHeadlessLosesNothing(t *testing.T) {
	unraced(t)
	file := artefact(t, "headless.json")
	var out strings.Builder
	err := Run(t.Context(), Options{Headless: true, For: 20 * time.Second, Report: file, Out: &out})
	if err != nil {
		t.Errorf("a headless run of 20 s: %v", err)
	}
	t.Log(out.String())
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("the report is not JSON: %v\n%s", err, b)
	}
	if r.UndeliveredRatio != 0 || r.Delivered == 0 || r.DuplicatesDropped == 0 {
		t.Errorf("delivered %d of %d, dropped %d later copies", r.Delivered, r.Sent, r.DuplicatesDropped)
	}
	killed := ""
	for _, e := range r.Events {
		if e.What == "kill" {
			killed = e.Node
		}
	}
	dead := slices.ContainsFunc(r.Paths, func(p report.Path) bool { return len(p.Hops) > 2 && slices.Contains(p.Hops, killed) })
	if killed == "" || !dead || len(r.Paths) < 3 {
		t.Errorf("killed %q; want its path and at least two others in the report:\n%s", killed, b)
	}
	for _, p := range r.Paths {
		if p.Hops[0] != publishAt || p.Hops[len(p.Hops)-1] != watchAt {
			t.Errorf("a path of another pair: %v", p.Hops)
		}
	}
}

// background starts a program that the test ends; what it says on standard error is shown if the test fails.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	var said strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = io.Discard, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		select {
		case err := <-ended: // it was to run until now
			t.Errorf("%s ended by itself: %v\n%s", filepath.Base(name), err, said.String())
			return
		default:
		}
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%s: %v", filepath.Base(name), err)
		}
		<-ended
		if t.Failed() && said.Len() > 0 {
			t.Logf("%s said:\n%s", filepath.Base(name), said.String())
		}
	})
}
