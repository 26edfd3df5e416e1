package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// maxMessage bounds a request and an answer: a document in base64 and what goes with it.
const maxMessage = 8 << 20

// maxHops is how far a request for the leader may travel: from a subscriber to a voter to the leader.
const maxHops = 2

// What a request may ask for.
const (
	opApply       = "apply"       // change the policy; forwarded to the leader
	opHistory     = "history"     // list changes; forwarded to the leader
	opVersion     = "version"     // one change with its redacted document; forwarded to the leader
	opGet         = "get"         // the redacted policy in force on the asked node
	opEnvelope    = "envelope"    // the signed copy, secrets included: only mesh peers reach Serve
	opHello       = "hello"       // see bootstrap.go
	opJoin        = "join"        // add a voter; forwarded to the leader
	opAudit       = "audit"       // append to the audit log; forwarded to the leader
	opNews        = "news"        // the asker enforces this version
	opPublicKey   = "public_key"  // the asked node's own
	opKeys        = "keys"        // the fence keys that the asker may read, sealed to its public key
	opEnforcement = "enforcement" // what the asked node enforces
	opCommitted   = "committed"   // the policy that the voters agreed on; forwarded to the leader
	opAuditRead   = "audit_read"  // a page of the audit log; forwarded to the leader
	opAuditMark   = "audit_mark"  // the newest mark that the asked node knows
)

// Patience of a write that meets no leader: longer than an election (see raft.go).
const (
	writePatience = 8 * time.Second
	readPatience  = 3 * time.Second
	writeRetry    = 250 * time.Millisecond
	writeMargin   = 1500 * time.Millisecond
	callTimeout   = 4 * time.Second
	leaderCheck   = 100 * time.Millisecond
	voterPatience = 500 * time.Millisecond // with one voter's silence, before the next is asked too
	detourTimeout = 2 * time.Second        // of a voter without a leader that asks the others
)

// request is one question, as JSON.
type request struct {
	Op        string   `json:"op"`
	Hops      int      `json:"hops,omitempty"` // already travelled
	Document  []byte   `json:"document,omitempty"`
	Encoded   bool     `json:"encoded,omitempty"` // the document is what EncodePolicy makes
	ID        string   `json:"id,omitempty"`      // of a change: the same one is made once
	Who       string   `json:"who,omitempty"`
	From      string   `json:"from,omitempty"`
	Action    string   `json:"action,omitempty"`
	Force     bool     `json:"force,omitempty"`
	DryRun    bool     `json:"dry_run,omitempty"`
	IfVersion *uint64  `json:"if_version,omitempty"`
	Have      uint64   `json:"have,omitempty"`
	Version   uint64   `json:"version,omitempty"`
	Voters    []string `json:"voters,omitempty"`
	Node      string   `json:"node,omitempty"`
	Fresh     bool     `json:"fresh,omitempty"`      // with join: holds no raft state
	After     uint64   `json:"after,omitempty"`      // with audit_read
	PublicKey []byte   `json:"public_key,omitempty"` // the asker's

	Audit    []json.RawMessage `json:"audit,omitempty"`
	Envelope *envelope         `json:"envelope,omitempty"` // with news; without its document where there are steps
	Steps    [][]byte          `json:"steps,omitempty"`    // with news: deltas from the document of version Have
	Deltas   bool              `json:"deltas,omitempty"`   // with envelope: steps from version Have are welcome

	policy *Policy // of Document, where the request was made on this node
}

// answer is one answer, as JSON. Code is empty on success.
type answer struct {
	Code     string          `json:"code,omitempty"`
	Error    string          `json:"error,omitempty"`
	Expected uint64          `json:"expected,omitempty"`
	Current  uint64          `json:"current,omitempty"`
	Problems Problems        `json:"problems,omitempty"`
	Stranded []string        `json:"stranded,omitempty"`
	Outcome  *Outcome        `json:"outcome,omitempty"`
	Version  uint64          `json:"version,omitempty"`
	Policy   json.RawMessage `json:"policy,omitempty"`
	Envelope *envelope       `json:"envelope,omitempty"`
	History  []Change        `json:"history,omitempty"`
	Hello    *hello          `json:"hello,omitempty"`
	Audit    []AuditEntry    `json:"audit,omitempty"`
	Mark     *AuditMark      `json:"mark,omitempty"`
	Steps    [][]byte        `json:"steps,omitempty"` // see request

	Enforcement *Enforcement `json:"enforcement,omitempty"`

	PublicKey []byte   `json:"public_key,omitempty"`
	Fields    []string `json:"fields,omitempty"` // with public_key; see mixed.go
	Keys      []byte   `json:"keys,omitempty"`   // see handOut
}

