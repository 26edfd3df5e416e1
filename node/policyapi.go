package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node/gate"
)

// policyRoutes are the admin API's calls about policy, its history and the audit log.
func (n *Node) policyRoutes(mux *adminRoutes) {
	mux.with(gate.ReadOwn, "GET /v1/policy", http.HandlerFunc(n.servePolicy))
	mux.with(gate.ChangeOwn, "PUT /v1/policy", http.HandlerFunc(n.applyPolicy))
	mux.HandleFunc("GET /v1/policy/history", n.serveHistory)
	mux.HandleFunc("GET /v1/policy/explain", n.serveExplain)
	mux.with(gate.ReadOwn, "GET /v1/policy/enforcers", http.HandlerFunc(n.serveEnforcers))
	mux.HandleFunc("GET /v1/fence/prove", n.serveFenceProof)
	mux.HandleFunc("GET /v1/control/snapshot", n.serveSnapshot)
	mux.HandleFunc("GET /v1/audit", n.serveAudit)
	mux.HandleFunc("GET /v1/audit/witnesses", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, n.control.AuditWitnesses(r.Context()))
	})
}

// PolicyDocument is a policy as the admin API shows it: secrets as fingerprints.
type PolicyDocument struct {
	Version uint64         `json:"version"`
	Policy  control.Policy `json:"policy"`
}

// servePolicy shows the policy in force here; ?version=N one of the history, ?committed=1 what the voters agreed on last.
func (n *Node) servePolicy(w http.ResponseWriter, r *http.Request) {
	version, err := number(r, "version")
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	var p control.Policy
	switch {
	case version != nil:
		p, err = n.control.PolicyAt(r.Context(), *version)
	case r.URL.Query().Get("committed") != "":
		p, err = n.control.Committed(r.Context())
	default:
		p, err = n.control.Shown()
	}
	if err != nil {
		writeError(w, statusOf(err), err)
		return
	}
	writeJSON(w, http.StatusOK, PolicyDocument{Version: p.Version, Policy: own(p, gate.From(r.Context()))})
}

// number reads an optional whole number of the query.
func number(r *http.Request, key string) (*uint64, error) {
	s := r.URL.Query().Get(key)
	if s == "" {
		return nil, nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s=%.40q is not a whole number", key, s)
	}
	return &v, nil
}

var errParsing = errors.New("this node is reading another document: try again in some seconds, or at another node")

// parse reads a document, one at a time: one of megabytes takes seconds of a processor and hundreds of megabytes of memory.
// Operators wait for each other. An app's owner, who may be anybody's customer, does not: who asks often would keep others waiting.
func (n *Node) parse(c gate.Caller, doc []byte) (control.Policy, error) {
	if c.May(gate.Operate) {
		n.parsing.Lock()
	} else if !n.parsing.TryLock() {
		return control.Policy{}, errParsing
	}
	defer n.parsing.Unlock()
	return control.Parse(doc)
}

// applyPolicy takes a document in the body. ?if_version=N refuses if the policy has moved on since N, ?dry_run=1 judges
// and changes nothing, ?force=1 strands apps if need be, ?action=TEXT names the act in the audit log, ?own=ADDRESS is an
// address of the operator that the blocklist must not cover.
func (n *Node) applyPolicy(w http.ResponseWriter, r *http.Request) {
	doc, err := io.ReadAll(http.MaxBytesReader(w, r.Body, control.MaxDocumentBytes))
	if err != nil {
		writeError(w, bodyStatus(err), fmt.Errorf("the document did not come whole (it may have %d bytes): %w", control.MaxDocumentBytes, err))
		return
	}
	ifVersion, err := number(r, "if_version")
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	q := r.URL.Query()
	p, err := n.parse(gate.From(r.Context()), doc)
	if err == nil && q.Get("force") == "" {
		err = n.checkLockout(p.Blocklist, r.RemoteAddr, q["own"])
	}
	if err != nil {
		writeError(w, statusOf(err), err)
		return
	}
	propose := n.propose
	if !gate.From(r.Context()).May(gate.Operate) {
		propose = n.applyOwn
	}
	out, err := propose(r, control.Proposal{
		Policy: &p, Who: gate.From(r.Context()).String(), From: fromOf(r, n.cfg.Node), Action: q.Get("action"), IfVersion: ifVersion,
		Force: q.Get("force") != "", DryRun: q.Get("dry_run") != "",
	})
	if err != nil {
		writeError(w, statusOf(err), err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// statusOf tells the operator's mistakes from the mesh's.
func statusOf(err error) int {
	var problems control.Problems
	var conflict *control.ConflictError
	var stranded *control.StrandError
	var lockout *lockoutError
	var denied *control.OwnerError
	switch {
	case errors.As(err, &denied):
		return http.StatusForbidden
	case errors.As(err, &problems):
		return http.StatusUnprocessableEntity
	case errors.As(err, &conflict), errors.As(err, &stranded), errors.As(err, &lockout):
		return http.StatusConflict
	case errors.Is(err, control.ErrNoVersion):
		return http.StatusNotFound
	default:
		return http.StatusServiceUnavailable
	}
}

func (n *Node) serveHistory(w http.ResponseWriter, r *http.Request) {
	changes, err := n.control.History(r.Context())
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	writeJSON(w, http.StatusOK, changes)
}

// serveExplain says whether ?app's media may go from ?from to ?to, by which lines of what tern policy get shows.
func (n *Node) serveExplain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p, err := n.control.Shown()
	var doc []byte
	if err == nil {
		doc, err = control.Render(p)
	}
	if err != nil {
		writeError(w, http.StatusInternalServerError, err)
		return
	}
	e, err := control.Explain(doc, q.Get("app"), q.Get("from"), q.Get("to"))
	if err != nil {
		writeError(w, http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, http.StatusOK, e)
}

// serveAudit is a page of the audit log behind ?after.
func (n *Node) serveAudit(w http.ResponseWriter, r *http.Request) {
	after, err := number(r, "after")
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	if after == nil {
		after = new(uint64)
	}
	entries, err := n.control.Audit(r.Context(), *after)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	if entries == nil {
		entries = []control.AuditEntry{}
	}
	writeJSON(w, http.StatusOK, entries)
}

// enforceRetry is how often a part of the policy that could not be put into force is tried again.
const enforceRetry = 2 * time.Second

// keepEnforcing tries again what failed, until ctx ends.
func (n *Node) keepEnforcing(ctx context.Context) error {
	tick := time.NewTicker(enforceRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n.enforcer.retry() {
			n.log.Info("the policy is in force wholly now", "version", n.enforcer.version())
		}
	}
}
