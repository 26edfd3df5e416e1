package run

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
)

// sampler watches the paths of every session that carries a stream, from the receiving end: counters there are
// turned into differences, so that sessions may end and begin anew. One goroutine owns it.
type sampler struct {
	mesh     *mesh
	sessions map[sessionKey]*sessionTrack
	names    map[string]string // compact ids of nodes that are gone, as a status shows them
}

type sessionKey struct {
	from, to string
	fence    uint32
}

// sessionTrack is what one session's receiver has told so far.
type sessionTrack struct {
	paths      map[string]*pathTrack // by hops
	last       map[string]node.PathStatus
	lastDup    uint64
	duplicates uint64
}

// pathTrack is one path's figures in the window, and its series over all samples.
type pathTrack struct {
	hops                       []string
	sent, lost, first, rescued uint64
	series                     []pathPoint
}

// pathPoint is one path at one sample: what was sent and lost since the one before, and its delay now.
type pathPoint struct {
	at         time.Duration
	sent, lost uint64
	delayMS    float64
}

func newSampler(m *mesh) *sampler {
	s := &sampler{mesh: m, sessions: make(map[sessionKey]*sessionTrack), names: make(map[string]string)}
	for _, n := range m.members {
		s.names[fmt.Sprintf("%08x", identity.NodeID(meshName, n.Name))] = n.Name
	}
	return s
}

// watch adds the session from one node to another.
func (s *sampler) watch(k sessionKey) {
	if s.sessions[k] == nil {
		s.sessions[k] = &sessionTrack{paths: make(map[string]*pathTrack), last: make(map[string]node.PathStatus)}
	}
}

// sample reads all sessions; counted says whether the differences belong to the window.
func (s *sampler) sample(at time.Duration, counted bool) {
	statuses := make(map[string][]node.BraidStatus)
	for k, track := range s.sessions {
		braids, asked := statuses[k.to]
		if n, _ := s.mesh.byName[k.to].living(); !asked && n != nil {
			braids = n.Braids()
			statuses[k.to] = braids
		}
		for _, b := range braids {
			if s.name(b.Peer) == k.from && b.Fence == fmt.Sprintf("%08x", k.fence) {
				track.add(s, b, at, counted)
			}
		}
	}
}

func (s *sampler) name(n string) string {
	if known, ok := s.names[n]; ok {
		return known
	}
	return n
}

// grown is the difference of a counter; a smaller one began anew.
func grown(now, before uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

func (t *sessionTrack) add(s *sampler, b node.BraidStatus, at time.Duration, counted bool) {
	if counted {
		t.duplicates += grown(b.Duplicates, t.lastDup)
	}
	t.lastDup = b.Duplicates
	points := make(map[string]*pathPoint)
	for _, p := range b.In {
		hops := make([]string, len(p.Hops))
		for i, h := range p.Hops {
			hops[i] = s.name(h)
		}
		name := strings.Join(hops, " ")
		id := fmt.Sprintf("%s #%d", name, p.ID)
		before := t.last[id]
		t.last[id] = p
		track := t.paths[name]
		if track == nil {
			track = &pathTrack{hops: hops}
			t.paths[name] = track
		}
		sent, lost := grown(p.Sent, before.Sent), grown(p.Lost, before.Lost)
		if counted {
			track.sent += sent
			track.lost += lost
			track.first += grown(p.First, before.First)
			track.rescued += grown(p.Rescued, before.Rescued)
		}
		pt := points[name]
		if pt == nil {
			pt = &pathPoint{at: at}
			points[name] = pt
		}
		pt.sent += sent
		pt.lost += lost
		if p.Active || pt.delayMS == 0 {
			pt.delayMS = p.DelayMS
		}
	}
	for name, pt := range points {
		t.paths[name].series = append(t.paths[name].series, *pt)
	}
}

// ordered are the paths, busiest first.
func (t *sessionTrack) ordered() []*pathTrack {
	var out []*pathTrack
	for _, p := range t.paths {
		if p.sent > 0 {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *pathTrack) int {
		if a.sent != b.sent {
			return int(int64(b.sent) - int64(a.sent))
		}
		return strings.Compare(strings.Join(a.hops, " "), strings.Join(b.hops, " "))
	})
	return out
}

// fenceOf is the fence of an app under the scenario's first policy; 0 if it has none.
func (m *mesh) fenceOf(app string) uint32 {
	p := m.ground.parsed[0]
	for _, a := range p.Apps {
		if a.ID == app {
			return uint32(braid.FenceOf(p.FenceRegions(a)))
		}
	}
	return 0
}
