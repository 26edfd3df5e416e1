package demo

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// looked is what .ci/browser/console.mjs saw; the script says what its plan's fields mean.
type looked struct {
	Paint         float64  `json:"paint"` // milliseconds to the first paint
	Shown         float64  `json:"shown"` // to the map, milliseconds
	Nodes         int      `json:"nodes"`
	Verdict       string   `json:"verdict"`
	Bytes         int      `json:"bytes"`
	Tabs          int      `json:"tabs"`
	Paths         int      `json:"paths"`
	Rows          int      `json:"rows"`
	Channel       string   `json:"channel"`
	Charts        int      `json:"charts"`
	Foreign       []string `json:"foreign"`
	PhoneOverflow int      `json:"phoneOverflow"`
	Faults        []string `json:"faults"`
}

// TestEndToEndConsole looks at the ingress node's console while a stream crosses the mesh.
func TestEndToEndConsole(t *testing.T) {
	unraced(t)
	tools := browserTools(t)
	s, _ := realStage(t, nil)
	token, err := s.cluster.ground.token()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := &headless{cluster: s.cluster, clients: realClients{}, token: token, length: time.Hour} // until the test ends it
	ended := make(chan struct{})
	go func() { _, _ = h.run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	waitFor(t, "media on the way", func() bool { return h.ingress().PacketsSent > 500 })

	n := s.cluster.living()[publishAt]
	got := look(t, tools, map[string]string{
		"page": n.AdminURL() + "/console/", "chromium": tools.chromium, "self": publishAt, "peer": watchAt,
		"channel": headlessChannel, "shots": strings.TrimSuffix(artefact(t, "console-.png"), ".png"),
	})
	t.Logf("first paint %.0f ms, map %.0f ms, %d kB; the peer was %d tab stops away; channel: %s", got.Paint, got.Shown, got.Bytes/1000, got.Tabs, strings.Join(strings.Fields(got.Channel), " "))
	if got.Nodes != len(cities) || got.Paths != 3 || got.Rows < 3 || got.Charts != 5 {
		t.Errorf("shown: %d nodes, %d paths drawn, %d rows of paths, %d charts", got.Nodes, got.Paths, got.Rows, got.Charts)
	}
	for _, want := range []string{publishAt, watchAt, "1 watching", "rescued"} {
		if !strings.Contains(strings.Join(strings.Fields(got.Channel), " "), want) {
			t.Errorf("the channel does not say %q: %s", want, got.Channel)
		}
	}
	if len(got.Foreign) > 0 || len(got.Faults) > 0 {
		t.Errorf("requests to others %v, faults %v", got.Foreign, got.Faults)
	}
	if got.PhoneOverflow > 0 || got.Bytes > 1<<20 {
		t.Errorf("%d pixels too wide for a phone; %d bytes", got.PhoneOverflow, got.Bytes)
	}
}

// look runs the script; its browser ends with it.
func look(t *testing.T, tools tools, plan map[string]string) (got looked) {
	t.Helper()
	doc, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browserTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, tools.node, filepath.Join(filepath.Dir(tools.script), "console.mjs"), string(doc))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the browser's script: %v\n%s", err, said.String())
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("the browser's script says %q: %v", out, err)
	}
	return got
}

// waitFor a condition that must come.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("never: %s", what)
		}
	}
}
