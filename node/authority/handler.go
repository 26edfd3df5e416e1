package authority

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/fair"
)

// statuses of refusals by their code.
var statuses = map[string]int{
	lease.CodeBadRequest: http.StatusBadRequest, lease.CodeNotListed: http.StatusForbidden, lease.CodeDenied: http.StatusForbidden,
	lease.CodeMachine: http.StatusForbidden, lease.CodeInvitation: http.StatusForbidden, lease.CodeClock: http.StatusConflict,
	lease.CodeNotServing: http.StatusServiceUnavailable, lease.CodeBusy: http.StatusTooManyRequests, lease.CodeInternal: http.StatusInternalServerError,
}

func (a *Authority) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+lease.Path, a.serveLease)
	return mux
}

// serveLease answers one request.
func (a *Authority) serveLease(w http.ResponseWriter, r *http.Request) {
	from := fair.SourceOf(r.RemoteAddr)
	if !a.limits.allow(from) {
		a.refuse(w, r, "", lease.Refusal{Code: lease.CodeBusy, Text: "too many requests: ask again in a minute"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, lease.MaxRequestBytes))
	var req lease.Request
	if err == nil {
		req, err = lease.DecodeRequest(body)
	}
	if err != nil {
		a.refuse(w, r, "", lease.Refusal{Code: lease.CodeBadRequest, Text: err.Error()})
		return
	}
	l, note, err := a.answer(time.Now(), req, r)
	if err != nil {
		a.refuse(w, r, req.Node, err)
		return
	}
	a.counts.given.Add(1)
	say := a.log.Info
	if note != lease.NoNote && note != lease.NoteFirst {
		say = a.log.Warn
	}
	args := []any{"node", req.Node, "from", r.RemoteAddr, "expires", time.Unix(l.Grant.Expires, 0).UTC()}
	if note != lease.NoNote {
		args = append(args, "note", note, "meaning", meaning[note])
	}
	say("lease given", args...)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(l) // a client that is gone asks again
}

// meaning tells the operator of a note.
var meaning = map[lease.Note]string{
	lease.NoteFirst:   "this request enrolled it",
	lease.NoteForked:  "it showed an older lease than its last: two copies of this machine run, or the last answer was lost",
	lease.NoteShared:  "another node has the same fingerprint: both run on one machine, or the machine was cloned",
	lease.NoteMoved:   "the node was enrolled on another machine or with another key before",
	lease.NoteAdopted: "another authority enrolled it",
}

// answer judges what concerns this authority alone, and then the machine.
func (a *Authority) answer(now time.Time, req lease.Request, r *http.Request) (lease.Lease, lease.Note, error) {
	own := a.current.Load()
	skew := now.Sub(time.Unix(req.Time, 0))
	switch right := a.right.Load(); {
	case !right.Serves():
		return lease.Lease{}, "", lease.Refusal{Code: lease.CodeNotServing, Text: "this authority has no right to serve yet", Why: string(right.Phase)}
	case req.Mesh != own.Mesh:
		return lease.Lease{}, "", lease.Refusal{Code: lease.CodeBadRequest, Text: "this is an authority of another mesh"}
	case skew > lease.MaxSkew || skew < -lease.MaxSkew:
		return lease.Lease{}, "", lease.Refusal{Code: lease.CodeClock, Text: "the clocks of the machine and of this authority differ by " + skew.Abs().Round(time.Second).String() + ": put them right (NTP)"}
	case r.TLS == nil:
		return lease.Lease{}, "", errors.New("no TLS")
	}
	key, err := identity.ClientKey(*r.TLS)
	if err != nil {
		return lease.Lease{}, "", lease.Refusal{Code: lease.CodeBadRequest, Text: err.Error()}
	}
	if reason := a.revoked(req.Node, key); reason != "" {
		return lease.Lease{}, "", lease.Refusal{Code: lease.CodeDenied, Text: "the policy of the mesh revokes this node or its key", Why: reason}
	}
	return a.give(now, req, key, fair.SourceOf(r.RemoteAddr).Addr().String())
}

// refuse answers and counts; the log has at most a line a second of it.
func (a *Authority) refuse(w http.ResponseWriter, r *http.Request, node string, err error) {
	var refusal lease.Refusal
	if !errors.As(err, &refusal) {
		a.log.Error("no lease can be given", "node", node, "err", err)
		refusal = lease.Refusal{Code: lease.CodeInternal, Text: errInternal.Error(), Why: err.Error()}
	}
	a.counts.refused.Add(1)
	if a.lines.Allow() {
		a.log.Warn("lease refused (at most a line a second)", "node", node, "from", r.RemoteAddr, "code", refusal.Code, "why", cmp.Or(refusal.Why, refusal.Text), "refused", a.counts.refused.Load())
	}
	if refusal.Code == lease.CodeBusy || refusal.Code == lease.CodeNotServing {
		w.Header().Set("Retry-After", strconv.Itoa(60))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statuses[refusal.Code])
	_ = json.NewEncoder(w).Encode(refusal)
}
