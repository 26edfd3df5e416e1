package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// plan is what .ci/browser/watch.mjs does; the script's own comment says what the fields mean.
type plan struct {
	Page       string  `json:"page"`
	Chromium   string  `json:"chromium"`
	Profile    string  `json:"profile"`
	Publish    string  `json:"publish"`
	Watch      string  `json:"watch"`
	Screenshot string  `json:"screenshot"`
	Phases     []phase `json:"phases"`
}

type phase struct {
	Name      string  `json:"name"`
	Settle    int     `json:"settle"`
	Seconds   int     `json:"seconds"`
	Press     []press `json:"press"`
	Publisher string  `json:"publisher,omitempty"`
	Viewer    string  `json:"viewer,omitempty"`
}

type press struct {
	At int    `json:"at"`
	ID string `json:"id"`
}

// outcome is a phase as the viewer's getStats saw it.
type outcome struct {
	Name    string        `json:"name"`
	Samples []viewerStats `json:"samples"`
}

type viewerStats struct {
	At             float64 `json:"at"` // seconds since the phase's first sample
	Decoded        int     `json:"framesDecoded"`
	KeyFrames      int     `json:"keyFramesDecoded"`
	Freezes        int     `json:"freezeCount"`
	Frozen         float64 `json:"totalFreezesDuration"` // seconds
	Packets        int     `json:"packetsReceived"`
	Lost           int     `json:"packetsLost"`
	PLI            int     `json:"pliCount"`
	NACK           int     `json:"nackCount"`
	Width          int     `json:"width"`
	Height         int     `json:"height"`
	AudioPackets   int     `json:"audioPackets"`
	AudioConcealed int     `json:"audioConcealed"` // samples at 48 kHz
}

const (
	// browserTimeout bounds what is not a phase: the browser's start and its joins.
	browserTimeout = 90 * time.Second
	// windowSeconds is the time in which frames must arrive at the expected rate, wherever it begins.
	windowSeconds = 2
)

// tools are what the browser tests need; none of it is part of Tern.
type tools struct{ node, chromium, script string }

func browserTools(t *testing.T) tools {
	t.Helper()
	found := tools{node: tool(t, "node"), chromium: tool(t, "chromium")}
	dir, err := filepath.Abs("../../.ci/browser")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "playwright-core")); err != nil {
		missing(t, "playwright-core is not installed (npm ci --prefix .ci/browser)")
	}
	found.script = filepath.Join(dir, "watch.mjs")
	return found
}

// browse runs the plan and returns its phases; after, if not nil, is called as soon as a phase has ended, with the browser
// still watching. The browser's processes end with it: they are one group.
func browse(t *testing.T, tools tools, p plan, after func(phase string)) map[string]outcome {
	t.Helper()
	p.Chromium, p.Profile = tools.chromium, t.TempDir()
	timeout := browserTimeout
	for _, ph := range p.Phases {
		timeout += time.Duration(ph.Settle+ph.Seconds) * time.Second
	}
	doc, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, tools.node, tools.script, string(doc))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]outcome)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var o outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil || len(o.Samples) < 2 {
			t.Errorf("the browser's script says %q: %v", lines.Text(), err)
			continue
		}
		got[o.Name] = o
		o.log(t)
		if after != nil {
			after(o.Name)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the browser: %v\n%s", err, said.String())
	}
	for _, ph := range p.Phases {
		if _, ok := got[ph.Name]; !ok {
			t.Fatalf("the browser did not come to the end of the phase %q", ph.Name)
		}
	}
	return got
}

func (o outcome) log(t *testing.T) {
	t.Helper()
	first, last := o.first(), o.last()
	t.Logf("%s: %d frames and %d audio packets in %.1f s, freezes %d to %d, frozen %.2f s to %.2f s, %d packets lost, %d keyframes asked for, %d samples concealed (%dx%d)",
		o.Name, last.Decoded-first.Decoded, last.AudioPackets-first.AudioPackets, last.At, first.Freezes, last.Freezes,
		first.Frozen, last.Frozen, last.Lost-first.Lost, last.PLI-first.PLI, last.AudioConcealed-first.AudioConcealed, last.Width, last.Height)
}

