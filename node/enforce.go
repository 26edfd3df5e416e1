package node

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/node/access"
	"github.com/ternmesh/tern/routing"
)

// enforcer is the one place where a policy becomes admission, routing constraints, fences and filter rules.
// Readers take one immutable snapshot; a policy is swapped in whole, never in parts. Everything that the
// current policy does not allow is refused: no policy, unknown app, unknown fence.
type enforcer struct {
	region  string // this node's
	current atomic.Pointer[enforced]
	filter  func(ebpf.Rules) error // sets the filter's rules; nil without a filter

	mu      sync.Mutex     // held while a policy is put into force
	policy  control.Policy // guarded by mu: the newest
	whole   atomic.Uint64  // the newest version that every part took
	trouble atomic.Value   // string: what did not take a newer one; "" if nothing
}

// enforced is what one policy version means at this node.
type enforced struct {
	version uint64
	change  string // see control.Policy.Change
	apps    map[string]enforcedApp
	fences  map[braid.FenceID]fence
	regions map[string]bool
	places  places // of clients
	bounds  []routing.Bound
	nodes   map[string]control.NodeState
	drained []string // sorted
	corded  []string // cordoned, sorted
	revoked revocations
}

type enforcedApp struct {
	admission access.App
	keySet    string // where the app's public keys are, "" if it has none
	fence     braid.FenceID
	copies    braid.Class // in how many copies its media crosses the mesh
}

// fence is a set of regions.
type fence struct {
	regions []string
	set     map[string]bool
}

func newEnforcer(region string) *enforcer {
	e := &enforcer{region: region}
	e.trouble.Store("")
	e.current.Store(&enforced{})
	return e
}

// translate is pure: policy in, decisions out.
func translate(p control.Policy) *enforced {
	out := &enforced{version: p.Version, change: p.Change, bounds: p.RouteBounds(), apps: make(map[string]enforcedApp), fences: make(map[braid.FenceID]fence)}
	for _, a := range p.Apps {
		f := fence{regions: p.FenceRegions(a), set: make(map[string]bool)}
		if len(f.regions) == 0 {
			continue // no region may carry it: the app does not exist here
		}
		for _, r := range f.regions {
			f.set[r] = true
		}
		id := braid.FenceOf(f.regions)
		out.fences[id] = f
		out.apps[a.ID] = enforcedApp{
			admission: admissionOf(a),
			keySet:    a.Admission.KeySet,
			fence:     id,
			copies:    copiesOf(a),
		}
	}
	out.revoked = revocationsOf(p.Revoked)
	out.regions, out.places = make(map[string]bool), placesOf(p.Clients)
	for _, r := range p.Regions {
		out.regions[r.ID] = true
	}
	out.nodes = p.Nodes
	for name, s := range p.Nodes {
		if s.State == control.NodeDrained {
			out.drained = append(out.drained, name)
		} else {
			out.corded = append(out.corded, name)
		}
	}
	slices.Sort(out.drained)
	slices.Sort(out.corded)
	return out
}

// RouteLimits is what a policy, not in force, would mean for routes: what the node enforces, for tools that ask what if. With an
// app, paths stay inside its fence; without one, anywhere. MaxPaths and MaxRelays are the caller's.
func RouteLimits(p control.Policy, app string) (routing.Constraints, []routing.Bound, error) {
	e := newEnforcer("")
	e.current.Store(translate(p))
	c := e.constrain(routing.Constraints{AnyRegion: app == ""})
	if app != "" {
		id, ok := e.fenceOf(app)
		if !ok {
			return c, nil, fmt.Errorf("the policy has no app %q with a region that may carry it", app)
		}
		c.Regions = e.regions(id)
	}
	return c, p.RouteBounds(), nil
}

// nodeState is what the policy says of a node; the zero value for one that serves.
func (e *enforcer) nodeState(name string) control.NodeState { return e.current.Load().nodes[name] }

// constrain adds to the constraints of a path set what the policy says of nodes: no path relays through a drained node, and
// no new one through a cordoned node.
func (e *enforcer) constrain(c routing.Constraints) routing.Constraints {
	p := e.current.Load()
	c.NoRelay, c.NoNewRelay = p.drained, p.corded
	return c
}

// lastResort lifts the ban on drained nodes whose deadline has not come, for a pair that has no other way.
func (e *enforcer) lastResort(c routing.Constraints, now time.Time) routing.Constraints {
	p := e.current.Load()
	c.NoRelay = slices.DeleteFunc(slices.Clone(p.drained), func(name string) bool {
		d := p.nodes[name].Deadline
		return d.IsZero() || now.Before(d)
	})
	return c
}

// enforce swaps a policy in. Decisions are in force at once, whatever happens to the filter; the version counts as
// enforced only when the filter took it too.
func (e *enforcer) enforce(p control.Policy) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.policy = p
	e.current.Store(translate(p))
	return e.finish()
}

// filterRules are what a policy means to the packet filter; pure.
func filterRules(p control.Policy) ebpf.Rules {
	rates := make(map[string]ebpf.Rate, len(p.Filter.Rates))
	for name, r := range p.Filter.Rates {
		rates[name] = ebpf.Rate{PerSecond: uint32(r.PerSecond), Burst: uint32(r.Burst)}
	}
	return ebpf.Rules{Blocklist: p.Blocklist, Rates: rates}
}

// finish hands the filter its rules; mu held.
func (e *enforcer) finish() error {
	if e.filter != nil {
		if err := e.filter(filterRules(e.policy)); err != nil {
			e.trouble.Store(fmt.Sprintf("version %d: the filter did not take its rules: %v", e.policy.Version, err))
			return err
		}
	}
	e.whole.Store(e.policy.Version)
	e.trouble.Store("")
	return nil
}

// retry tries again what failed; true if that helped.
func (e *enforcer) retry() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trouble.Load() != "" && e.finish() == nil
}

// enforcement is what this node says of itself.
func (e *enforcer) enforcement() control.Enforcement {
	return control.Enforcement{Version: e.whole.Load(), Trouble: e.trouble.Load().(string)}
}

// app says what admission needs to know; false for an app that the policy does not have, or whose fence does not hold
// this node: its clients are not let in here.
func (e *enforcer) app(id string) (enforcedApp, bool) {
	now := e.current.Load()
	a, ok := now.apps[id]
	if !ok || !now.fences[a.fence].set[e.region] {
		return enforcedApp{}, false
	}
	return a, true
}

// fenceOf returns the fence of an app; false refuses the app's media.
func (e *enforcer) fenceOf(app string) (braid.FenceID, bool) {
	a, ok := e.current.Load().apps[app]
	return a.fence, ok
}

// regions returns the regions of a fence, nil for one that no app of the current policy has.
func (e *enforcer) regions(id braid.FenceID) []string { return e.current.Load().fences[id].regions }

// allows says whether a fence's frames may touch a region.
func (e *enforcer) allows(id braid.FenceID, region string) bool {
	return e.current.Load().fences[id].set[region]
}

// copies says in how many copies an app's media crosses the mesh.
func (e *enforcer) copies(app string) braid.Class { return e.current.Load().apps[app].copies }

// copiesOf translates an app's redundancy.
func copiesOf(a control.App) braid.Class {
	switch a.Redundancy {
	case control.RedundancyOff:
		return braid.OneCopy
	case control.RedundancyAdaptive:
		return braid.Adaptive(float64(a.ResidualPPM) / 1e6)
	}
	return 0
}

// version of the decisions in force; see enforcement for the whole.
func (e *enforcer) version() uint64 { return e.current.Load().version }
