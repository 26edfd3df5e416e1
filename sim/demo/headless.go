package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim/demo/clip"
	"github.com/ternmesh/tern/sim/demo/page"
	"github.com/ternmesh/tern/sim/demo/report"
)

const (
	headlessChannel = "headless"
	// warmUp is not counted: keys are fetched, paths are found.
	warmUp = 2 * time.Second
	// quiet is the end of a run, in which the sender is silent and the last packets arrive.
	quiet = 2 * time.Second
	// minFor leaves time for something to happen between warm-up and quiet.
	minFor = 8 * time.Second
	// minPacketsPerSecond makes the figures worth something.
	minPacketsPerSecond = 150
	// sampleInterval is how often path counters are read.
	sampleInterval = 200 * time.Millisecond
	// joinTimeout bounds the time until the viewer has its first packet.
	joinTimeout = 20 * time.Second
)

// headless is one run without a browser: a publisher, a viewer, the death of a relay, figures.
type headless struct {
	cluster *cluster
	clients clients
	token   string
	length  time.Duration

	start  time.Time // of the run: the viewer's first packet
	stream *report.Stream
	paths  *report.Paths
	events []report.Event
	copies uint64 // duplicates that the egress dropped before counting began
}

// run plays the whole run and returns its figures.
func (h *headless) run(ctx context.Context) (report.Report, error) {
	loop, err := clip.Load()
	if err != nil {
		return report.Report{}, err
	}
	origin := time.Now()
	h.start = origin
	h.stream, h.paths = report.NewStream(), report.NewPaths()

	in, err := h.cluster.accessURL(publishAt)
	if err != nil {
		return report.Report{}, err
	}
	stopped := make(chan struct{})
	pub, err := h.clients.Publish(ctx, whip(in, headlessChannel), h.token, &testStream{
		clip: loop, stop: stopped,
		sent: func(kind string, sequence uint16) { h.stream.Sent(kind, sequence, time.Since(origin)) },
	})
	if err != nil {
		return report.Report{}, fmt.Errorf("demo: publish at %s: %w", publishAt, err)
	}
	defer closing(h.cluster.log, "publisher", pub)
	arrived := make(chan struct{}, 1)
	watching, err := h.watch(ctx, func(kind string, p *rtp.Packet) {
		h.stream.Delivered(kind, p.SequenceNumber, time.Since(origin))
		select {
		case arrived <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return report.Report{}, err
	}
	defer closing(h.cluster.log, "viewer", watching)
	select {
	case <-arrived:
	case <-time.After(joinTimeout):
		return report.Report{}, errors.New("demo: the viewer is connected, but no packet reached it")
	case <-ctx.Done():
		return report.Report{}, ctx.Err()
	}
	if err := h.direct(ctx, sync.OnceFunc(func() { close(stopped) })); err != nil {
		return report.Report{}, err
	}
	return report.Build(h.stream.Totals(), h.egress().Duplicates-h.copies, h.paths.List(), h.events), nil
}

// watch joins as soon as the directory knows the stream.
func (h *headless) watch(ctx context.Context, packet func(string, *rtp.Packet)) (s session, err error) {
	out, err := h.cluster.accessURL(watchAt)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	waiting := h.cluster.wait(limited, func() (bool, string) {
		s, err = h.clients.Watch(ctx, whep(out, headlessChannel), h.token, packet)
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
	if waiting != nil {
		return nil, fmt.Errorf("demo: watch at %s: %w", watchAt, waiting)
	}
	return s, nil
}

// direct is the script: warm-up, count, kill a relay midway, stop the sender, wait for the last packets.
func (h *headless) direct(ctx context.Context, stopSending func()) error {
	h.start = time.Now()
	h.note("publish", publishAt)
	h.note("watch", watchAt)
	steps := []struct {
		at time.Duration
		do func() error
	}{
		{warmUp, h.count},
		{h.length / 2, h.killRelay},
		{h.length - quiet, func() error { stopSending(); h.note("sender stopped", publishAt); return nil }},
		{h.length, func() error { h.sample(); return nil }},
	}
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for len(steps) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		h.sample()
		if time.Since(h.start) >= steps[0].at {
			if err := steps[0].do(); err != nil {
				return err
			}
			steps = steps[1:]
		}
	}
	return nil
}

func (h *headless) count() error {
	h.paths.Count()
	h.copies = h.egress().Duplicates
	h.stream.Count()
	h.note("warm-up over", "")
	return nil
}

func (h *headless) killRelay() error {
	out := h.ingress().Out
	relay, ok := relayInUse(page.Flow{Paths: pagePaths(out)})
	if !ok {
		return fmt.Errorf("demo: no path from %s to %s uses a relay: %+v", publishAt, watchAt, out)
	}
	if err := h.cluster.kill(relay); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	h.note("kill", relay)
	return nil
}

// sample reads both ends' path counters.
func (h *headless) sample() {
	for _, p := range merged(h.ingress().Out) {
		h.paths.Outgoing(p.Hops, p.Sent)
	}
	for _, p := range merged(h.egress().In) {
		h.paths.Incoming(p.Hops, p.Lost, p.First, p.Rescued)
	}
}

// ingress is the publisher's node's view of the braid to the viewer's.
func (h *headless) ingress() node.BraidStatus { return h.braid(publishAt, watchAt) }

// egress is the viewer's node's view of the braid from the publisher's.
func (h *headless) egress() node.BraidStatus { return h.braid(watchAt, publishAt) }

func (h *headless) braid(at, peer string) node.BraidStatus {
	n := h.cluster.living()[at]
	if n == nil {
		return node.BraidStatus{}
	}
	return braidWith(named(n.Status()), peer)
}

func (h *headless) note(what, node string) {
	h.events = append(h.events, report.Event{
		AtSeconds: float64(time.Since(h.start).Milliseconds()) / 1000, What: what, Node: node,
	})
}

// braidWith finds the braid with a peer; there is one, because the demo has one fence.
func braidWith(s node.Status, peer string) node.BraidStatus {
	for _, b := range s.Braids {
		if b.Peer == peer {
			return b
		}
	}
	return node.BraidStatus{}
}

func pagePaths(paths []node.PathStatus) []page.Path {
	var out []page.Path
	for _, p := range paths {
		out = append(out, page.Path{Hops: p.Hops, Active: p.Active, Alive: p.Alive, First: p.First})
	}
	return out
}

func whip(base, channel string) string { return base + "/whip/" + appID + "/" + channel }
func whep(base, channel string) string { return base + "/whep/" + appID + "/" + channel }

// save writes the report as indented JSON.
func save(file string, r report.Report) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("demo: report: %w", err)
	}
	return nil
}
