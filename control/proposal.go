package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// Proposal is a change of the policy that somebody asks for.
type Proposal struct {
	ID        string  // names the change, for whom it concerns (Policy.Change); empty: a random one; at most 256 bytes
	Document  []byte  // YAML or JSON, see Parse; fingerprints keep the secrets that they name
	Policy    *Policy // instead of Document, if the caller has parsed it: reading YAML is the dearest part of a change
	Who       string  // author, for history and audit; at most 256 bytes
	From      string  // where the author came from; at most 256 bytes
	Action    string  // what was done, for the audit log; empty: "policy apply"
	IfVersion *uint64 // make it only if this version is in force; nil: whatever is
	Force     bool    // also if it strands apps, see Stranded
	DryRun    bool    // judge it and change nothing
}

// Outcome is what a Proposal came to.
type Outcome struct {
	Base     uint64       `json:"base"`              // the version that was in force
	Version  uint64       `json:"version"`           // the new one; with DryRun the one that it would get
	Changes  []Difference `json:"changes"`           // none: the document says what is in force already
	Stranded []string     `json:"stranded"`          // apps that are taken away, see Stranded
	DryRun   bool         `json:"dry_run,omitempty"` // nothing was changed
	Policy   Policy       `json:"policy"`            // the new policy, secrets as fingerprints
}

// Propose changes the policy of the whole mesh, through the leader and from any node. It returns once a majority of
// voters has the change on disk; nodes enforce it a little later. A change that got no answer is asked for again under
// the same id, and is made once. Errors: Problems, *ConflictError, *StrandError, ErrNoLeader, ErrUnknownOutcome, or one of
// the transport.
func (c *Control) Propose(ctx context.Context, p Proposal) (Outcome, error) {
	if len(p.Who) > maxWho || len(p.From) > maxWho || len(p.Action) > maxWho || len(p.ID) > maxWho {
		return Outcome{}, fmt.Errorf("id, who, from and action take at most %d bytes each", maxWho)
	}
	if p.Policy == nil {
		parsed, err := Parse(p.Document) // here, so that problems are told without a leader, and once for the whole mesh
		if err != nil {
			return Outcome{}, err
		}
		p.Policy = &parsed
	} else if err := Validate(*p.Policy); err != nil {
		return Outcome{}, err
	}
	doc, err := EncodePolicy(*p.Policy)
	if err != nil {
		return Outcome{}, err
	}
	req := request{
		Op: opApply, ID: cmp.Or(p.ID, rand.Text()), Document: doc, Encoded: true, Who: p.Who, From: p.From, Action: p.Action, IfVersion: p.IfVersion,
		Force: p.Force, DryRun: p.DryRun, policy: p.Policy,
	}
	a, err := c.toLeader(ctx, req)
	if err != nil {
		return Outcome{}, err
	}
	if a.Outcome == nil {
		return Outcome{}, errors.New("the leader's answer holds no outcome")
	}
	out := *a.Outcome
	out.Policy.Version = out.Version
	return out, nil
}

// propose judges a request against the log and has the voters agree on it. Leader only.
func (c *Control) propose(ctx context.Context, req request) (Outcome, error) {
	r := c.node()
	if r == nil || r.State() != raft.Leader {
		return Outcome{}, ErrNoLeader
	}
	next, err := proposed(req)
	if err != nil {
		return Outcome{}, err
	}
	if err := c.takeTurn(ctx); err != nil {
		return Outcome{}, err
	}
	defer c.endTurn()
	if err := c.catchUp(ctx, r); err != nil {
		return Outcome{}, err
	}
	for try := 1; ; try++ {
		out, err := c.proposeOnce(ctx, r, req, next)
		var conflict *ConflictError
		if !errors.As(err, &conflict) || req.IfVersion != nil || try == proposeTries {
			return out, err
		}
	}
}

// proposed is the policy that a request asks for, checked: a peer's word that it did so is not enough.
func proposed(req request) (Policy, error) {
	if req.policy != nil { // this node's own request
		return *req.policy, nil
	}
	if !req.Encoded {
		return Parse(req.Document)
	}
	p, err := decodePolicy(req.Document)
	if err == nil {
		err = Validate(p)
	}
	return p, err
}

// proposeTries bounds how often a change that names no version is made again on top of one that came in between, which
// only happens in the first moment of a new leader.
const proposeTries = 3

