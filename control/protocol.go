package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// maxMessage bounds a request and an answer: a document in base64 and what goes with it.
const maxMessage = 8 << 20

// maxHops is how far a request for the leader may travel: from a subscriber to a voter to the leader.
const maxHops = 2

// What a request may ask for.
const (
	opApply    = "apply"    // change the policy; forwarded to the leader
	opHistory  = "history"  // list changes; forwarded to the leader
	opVersion  = "version"  // one change with its redacted document; forwarded to the leader
	opGet      = "get"      // the redacted policy in force on the asked node
	opEnvelope = "envelope" // the signed copy, secrets included: only mesh peers reach Serve
	opHello    = "hello"    // see bootstrap.go
	opJoin     = "join"     // add a voter; forwarded to the leader
)

// Patience of a write that meets no leader: longer than an election (see raft.go).
const (
	writePatience = 8 * time.Second
	writeRetry    = 250 * time.Millisecond
	callTimeout   = 4 * time.Second
	leaderCheck   = 100 * time.Millisecond
)

// request is one question, as JSON.
type request struct {
	Op        string   `json:"op"`
	Hops      int      `json:"hops,omitempty"` // already travelled
	Document  []byte   `json:"document,omitempty"`
	Who       string   `json:"who,omitempty"`
	IfVersion *uint64  `json:"if_version,omitempty"`
	Have      uint64   `json:"have,omitempty"`
	Version   uint64   `json:"version,omitempty"`
	Voters    []string `json:"voters,omitempty"`
	Node      string   `json:"node,omitempty"`
	Fresh     bool     `json:"fresh,omitempty"` // with join: holds no raft state
}

// answer is one answer, as JSON. Code is empty on success.
type answer struct {
	Code     string          `json:"code,omitempty"`
	Error    string          `json:"error,omitempty"`
	Expected uint64          `json:"expected,omitempty"`
	Current  uint64          `json:"current,omitempty"`
	Problems Problems        `json:"problems,omitempty"`
	Version  uint64          `json:"version,omitempty"`
	Policy   json.RawMessage `json:"policy,omitempty"`
	Envelope *envelope       `json:"envelope,omitempty"`
	History  []Change        `json:"history,omitempty"`
	Hello    *hello          `json:"hello,omitempty"`
}

// Codes carry the errors that callers tell apart.
const (
	codeNoLeader = "no_leader"
	codeUnknown  = "unknown_outcome"
	codeConflict = "conflict"
	codeInvalid  = "invalid"
	codeOther    = "error"
)

// answerOf turns an error into an answer.
func answerOf(err error) answer {
	a := answer{Code: codeOther, Error: err.Error()}
	var conflict *ConflictError
	var problems Problems
	switch {
	case errors.As(err, &conflict):
		a.Code, a.Expected, a.Current = codeConflict, conflict.Expected, conflict.Current
	case errors.As(err, &problems):
		a.Code, a.Problems = codeInvalid, problems[:min(len(problems), maxProblemsShown)]
	case errors.Is(err, ErrNoLeader):
		a.Code = codeNoLeader
	case errors.Is(err, ErrUnknownOutcome):
		a.Code = codeUnknown
	}
	return a
}

// err is the inverse of answerOf.
func (a answer) err() error {
	switch a.Code {
	case "":
		return nil
	case codeNoLeader:
		return ErrNoLeader
	case codeUnknown:
		return ErrUnknownOutcome
	case codeConflict:
		return &ConflictError{Expected: a.Expected, Current: a.Current}
	case codeInvalid:
		return a.Problems
	}
	return errors.New(a.Error)
}

// Serve answers a peer's Call. from is the peer's authenticated name. It blocks as long as the request takes, a
// write until the voters agreed; requests above 8 MiB are refused. Safe for concurrent use.
func (c *Control) Serve(ctx context.Context, from string, req []byte) []byte {
	c.counts.requests.Add(1)
	a, err := c.serve(ctx, from, req)
	if err != nil {
		a = answerOf(err)
	}
	b, err := json.Marshal(a)
	if err == nil && len(b) > maxMessage {
		err = fmt.Errorf("the answer takes %d bytes, at most %d are allowed", len(b), maxMessage)
	}
	if err != nil {
		b, _ = json.Marshal(answerOf(err)) // two strings: cannot fail
	}
	return b
}