// grows demands that every window of two seconds brings at least perSecond frames and audio packets each.
func (o outcome) grows(t *testing.T, perSecond float64) {
	t.Helper()
	for i := windowSeconds; i < len(o.Samples); i++ {
		from, to := o.Samples[i-windowSeconds], o.Samples[i]
		least := int(perSecond * (to.At - from.At))
		if to.Decoded-from.Decoded < least || to.AudioPackets-from.AudioPackets < least {
			t.Errorf("%s: only %d frames and %d audio packets from %.1f s to %.1f s, want at least %d of each",
				o.Name, to.Decoded-from.Decoded, to.AudioPackets-from.AudioPackets, from.At, to.At, least)
		}
	}
}

func (o outcome) first() viewerStats { return o.Samples[0] }
func (o outcome) last() viewerStats  { return o.Samples[len(o.Samples)-1] }

// Chromium's camera enters at one city by the page and is played at another by a second page. In the end both cities are
// drained, and both pages go elsewhere by themselves.
func TestEndToEndBrowserSeesNoFaults(t *testing.T) {
	unraced(t)
	tools := browserTools(t)
	s, url := realStage(t, nil)
	s.setLoss(0.01)
	const calmly, stormy, healed, moved = "1 % on every path", "5 % and a dead relay", "healed", "drained"
	got := browse(t, tools, plan{
		Page: url, Publish: publishAt, Watch: watchAt, Screenshot: artefact(t, "browser.png"),
		Phases: []phase{
			{Name: calmly, Settle: 5, Seconds: 10},
			{Name: stormy, Seconds: 20, Press: []press{{0, "lose"}, {8, "kill-relay"}}},
			{Name: healed, Seconds: 2, Press: []press{{0, "lose"}, {0, "heal"}}},
			{Name: moved, Seconds: 6, Publisher: "as its node asked.", Viewer: "as its node asked."},
		},
	}, func(phase string) {
		switch phase {
		case stormy:
			s.wentThroughThat(t)
		case healed:
			s.drain(t, publishAt, watchAt)
		}
	})
	got[moved].grows(t, 5) // the camera's second connection is a source of its own, which begins with a keyframe
	calm, storm := got[calmly], got[stormy]
	// The fake camera has 20 frames/s.
	calm.grows(t, 10)
	if n := calm.last().Freezes - calm.first().Freezes; n != 0 {
		t.Errorf("%d freezes at 1 %% loss on every path, want none: %+v", n, calm.Samples)
	}
	storm.grows(t, 10)
	if frozen := storm.last().Frozen - storm.first().Frozen; frozen >= 0.5 {
		t.Errorf("frozen for %.2f s of 20 s at 5 %% loss and the death of a relay, want less than 0.5 s: %+v", frozen, storm.Samples)
	}
}

// drain has cities emptied, as an operator would.
func (s *stage) drain(t *testing.T, nodes ...string) {
	t.Helper()
	doc := s.cluster.ground.policy()
	doc = append(doc, "nodes:\n"...)
	for _, n := range nodes {
		doc = fmt.Appendf(doc, "  %s: {state: drained}\n", n)
	}
	if err := s.cluster.members[0].node.ApplyPolicy(t.Context(), doc, "test"); err != nil {
		t.Fatal(err)
	}
}

// enoughToLose is how many copies a path carried that must have lost some at 1 % to 5 %: at 1 % all of 1,000 arrive once in 23,000 runs.
const enoughToLose = 1000

// wentThroughThat checks that what the picture survived did happen: every path lost packets, a relay died.
func (s *stage) wentThroughThat(t *testing.T) {
	t.Helper()
	now := s.State()
	dead := ""
	for _, c := range now.Cities {
		if !c.Alive {
			dead += c.City
		}
	}
	for _, f := range now.Flows {
		t.Logf("%s to %s: %d delivered, %d undelivered, %d repaired, %d duplicates", f.From, f.To, f.Delivered, f.Undelivered, f.Repaired, f.Duplicates)
		for _, p := range f.Paths {
			t.Logf("  %v: sent %d, lost %d, first %d, rescued %d, active %v, alive %v", p.Hops, p.Sent, p.Lost, p.First, p.Rescued, p.Active, p.Alive)
			if f.From == publishAt && f.To == watchAt && p.Sent >= enoughToLose && p.Lost == 0 {
				t.Errorf("the path %v lost nothing", p.Hops)
			}
		}
	}
	if dead == "" || len(now.Flows) == 0 {
		t.Errorf("dead: %q, %d flows; want a dead relay and a flow", dead, len(now.Flows))
	}
}