// Codes carry the errors that callers tell apart.
const (
	codeNoLeader  = "no_leader"
	codeUnknown   = "unknown_outcome"
	codeConflict  = "conflict"
	codeInvalid   = "invalid"
	codeStranded  = "stranded"
	codeNoVersion = "no_version"
	codeOther     = "error"
)

// answerOf turns an error into an answer.
func answerOf(err error) answer {
	a := answer{Code: codeOther, Error: err.Error()}
	var conflict *ConflictError
	var problems Problems
	var stranded *StrandError
	switch {
	case errors.As(err, &stranded):
		a.Code, a.Stranded = codeStranded, stranded.Apps[:min(len(stranded.Apps), maxProblemsShown)]
	case errors.As(err, &conflict):
		a.Code, a.Expected, a.Current = codeConflict, conflict.Expected, conflict.Current
	case errors.As(err, &problems):
		a.Code, a.Problems = codeInvalid, problems[:min(len(problems), maxProblemsShown)]
	case errors.Is(err, ErrNoVersion):
		a.Code = codeNoVersion
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
	case codeNoVersion:
		return ErrNoVersion
	case codeNoLeader:
		return ErrNoLeader
	case codeUnknown:
		return ErrUnknownOutcome
	case codeConflict:
		return &ConflictError{Expected: a.Expected, Current: a.Current}
	case codeInvalid:
		return a.Problems
	case codeStranded:
		return &StrandError{Apps: a.Stranded}
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
		a, err := c.serveEnvelope(req.Have, req.Deltas)
		if err == nil && a.Envelope != nil {
			a.Keys, err = c.handOut(from, req.PublicKey)
		}
		return a, err
	case opNews:
		c.hear(from, req)
		return answer{}, nil
	case opKeys:
		box, err := c.handOut(from, req.PublicKey)
		return answer{Keys: box}, err
	case opPublicKey:
		return answer{PublicKey: c.keys[0].public, Fields: c.fields}, nil
	case opHello:
		h, err := c.serveHello(req.Voters)
		return answer{Hello: &h}, err
	case opAuditMark:
		m := c.auditMark()
		return answer{Mark: &m}, nil
	case opEnforcement:
		e := c.Enforcement()
		return answer{Enforcement: &e}, nil
	case opApply, opHistory, opVersion, opJoin, opAudit, opAuditRead, opCommitted:
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

// serveEnvelope hands out the copy if it is newer than what the asker has, and signed; where the asker takes deltas and they
// are worth it, as the way from its version.
func (c *Control) serveEnvelope(have uint64, deltas bool) (answer, error) {
	n := c.newsOf()
	a := answer{Version: n.copy.Version}
	if n.copy.Version <= have || len(n.copy.Sig) == 0 {
		return a, nil
	}
	a.Envelope = &n.copy
	if steps := n.chain.since(have); deltas && worthwhile(steps, n.copy.Document) {
		n.copy.Document, a.Steps = nil, steps
	}
	c.countServed(a.Envelope, a.Steps)
	return a, nil
}

// lead answers on the leader.
func (c *Control) lead(ctx context.Context, req request) (answer, error) {
	switch req.Op {
	case opApply:
		out, err := c.propose(ctx, req)
		return answer{Version: out.Version, Outcome: &out}, err
	case opJoin:
		return answer{}, c.admit(ctx, req.Node, req.Fresh)
	case opVersion:
		return c.changeAt(req.Version)
	case opCommitted:
		return c.leadCommitted(ctx)
	case opAudit:
		return answer{}, c.leadAudit(ctx, req.Audit)
	case opAuditRead:
		return c.auditAfter(req.After), nil
	}
	return c.localHistory(), nil
}

// localHistory lists changes without their documents.
func (c *Control) localHistory() (a answer) {
	c.fsm.read(func(st *state) { a.History = slices.Clone(st.history.changes) })
	return a
}

func (c *Control) changeAt(version uint64) (a answer, err error) {
	var change Change
	var document []byte
	var found bool
	c.fsm.read(func(st *state) { change, document, found = st.change(version) })
	if !found {
		return a, fmt.Errorf("%w: %d", ErrNoVersion, version)
	}
	if document != nil {
		p, err := decodeDocument(document, version)
		if err != nil {
			return a, err
		}
		if change.Document, err = json.Marshal(Redact(p)); err != nil {
			return a, err
		}
	}
	a.History = []Change{change}
	return a, nil
}

// onceToLeader answers here if this node leads, and otherwise passes req on: a voter to the leader, any other node, and a voter
// that hears no leader, to voters in random order until one answers.
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
		if string(leader) == c.cfg.Node || leader == "" && req.Hops > 0 {
			return answer{}, ErrNoLeader // whoever asked asks another voter
		}
		var stop func()
		ctx, stop = whileLeads(ctx, r, leader) // with none known: until there is one
		defer stop()
		if leader != "" {
			return c.forward(ctx, string(leader), req)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, detourTimeout)
		defer cancel()
	}
	return c.anyVoter(ctx, req)
}

