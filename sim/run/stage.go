package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/run/scenario"
)

const (
	// recoverWithin bounds how long, after all faults are healed, every stream between living nodes may take to flow.
	recoverWithin = 60 * time.Second
	// recoverPoll is how often that is looked at.
	recoverPoll = 250 * time.Millisecond
	// minStep and maxSteps shape the series: at least so long a bucket, at most so many.
	minStep  = 250 * time.Millisecond
	maxSteps = 300
)

// stage is one run.
type stage struct {
	scenario *scenario.Scenario
	mesh     *mesh
	clock    *clock
	flows    []*flow
	sampler  *sampler
	check    *checkers
	faults   *faults
	step     time.Duration
	progress *Progress

	formed    time.Duration // how long formation took
	recovered time.Duration // from the healing of all faults until every stream flowed
}

// play is Run on whichever clock it is called.
func play(ctx context.Context, s *scenario.Scenario, o Options) (*Report, error) {
	dir, err := os.MkdirTemp(o.Dir, "tern-sim-")
	if err != nil {
		return nil, err
	}
	g, err := prepare(dir, s)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	begun := time.Now()
	net := sim.New(s.Seed)
	m := newMesh(ctx, g, net, o)
	defer m.close()
	st := &stage{scenario: s, mesh: m, clock: &clock{t0: begun}, progress: o.Progress}
	m.clock = st.clock
	st.check = newCheckers(m)
	m.note = st.check.note
	net.SetTap(st.check.tap)
	if err := m.form(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, errors.Join(append(m.failures(), err)...)
	}
	st.formed = time.Since(begun)
	st.clock.t0 = time.Now()
	st.progress.formed.Store(true)
	if err := st.run(); err != nil {
		return nil, err
	}
	return st.report(o), nil
}

// run plays the scenario, then heals everything and waits until the mesh has recovered.
func (st *stage) run() error {
	st.build()
	ctx, stop := context.WithCancel(st.mesh.ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	for _, f := range st.flows {
		f.run(ctx, &group)
	}
	for _, s := range st.timeline() {
		if !st.clock.until(ctx, s.at) {
			break
		}
		st.progress.instant.Store(int64(s.at))
		s.do()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	st.check.copies.measure(false)
	st.faults.heal()
	st.recover(ctx)
	return context.Cause(ctx)
}

// build makes flows, views and what watches them.
func (st *stage) build() {
	s := st.scenario
	st.step = max(minStep, (s.Duration / maxSteps).Round(minStep))
	st.faults = &faults{mesh: st.mesh, clock: st.clock, check: st.check}
	st.sampler = newSampler(st.mesh)
	for i, stream := range s.Streams {
		app := appOf(stream)
		f := &flow{
			Stream: stream, index: uint32(i), key: media.Key{App: app, Channel: stream.Channel, Stream: stream.Name},
			period: time.Second / time.Duration(stream.PacketsPerSecond), end: s.Duration,
			from: st.mesh.byName[stream.From], clock: st.clock,
		}
		if stream.WebRTC {
			f.client = st.mesh.newClient("client-"+stream.Name, f.from, stream)
		}
		from := max(s.Warmup, stream.Start)
		if stream.Start > 0 {
			from = max(from, min(stream.Start+s.Warmup, stream.Stop))
		}
		for _, to := range stream.To {
			member := st.mesh.byName[to]
			allowed := st.mesh.ground.allowed(app, member.Region) && st.mesh.ground.allowed(app, f.from.Region)
			for viewer := range stream.Viewers {
				v := newView(f, member, viewer, allowed, from, min(s.Duration, stream.Stop), st.step)
				if stream.WebRTC {
					v.client = st.mesh.newClient(fmt.Sprintf("client-%s-%s-%d", stream.Name, to, viewer), member, stream)
				}
				f.views = append(f.views, v)
			}
			if to != stream.From {
				st.sampler.watch(sessionKey{from: stream.From, to: to, fence: st.mesh.fenceOf(app)})
			}
		}
		st.flows = append(st.flows, f)
		st.faults.flows = st.flows
	}
}

// timeline is the scenario's events, samples, and the begin of the window. Of things at one instant, samples come first.
func (st *stage) timeline() []step {
	s := st.scenario
	var steps []step
	for at := st.step; at < s.Duration; at += st.step {
		steps = append(steps, step{at, func() {
			st.sampler.sample(at, at > s.Warmup)
			st.check.observe()
		}})
	}
	steps = append(steps, step{s.Warmup, func() {
		st.sampler.sample(s.Warmup, false)
		st.check.copies.measure(true)
	}})
	steps = append(steps, st.faults.timeline(s)...)
	steps = append(steps, step{s.Duration, func() { st.sampler.sample(s.Duration, true) }})
	slices.SortStableFunc(steps, func(a, b step) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	return steps
}

// recover waits until every stream between living nodes flows again and every living node has the newest confirmed
// policy. It also gives the last packets of the window the time to arrive.
func (st *stage) recover(ctx context.Context) {
	healed := st.clock.now()
	late := time.Duration(0)
	for _, f := range st.flows {
		late = max(late, f.Deadline)
	}
	var missing string
	for st.clock.now() < healed+recoverWithin {
		wait(ctx, nil, recoverPoll)
		if ctx.Err() != nil {
			return
		}
		st.progress.instant.Store(int64(st.clock.now()))
		if missing = st.missing(healed); missing == "" {
			st.recovered = st.clock.now() - healed
			if rest := late + time.Second - st.recovered; rest > 0 {
				wait(ctx, nil, rest)
			}
			return
		}
	}
	st.recovered = -1
	st.check.fail(CheckLive, "%v after all faults were healed: %s", recoverWithin, missing)
}

// missing names a stream that does not flow, or a node that is behind; "" if all is well.
func (st *stage) missing(since time.Duration) string {
	for _, f := range st.flows {
		if n, _ := f.from.living(); n == nil || f.Stop < f.end {
			continue
		}
		for _, v := range f.views {
			if n, _ := v.to.living(); n != nil && v.allowed && v.newest() < since {
				return fmt.Sprintf("nothing of %s has reached %s since %v", f.Name, v.to.Name, v.newest())
			}
		}
	}
	return st.check.behind()
}
