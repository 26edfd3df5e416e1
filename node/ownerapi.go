package node

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node/gate"
)

// applyOwn makes a change by somebody who owns some apps: theirs alone, on top of whatever else is in force. What goes beyond is
// refused with its paths, and recorded.
func (n *Node) applyOwn(r *http.Request, proposal control.Proposal) (control.Outcome, error) {
	caller := gate.From(r.Context())
	document, wanted := *proposal.Policy, proposal.IfVersion
	for try := 1; ; try++ {
		base, err := n.control.Shown()
		if err != nil {
			return control.Outcome{}, err
		}
		if wanted != nil && *wanted != base.Version {
			return control.Outcome{}, &control.ConflictError{Expected: *wanted, Current: base.Version}
		}
		next, err := control.OwnerChange(base, document, caller.Apps)
		if denied := (*control.OwnerError)(nil); errors.As(err, &denied) {
			n.deniedPaths(r, caller, denied)
		}
		if err != nil {
			return control.Outcome{}, err
		}
		written(&next)
		proposal.Policy, proposal.IfVersion = &next, &base.Version
		out, err := n.propose(r, proposal)
		var conflict *control.ConflictError
		switch {
		case err == nil:
			out.Policy = own(out.Policy, caller)
			return out, nil
		case !errors.As(err, &conflict) || wanted != nil || try == editTries:
			return control.Outcome{}, err
		}
		n.awaitVersion(r.Context(), conflict.Current)
	}
}

// deniedPaths tells the log, the metrics and the audit log of an owner who went too far.
func (n *Node) deniedPaths(r *http.Request, c gate.Caller, denied *control.OwnerError) {
	n.denials.forbidden.Add(1)
	if n.denials.lines.Allow() {
		n.log.Warn("change of the policy refused", "who", c.String(), "from", r.RemoteAddr, "paths", len(denied.Paths), "first", denied.Paths[0])
	}
	n.control.Record(control.AuditBody{
		Who: c.String(), From: fromOf(r, n.cfg.Node), Action: r.Method + " " + r.URL.Path, Result: control.AuditDenied,
		Detail: "not the owner's to change: " + strings.Join(denied.Paths, ", "),
	})
}

// serveEnforcers says who enforces which version; to an app's owner only of the nodes inside the fences of its apps.
func (n *Node) serveEnforcers(w http.ResponseWriter, r *http.Request) {
	list, caller := n.control.Enforcers(r.Context()), gate.From(r.Context())
	if !caller.May(gate.Read) {
		p := n.control.Policy()
		var regions []string
		for _, a := range own(p, caller).Apps {
			regions = append(regions, p.FenceRegions(a)...)
		}
		list = slices.DeleteFunc(list, func(e control.Enforcer) bool { return !slices.Contains(regions, e.Region) })
	}
	writeJSON(w, http.StatusOK, list)
}