func (c *Control) serve(ctx context.Context, from string, b []byte) (answer, error) {
	if len(b) > maxMessage {
		return answer{}, fmt.Errorf("the request takes %d bytes, at most %d are allowed", len(b), maxMessage)
	}
	var req request
	if err := json.Unmarshal(b, &req); err != nil {
		return answer{}, errors.New("the request is not understood")
	}
	switch req.Op {
	case opGet:
		return c.serveGet()
	case opEnvelope:
		return c.serveEnvelope(req.Have)
	case opHello:
		h, err := c.serveHello(req.Voters)
		return answer{Hello: &h}, err
	case opApply, opHistory, opVersion, opJoin:
		if req.Op == opJoin && req.Node != from && !c.isVoter(from) {
			return answer{}, fmt.Errorf("%s may not join in the name of %s", from, req.Node)
		}
		if req.Hops++; req.Hops > maxHops {
			return answer{}, ErrNoLeader
		}
		if req.Op == opApply {
			// The name is the asker's word; which node asked is proven.
			req.Who = truncated(req.Who, maxWho-len(via)-len(from)) + via + from
		}
		return c.onceToLeader(ctx, req)
	}
	return answer{}, fmt.Errorf("unknown operation %.32q: %w", req.Op, errFromFuture)
}

// via stands in the history between who asked for a change and each node that passed it on.
const via = ", via "

// truncated cuts s to at most n bytes, on a character's border.
func truncated(s string, n int) string {
	if len(s) <= max(n, 0) {
		return s
	}
	return strings.ToValidUTF8(s[:max(n, 0)], "")
}

func (c *Control) serveGet() (answer, error) {
	p := c.Policy()
	doc, err := json.Marshal(Redact(p))
	return answer{Version: p.Version, Policy: doc}, err
}

// serveEnvelope hands out the copy if it is newer than what the asker has, and signed.
func (c *Control) serveEnvelope(have uint64) (answer, error) {
	c.mu.Lock()
	e := c.copy
	c.mu.Unlock()
	if e.Version <= have || len(e.Sig) == 0 {
		return answer{Version: e.Version}, nil
	}
	return answer{Version: e.Version, Envelope: &e}, nil
}

// lead answers on the leader.
func (c *Control) lead(ctx context.Context, req request) (answer, error) {
	switch req.Op {
	case opApply:
		e, err := c.propose(ctx, req.Document, req.Who, req.IfVersion)
		return answer{Version: e.Version, Envelope: &e}, err
	case opJoin:
		return answer{}, c.admit(ctx, req.Node, req.Fresh)
	case opVersion:
		return c.changeAt(req.Version)
	}
	return c.localHistory(), nil
}

// localHistory lists changes without their documents.
func (c *Control) localHistory() (a answer) {
	c.fsm.read(func(st *state) { a.History = slices.Clone(st.history) })
	for i := range a.History {
		a.History[i].Document = nil
	}
	return a
}

func (c *Control) changeAt(version uint64) (a answer, err error) {
	err = fmt.Errorf("version %d is not in the history", version)
	c.fsm.read(func(st *state) {
		for _, change := range st.history {
			if change.Version == version {
				a.History, err = []Change{change}, nil
			}
		}
	})
	return a, err
}

// onceToLeader answers here if this node leads, and otherwise passes req on: a voter to the leader, any other node to
// voters in random order until one answers.
func (c *Control) onceToLeader(ctx context.Context, req request) (answer, error) {
	r := c.node()
	if r != nil && r.State() == raft.Leader {
		return c.lead(ctx, req)
	}
	if req.Hops >= maxHops {
		return answer{}, ErrNoLeader
	}
	if r != nil {
		_, leader := r.LeaderWithID()
		if leader == "" || string(leader) == c.cfg.Node {
			return answer{}, ErrNoLeader
		}
		ctx, stop := whileLeads(ctx, r, leader)
		defer stop()
		return c.forward(ctx, string(leader), req)
	}
	voters := c.aliveVoters()
	rand.Shuffle(len(voters), func(i, j int) { voters[i], voters[j] = voters[j], voters[i] })
	err := ErrNoLeader
	for _, node := range voters {
		var a answer
		if a, err = c.forward(ctx, node, req); !errors.Is(err, ErrNoLeader) {
			return a, err
		}
	}
	return answer{}, err
}