// proposeOnce judges next against what is in force and commits it; the caller holds the turn.
func (c *Control) proposeOnce(ctx context.Context, r *raft.Raft, req request, next Policy) (Outcome, error) {
	base, floor, err := c.base()
	if err != nil {
		return Outcome{}, err
	}
	if done, ok := c.doneBefore(req.ID); ok {
		return done, nil
	}
	if req.IfVersion != nil && *req.IfVersion != base.Version {
		return Outcome{}, &ConflictError{Expected: *req.IfVersion, Current: base.Version}
	}
	if next, err = c.merge(next, base); err != nil {
		return Outcome{}, err
	}
	out := Outcome{Base: base.Version, Version: base.Version + 1, DryRun: req.DryRun}
	out.Changes, out.Stranded = Diff(base, next), Stranded(base, next, c.liveRegions())
	out.Policy = Redact(next)
	if req.DryRun {
		return out, nil
	}
	if len(out.Stranded) > 0 && !req.Force {
		return Outcome{}, &StrandError{Apps: out.Stranded}
	}
	cmd := command{kind: commandApply, base: base.Version, floor: floor, id: req.ID, who: req.Who, when: c.now()}
	body, err := changeBody(req, out, base, next, cmd.when)
	if err != nil {
		return Outcome{}, err
	}
	cmd.audit = []json.RawMessage{body}
	if next, err = c.seal(ctx, next, base); err != nil {
		return Outcome{}, err
	}
	if cmd.document, err = encodeDocument(next); err != nil {
		return Outcome{}, err
	}
	if err := c.readableBy(votersOf(r), cmd.document); err != nil {
		return Outcome{}, err
	}
	return out, commit(r, cmd)
}

// base is the policy that a change starts from, certificates sealed: the log's, unless this node knows a higher one from
// outside of it (see state.current); floor is that one's version.
func (c *Control) base() (base Policy, floor uint64, err error) {
	c.mu.Lock()
	copied := c.copy
	c.mu.Unlock()
	floor = copied.Version
	c.fsm.read(func(st *state) {
		if st.version >= floor {
			base = st.policy
			base.Version = st.version
		}
		err = st.stopped
	})
	if err == nil && base.Version < floor {
		base, err = decodeDocument(copied.Document, floor)
	}
	return base, floor, err
}

// doneBefore finds a change that was made already, by its id: the answer to it was lost.
func (c *Control) doneBefore(id string) (out Outcome, found bool) {
	if id == "" {
		return out, false
	}
	c.fsm.read(func(st *state) {
		for _, change := range st.history.changes {
			if change.ID == id {
				out, found = Outcome{Base: change.Version - 1, Version: change.Version}, true
			}
		}
		if !found {
			return
		}
		if _, document, _ := st.change(out.Version); document != nil {
			if p, err := decodeDocument(document, out.Version); err == nil {
				out.Policy = Redact(p)
			}
		}
	})
	return out, found
}

// merge puts kept secrets in. If base does not hold all of them, the history is asked: a rollback names secrets that
// were replaced.
func (c *Control) merge(next, base Policy) (Policy, error) {
	merged, err := Merge(next, base)
	var problems Problems
	if !errors.As(err, &problems) {
		return merged, err
	}
	var past history
	var newest []byte
	c.fsm.read(func(st *state) { past, newest = st.history.frozen(), st.document })
	whole := base
	whole.Apps = slices.Clone(base.Apps)
	wanted := fingerprintsOf(next)
	past.walk(newest, func(_ Change, doc []byte) bool {
		if !slices.ContainsFunc(wanted, func(hidden []byte) bool { return bytes.Contains(doc, hidden) }) {
			return true
		}
		if old, err := decodeDocument(doc, 0); err == nil {
			c.learn(old.vault)
			whole.Apps = withCertificates(whole.Apps, old.Apps)
			_, err = Merge(next, whole)
			return err != nil
		}
		return true
	})
	return Merge(next, whole)
}

// fingerprintsOf lists the beginnings of the sealed certificates that p names by their fingerprint.
func fingerprintsOf(p Policy) (out [][]byte) {
	for _, a := range p.Apps {
		for _, s := range a.Certificates {
			if isFingerprint(s) {
				out = append(out, []byte(sealedPrefix+strings.ToLower(strings.TrimPrefix(s, fingerprintPrefix))+":"))
			}
		}
	}
	return out
}

// withCertificates adds the certificates of the same apps in more, and apps that are gone.
func withCertificates(apps, more []App) []App {
	for _, m := range more {
		i := slices.IndexFunc(apps, func(a App) bool { return a.ID == m.ID })
		if i < 0 {
			apps = append(apps, App{ID: m.ID, Certificates: m.Certificates})
			continue
		}
		apps[i].Certificates = append(slices.Clip(apps[i].Certificates), m.Certificates...)
	}
	return apps
}

// liveRegions counts the nodes that are up in each region.
func (c *Control) liveRegions() map[string]int {
	out := make(map[string]int)
	for _, m := range c.cfg.Members() {
		if m.Alive && m.Region != "" {
			out[m.Region]++
		}
	}
	return out
}
