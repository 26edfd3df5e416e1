package mesh

import (
	"testing"
	"time"
)

// resting is a mesh of n nodes that has had nobody to serve for two minutes.
func resting(t *testing.T, n int) *lockstep {
	l := newMeshLockstep(t, 5, n)
	for _, s := range l.nodes {
		s.cfg.Busy = func() bool { return s.sessions > 0 }
		l.start(s)
	}
	l.until(l.now.Add(2 * time.Minute))
	return l
}

// fast counts the links that are probed fast.
func (l *lockstep) fast() (count int) {
	for _, s := range l.nodes {
		for _, link := range s.Links() {
			if link.Fast {
				count++
			}
		}
	}
	return count
}

// downs counts the nodes that hold the link to another for down.
func (l *lockstep) downs(dead *stepper) (count int) {
	for _, s := range l.nodes {
		if link, ok := s.Graph().Link(s.name, dead.name); s != dead && (!ok || link.Down) {
			count++
		}
	}
	return count
}

func TestAnIdleMeshRests(t *testing.T) {
	l := resting(t, 6)
	probes, messages := l.probes, l.bytes
	l.until(l.now.Add(time.Minute))
	// Five links at each of six nodes, one request a second and its reply: 60 a second.
	if rate := (l.probes - probes) / 60; rate < 58 || rate > 64 {
		t.Errorf("%d probes a second in all, want about 60", rate)
	}
	for _, s := range l.nodes {
		for _, link := range s.Links() {
			if link.Fast || link.Carries || link.Down || link.LossOut > 0.03 {
				t.Fatalf("%s: %+v", s.name, link)
			}
		}
	}
	t.Logf("gossip: %d bytes/s out of each", (l.bytes-messages)/60/6)
}

// The first client anywhere wakes everybody; nobody rests before the last has been gone for restAfter.
func TestAClientWakesTheMesh(t *testing.T) {
	l := resting(t, 6)
	l.nodes[3].sessions = 1
	if took := l.within(10*time.Second, func() bool { return l.fast() == 30 }); took > 2*time.Second {
		t.Errorf("all links are probed fast after %v", took)
	}
	for range 60 {
		l.until(l.now.Add(time.Second))
		if fast := l.fast(); fast != 30 {
			t.Fatalf("%d of 30 links are probed fast while there is a client", fast)
		}
	}
	l.nodes[3].dead = true
	if took := l.within(10*time.Second, func() bool { return l.downs(l.nodes[3]) == 5 }); took > 1300*time.Millisecond {
		t.Errorf("a node that died at work is known after %v", took)
	}
	for _, s := range l.nodes[:3] {
		s.goneBy("n003")
	}
	for _, s := range l.nodes[4:] {
		s.goneBy("n003")
	}
	if took := l.within(2*restAfter, func() bool { return l.nodes[0].resting }); took < restAfter-time.Second {
		t.Errorf("rests %v after its last client", took)
	}
}

// A node that dies while nobody is served is known a little later, and no link that lives is taken for dead.
func TestDeathIsSeenAtRest(t *testing.T) {
	l := resting(t, 6)
	for range 120 {
		l.until(l.now.Add(time.Second))
		for _, s := range l.nodes {
			if l.downs(s) > 0 {
				t.Fatalf("a link of %s is down", s.name)
			}
		}
	}
	l.nodes[5].dead = true
	if took := l.within(10*time.Second, func() bool { return l.downs(l.nodes[5]) == 5 }); took > 2500*time.Millisecond {
		t.Errorf("known after %v", took)
	}
}