// anyVoter asks the voters in random order, the next one when one has not answered for a moment: it may be dead, or hear no
// leader. A change carries its id, so that two that reach the leader make it once.
func (c *Control) anyVoter(ctx context.Context, req request) (answer, error) {
	voters := c.aliveVoters()
	rand.Shuffle(len(voters), func(i, j int) { voters[i], voters[j] = voters[j], voters[i] })
	type said struct {
		answer answer
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	heard := make(chan said, len(voters)) // nobody blocks
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	err := ErrNoLeader
	next := time.NewTimer(0)
	defer next.Stop()
	for asked, open := 0, 0; asked < len(voters) || open > 0; {
		select {
		case <-next.C:
			if asked == len(voters) {
				continue
			}
			node := voters[asked]
			asked, open = asked+1, open+1
			asking.Go(func() {
				a, err := c.forward(ctx, node, req)
				heard <- said{a, err}
			})
			if next.Reset(voterPatience); req.Op == opAudit { // it has no id, and would be written twice
				next.Reset(callTimeout)
			}
		case s := <-heard:
			switch open--; {
			case errors.Is(s.err, ErrUnknownOutcome):
				err = s.err // another voter may know a leader that answers; see toLeader
			case !errors.Is(s.err, ErrNoLeader):
				return s.answer, s.err
			}
			next.Reset(0)
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

// forward passes req on. When no answer comes, a change may have been made unseen.
func (c *Control) forward(ctx context.Context, node string, req request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := c.call(ctx, node, req)
	var silent *silentError
	if errors.As(err, &silent) {
		if req.Op == opApply {
			return a, fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
		}
		return a, fmt.Errorf("%w (%w)", ErrNoLeader, err)
	}
	return a, err
}

// toLeader repeats onceToLeader while there is no leader or no answer, for writePatience: a write in the middle of an
// election should succeed a little later, not fail. A change carries its id, so that asking again is safe; when one try
// ended without an answer and no later one brought any, the outcome is unknown. The last try begins early enough before
// the caller's deadline to be answered, so that a mesh without a leader says so instead of leaving the outcome open.
func (c *Control) toLeader(ctx context.Context, req request) (answer, error) {
	last := time.Now().Add(writePatience)
	if deadline, has := ctx.Deadline(); has && deadline.Add(-writeMargin).Before(last) {
		last = deadline.Add(-writeMargin)
	}
	var unknown error
	for {
		a, err := c.onceToLeader(ctx, req)
		if errors.Is(err, ErrUnknownOutcome) {
			unknown = err
		} else if !errors.Is(err, ErrNoLeader) {
			return a, err
		}
		if !time.Now().Before(last) || !pause(ctx, writeRetry) {
			return a, cmp.Or(unknown, err)
		}
	}
}

// asked is one node's answer to a question that all were asked.
type asked struct {
	node   string
	answer answer
	err    error
}

// askAll asks every other live node at once, askParallel at a time, and returns their answers by name.
func (c *Control) askAll(ctx context.Context, req request) []asked {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out []asked
	for _, m := range c.cfg.Members() {
		if m.Alive && m.Node != c.cfg.Node {
			out = append(out, asked{node: m.Node})
		}
	}
	slices.SortFunc(out, func(a, b asked) int { return strings.Compare(a.node, b.node) })
	var g errgroup.Group
	g.SetLimit(askParallel)
	for i := range out {
		g.Go(func() error {
			out[i].answer, out[i].err = c.call(ctx, out[i].node, req)
			return nil
		})
	}
	_ = g.Wait() // errors are in the answers
	return out
}

// askParallel bounds the calls of askAll.
const askParallel = 32

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

// History lists the latest changes, oldest first, at most 1,000, without their documents: the leader's, or without a
// leader this voter's own.
func (c *Control) History(ctx context.Context) ([]Change, error) {
	a, err := c.readFromLeader(ctx, request{Op: opHistory})
	if err != nil && c.node() != nil {
		return c.localHistory().History, nil
	}
	return a.History, err
}

// Version returns one change of the history with its redacted document, nil if that is no longer kept.
func (c *Control) Version(ctx context.Context, version uint64) (Change, error) {
	a, err := c.onceToLeader(ctx, request{Op: opVersion, Version: version})
	if errors.Is(err, ErrNoVersion) {
		err = fmt.Errorf("%w: %d (tern policy history lists them)", ErrNoVersion, version)
	}
	if err != nil {
		return Change{}, err
	}
	if len(a.History) != 1 {
		return Change{}, fmt.Errorf("the leader's answer does not hold version %d", version)
	}
	return a.History[0], nil
}

// readFromLeader asks the leader, and waits a moment for one: a voter that has just started knows neither the leader nor
// what of its own log counts.
func (c *Control) readFromLeader(ctx context.Context, req request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience+writeMargin)
	defer cancel()
	return c.toLeader(ctx, req)
}

// ErrNoVersion says that the history does not hold a version, or no longer its document.
var ErrNoVersion = errors.New("the history holds no such version")

// PolicyAt is a version of the history, secrets as fingerprints.
func (c *Control) PolicyAt(ctx context.Context, version uint64) (Policy, error) {
	change, err := c.Version(ctx, version)
	if err != nil {
		return Policy{}, err
	}
	if change.Document == nil {
		return Policy{}, fmt.Errorf("%w any more with its document: %d", ErrNoVersion, version)
	}
	return decodeDocument(change.Document, version)
}

// Committed is the policy that the voters agreed on last, secrets as fingerprints, whatever this node enforces: a read
// that sees every change that was acknowledged before it began.
func (c *Control) Committed(ctx context.Context) (Policy, error) {
	a, err := c.toLeader(ctx, request{Op: opCommitted})
	if err != nil {
		return Policy{}, err
	}
	return decodeDocument(a.Policy, a.Version)
}

// leadCommitted answers on the leader, after an entry of its own went through the log: then it still leads, and has
// applied all that was acknowledged before. (Raft's cheaper way, VerifyLeader, may never answer when the leader steps
// down meanwhile: v1.8.0 forgets the question.)
func (c *Control) leadCommitted(ctx context.Context) (answer, error) {
	r := c.node()
	if r == nil || r.State() != raft.Leader {
		return answer{}, ErrNoLeader
	}
	if err := c.takeTurn(ctx); err != nil {
		return answer{}, err
	}
	defer c.endTurn()
	if err := r.Barrier(enqueueTimeout).Error(); err != nil {
		return answer{}, fmt.Errorf("%w (%w)", ErrNoLeader, err)
	}
	base, _, err := c.base()
	if err != nil {
		return answer{}, err
	}
	doc, err := json.Marshal(Redact(base))
	return answer{Version: base.Version, Policy: doc}, err
}
