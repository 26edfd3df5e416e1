package braid

import (
	"slices"
	"time"
)

const (
	// replaceAfter is how long a path must have been dead before another takes its place: most outages are shorter, and the
	// other paths bridge them.
	replaceAfter = 500 * time.Millisecond
	// avoidFor is how long a path that was replaced is kept out: an outage that probes saw too is over when they say so. It is
	// twice as long each time that it dies again soon, at most avoidMax: then there is something that probes do not see.
	avoidFor = 5 * time.Second
	avoidMax = 8 * time.Minute
	// maxAvoided bounds the paths that a flow remembers as dead; the oldest gives way.
	maxAvoided = 16
)

// avoided is a path that died and is not to be used until a time.
type avoided struct {
	path  Path
	until time.Time
	hold  time.Duration
}

// replaceDead puts the paths that have been dead for long enough on the list of those to avoid, and reports whether the path
// set should be asked for again. While no path lives, none is replaced: it is the peer or this node that is cut off.
func (f *flow) replaceDead(now time.Time) (found bool) {
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	if !f.alive() {
		return false
	}
	for _, p := range f.paths {
		if !p.dead || now.Sub(p.deadAt) < replaceAfter {
			continue
		}
		relays := p.relays[:p.relayN]
		i := slices.IndexFunc(f.avoid, func(a avoided) bool { return slices.Equal(a.path.Relays, relays) })
		switch {
		case i < 0:
			if len(f.avoid) >= maxAvoided {
				f.avoid = slices.Delete(f.avoid, 0, 1)
			}
			f.avoid = append(f.avoid, avoided{Path{slices.Clone(relays)}, now.Add(avoidFor), avoidFor})
		case now.Before(f.avoid[i].until):
			continue // known, and there is no other
		default:
			a := &f.avoid[i]
			if now.Sub(a.until) > avoidMax {
				a.hold = avoidFor / 2 // long ago
			}
			a.hold = min(2*a.hold, avoidMax)
			a.until = now.Add(a.hold)
		}
		f.b.counters.replaced.Add(1)
		found = true
	}
	return found
}

// avoiding is the paths to avoid at present. Holds sendMu.
func (f *flow) avoiding(now time.Time) (out []Path) {
	for _, a := range f.avoid {
		if now.Before(a.until) {
			out = append(out, a.path)
		}
	}
	return out
}

// fill adds the dead paths in use to a set that is short of paths without them: a copy on them costs little, and they come
// back by themselves. Holds sendMu.
func (f *flow) fill(fresh []Path, avoid []Path) []Path {
	for _, p := range f.paths {
		relays := p.relays[:p.relayN]
		same := func(q Path) bool { return slices.Equal(q.Relays, relays) }
		if len(fresh) < maxPaths && slices.ContainsFunc(avoid, same) && !slices.ContainsFunc(fresh, same) {
			fresh = append(fresh, Path{slices.Clone(relays)})
		}
	}
	return fresh
}