// whileLeads ends the context when this voter no longer takes leader for the leader: a dead leader never answers,
// and the call would wait for it while there is a new one. The caller must call stop.
func whileLeads(ctx context.Context, r *raft.Raft, leader raft.ServerID) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, leaderCheck) {
			if _, now := r.LeaderWithID(); now != leader {
				cancel()
			}
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// forward passes req on. When no answer comes, only a write that names the version it replaces may have been made
// unseen with harm: everything else can be asked again.
func (c *Control) forward(ctx context.Context, node string, req request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := c.call(ctx, node, req)
	var silent *silentError
	if errors.As(err, &silent) {
		if req.Op == opApply && req.IfVersion != nil {
			return a, fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
		}
		return a, fmt.Errorf("%w (%w)", ErrNoLeader, err)
	}
	return a, err
}

// toLeader repeats onceToLeader while there is no leader, for writePatience: a write in the middle of an election
// should succeed a little later, not fail.
func (c *Control) toLeader(ctx context.Context, req request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, writePatience)
	defer cancel()
	for {
		a, err := c.onceToLeader(ctx, req)
		if !errors.Is(err, ErrNoLeader) || !pause(ctx, writeRetry) {
			return a, err
		}
	}
}

// silentError is a call that brought no answer.
type silentError struct {
	node string
	err  error
}

func (e *silentError) Error() string { return fmt.Sprintf("no answer from %s: %v", e.node, e.err) }
func (e *silentError) Unwrap() error { return e.err }

// call sends one request to a peer. The error is a silentError without an answer, or what the peer said.
func (c *Control) call(ctx context.Context, node string, req request) (answer, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return answer{}, err
	}
	if len(b) > maxMessage {
		return answer{}, fmt.Errorf("the request takes %d bytes, at most %d are allowed", len(b), maxMessage)
	}
	b, err = c.cfg.Call(ctx, node, b)
	if err != nil {
		return answer{}, &silentError{node: node, err: err}
	}
	a, err := decodeAnswer(b)
	if err != nil {
		return answer{}, &silentError{node: node, err: err}
	}
	return a, a.err()
}

func decodeAnswer(b []byte) (answer, error) {
	if len(b) > maxMessage {
		return answer{}, fmt.Errorf("answer of %d bytes, at most %d are allowed", len(b), maxMessage)
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return answer{}, fmt.Errorf("answer is not understood: %w", err)
	}
	return a, nil
}

// Apply changes the policy of the whole mesh, through the leader and from any node. doc is YAML or JSON (see Parse);
// fingerprints in it keep the secrets that they name. With ifVersion, it is made only if that is the version in
// force. It returns once a majority of voters has it on disk; nodes enforce it a little later. Errors: Problems,
// *ConflictError, ErrNoLeader, ErrUnknownOutcome, or one of the transport. who is recorded (at most 256 bytes).
func (c *Control) Apply(ctx context.Context, doc []byte, who string, ifVersion *uint64) (Policy, error) {
	if len(who) > maxWho {
		return Policy{}, fmt.Errorf("the author's name takes %d bytes, at most %d are allowed", len(who), maxWho)
	}
	if _, err := Parse(doc); err != nil { // say so at once, without a leader
		return Policy{}, err
	}
	a, err := c.toLeader(ctx, request{Op: opApply, Document: doc, Who: who, IfVersion: ifVersion})
	if err != nil {
		return Policy{}, err
	}
	if a.Envelope == nil {
		return Policy{}, errors.New("the leader's answer holds no policy")
	}
	return decodeDocument(a.Envelope.Document, a.Envelope.Version)
}

// History lists the latest changes, oldest first, at most 1,000, without their documents: the leader's, or without a
// leader this voter's own.
func (c *Control) History(ctx context.Context) ([]Change, error) {
	a, err := c.onceToLeader(ctx, request{Op: opHistory})
	if err != nil && c.node() != nil {
		return c.localHistory().History, nil
	}
	return a.History, err
}

// Version returns one change of the history with its redacted document, nil if that is no longer kept.
func (c *Control) Version(ctx context.Context, version uint64) (Change, error) {
	a, err := c.onceToLeader(ctx, request{Op: opVersion, Version: version})
	if err != nil {
		return Change{}, err
	}
	if len(a.History) != 1 {
		return Change{}, fmt.Errorf("the leader's answer does not hold version %d", version)
	}
	return a.History[0], nil
}
