package control

import (
	"cmp"
	"context"
	"slices"
)

// Enforcement is what a node says of itself: the version that it enforces wholly, and what keeps it from a newer one.
type Enforcement struct {
	Version uint64 `json:"version"`
	Trouble string `json:"trouble,omitempty"`
}

// Enforcer is one member's enforcement, as asked just now.
type Enforcer struct {
	Node   string `json:"node"`
	Region string `json:"region"`
	Alive  bool   `json:"alive"` // gossip holds it for alive
	Enforcement
	Error string `json:"error,omitempty"` // why it did not answer
}

// Enforcers asks every member which version it enforces, at most 4 s, and returns them by name; a member that does not
// answer is listed with the reason.
func (c *Control) Enforcers(ctx context.Context) []Enforcer {
	answers := make(map[string]asked)
	for _, a := range c.askAll(ctx, request{Op: opEnforcement}) {
		answers[a.node] = a
	}
	var out []Enforcer
	for _, m := range c.cfg.Members() {
		e := Enforcer{Node: m.Node, Region: m.Region, Alive: m.Alive}
		a, wasAsked := answers[m.Node]
		switch {
		case m.Node == c.cfg.Node:
			e.Enforcement, e.Alive = c.Enforcement(), true
		case !wasAsked:
			e.Version, e.Error = m.PolicyVersion, "not reachable"
		case a.err != nil:
			e.Version, e.Error = m.PolicyVersion, a.err.Error()
		case a.answer.Enforcement != nil:
			e.Enforcement = *a.answer.Enforcement
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Enforcer) int { return cmp.Compare(a.Node, b.Node) })
	return out
}
