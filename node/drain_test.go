package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/routing"
)

func TestDutyOfADrainedAndACordonedNode(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	drained := control.NodeState{State: control.NodeDrained}
	until := control.NodeState{State: control.NodeDrained, Deadline: now}
	for _, c := range []struct {
		wanted   control.NodeState
		at       time.Time
		sessions int
		quiet    bool
		state    string
		end      bool
	}{
		{control.NodeState{}, now, 5, false, StateServing, false},
		{control.NodeState{State: control.NodeCordoned}, now, 5, true, StateCordoned, false},
		{control.NodeState{State: control.NodeCordoned}, now, 0, true, StateCordoned, false},
		{drained, now, 5, true, StateDraining, false},
		{drained, now.Add(1000 * time.Hour), 1, true, StateDraining, false},
		{drained, now, 0, false, StateDraining, false}, // it still forwards for others
		{drained, now, 0, true, StateDrained, false},
		{until, now.Add(-time.Nanosecond), 5, true, StateDraining, false},
		{until, now, 5, false, StateDrained, true},
		{until, now.Add(time.Hour), 0, true, StateDrained, true},
	} {
		if state, end := duty(c.wanted, c.at, c.sessions, c.quiet); state != c.state || end != c.end {
			t.Errorf("%+v with %d sessions, quiet %v: %s, end %v; want %s, %v", c.wanted, c.sessions, c.quiet, state, end, c.state, c.end)
		}
	}
}

func TestANodeIsQuietSinceItForwardedLast(t *testing.T) {
	now := time.Now()
	d := newDrainer(&Node{started: now.Add(-time.Minute)})
	if quiet := d.idle(now); quiet != time.Minute {
		t.Errorf("forwarded nothing since it started a minute ago: quiet for %v", quiet)
	}
	d.forwarded(now.Add(-time.Second))
	if quiet := d.idle(now); quiet != time.Second {
		t.Errorf("forwarded a second ago: quiet for %v", quiet)
	}
}

func TestLeadershipGoesToALiveVoterThatIsNotDrained(t *testing.T) {
	members := []mesh.Member{{Node: "a", Alive: true}, {Node: "b", Alive: true}, {Node: "c"}, {Node: "d", Alive: true}}
	drained := func(names ...string) func(string) control.NodeState {
		return func(n string) (s control.NodeState) {
			if slices.Contains(names, n) {
				s.State = control.NodeDrained
			}
			return s
		}
	}
	for want, c := range map[string]struct {
		voters []string
		state  func(string) control.NodeState
	}{
		"b": {[]string{"a", "b", "c", "d"}, drained("a")},
		"d": {[]string{"a", "b", "c", "d"}, drained("a", "b")},
		"":  {[]string{"a", "b", "c"}, drained("a", "b")},
	} {
		if got := successor("a", c.voters, members, c.state); got != want {
			t.Errorf("leadership goes to %q, want %q", got, want)
		}
	}
	if got := successor("a", []string{"a"}, members, drained("a")); got != "" {
		t.Errorf("a lone voter keeps its office, not %q", got)
	}
}

func path(nodes string) routing.Path { return routing.Path{Nodes: strings.Fields(nodes)} }

func namesOf(paths []routing.Path) string {
	var out []string
	for _, p := range paths {
		out = append(out, strings.Join(p.Nodes, ""))
	}
	return fmt.Sprint(out)
}

func TestAPathIsLetGoOnlyWhenItsSuccessorIsReady(t *testing.T) {
	live := []routing.Path{path("a r b"), path("a s b")}
	wanted := []routing.Path{path("a b"), path("a t b")}
	none := func(routing.Path) bool { return false }
	all := func(routing.Path) bool { return true }
	direct := func(p routing.Path) bool { return len(p.Nodes) == 2 }
	for _, c := range []struct {
		what          string
		may           bool
		ready, usable func(routing.Path) bool
		next          string
		waiting       bool
	}{
		{"nothing is ready", true, none, all, "[arb asb ab]", true},
		{"one is ready", true, direct, all, "[ab arb asb]", true},
		{"all are", true, all, all, "[ab atb]", false},
		{"what there was is broken", true, none, none, "[ab atb]", false},
		{"the time is over", false, none, all, "[ab atb]", false},
	} {
		if next, waiting := handover(live, wanted, c.may, c.ready, c.usable); namesOf(next) != c.next || waiting != c.waiting {
			t.Errorf("%s: %s, waiting %v; want %s, %v", c.what, namesOf(next), waiting, c.next, c.waiting)
		}
	}
	if next, waiting := handover(nil, wanted, true, none, all); namesOf(next) != "[ab atb]" || waiting {
		t.Errorf("the first set of a pair replaces nothing: %s, waiting %v", namesOf(next), waiting)
	}
}

func TestDrainedNodesRelayNothingAndCordonedOnesNothingNew(t *testing.T) {
	e := newEnforcer("")
	now := time.Unix(1_700_000_000, 0)
	if err := e.enforce(control.Policy{Version: 1, Nodes: map[string]control.NodeState{
		"later": {State: control.NodeDrained, Deadline: now.Add(time.Minute)},
		"over":  {State: control.NodeDrained, Deadline: now},
		"cord":  {State: control.NodeCordoned},
	}}); err != nil {
		t.Fatal(err)
	}
	c := e.constrain(routing.Constraints{MaxPaths: 3})
	if fmt.Sprint(c.NoRelay, c.NoNewRelay, c.MaxPaths) != "[later over] [cord] 3" {
		t.Errorf("%+v", c)
	}
	if last := e.lastResort(c, now); fmt.Sprint(last.NoRelay, last.NoNewRelay) != "[over] [cord]" {
		t.Errorf("a drained node may be the last resort until its deadline: %+v", last)
	}
}

func TestADocumentOfAnEditSaysWhatIsEmpty(t *testing.T) {
	p := control.Policy{Regions: []control.Region{{ID: "eu"}}, Nodes: map[string]control.NodeState{}}
	written(&p)
	doc, err := control.EncodePolicy(p)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(doc, &keys); err != nil || string(keys["nodes"]) != "{}" || string(keys["revoked"]) != "[]" || string(keys["admins"]) != "[]" {
		t.Errorf("%s: %v", doc, err)
	}
}
