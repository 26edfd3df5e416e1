package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// maxVoters bounds Config.Expect: more voters make every write slower and no safer.
const maxVoters = 9

// Member is what control needs to know about a node of the mesh. Voter must be proven by the node's certificate.
type Member struct {
	Node, Region  string
	Voter, Alive  bool
	PolicyVersion uint64 // what the node says it enforces
}

// Config is what a Control runs on. All functions may be called from several goroutines at once.
type Config struct {
	Mesh   string // recorded in the data directory; empty is allowed and means "not checked against another mesh"
	Node   string // this node's name
	Region string // and region; certificates of apps whose fence holds it are opened here
	Voter  bool   // takes part in raft
	Expect int    // voters that must be seen before the very first start, 1 to 9; unused without Voter
	Dir    string // data directory, created with mode 0700
	// KeyFile holds the node's own key, to which certificates are sealed; made if absent. Default: node.key in Dir. Elsewhere,
	// a copy of Dir alone opens nothing.
	KeyFile string
	Logger  *slog.Logger // nil: discard

	// Stream carries raft between voters; addresses are node names. Required with Voter. Whoever provides it accepts
	// streams from voters only: raft itself trusts its peers.
	Stream raft.StreamLayer
	// Members lists the mesh as this node sees it; whether it includes this node does not matter.
	Members func() []Member
	// Call sends one request to a peer's Serve and returns its answer. The peer's name is authenticated on both sides.
	Call func(ctx context.Context, node string, request []byte) ([]byte, error)
	// Sign and Verify are this node's identity. Required: Verify; Sign with Voter.
	Sign   func(msg []byte) (certDER, sig []byte, err error)
	Verify func(msg, certDER, sig []byte) (node string, voter bool, err error)
	// Lasting says whether what was signed with a certificate will count for a good while yet. Nil: it always does.
	Lasting func(certDER []byte) bool
	// Enforce is told of every policy that comes into force here, in rising order of versions, from one goroutine at
	// a time. A version that was overtaken before its turn is left out; one whose certificates could be opened only later is
	// told again. It must not block for long and must not change the policy; nil is allowed.
	Enforce func(Policy)
	// Enforced says which version this node enforces wholly and what keeps it from a newer one. Default: the version that
	// Enforce was told of last, no trouble.
	Enforced func() Enforcement
	// Skew is how far this node's wall clock, which the audit log shows, is ahead of time.Now; nil: it is not. For simulations.
	Skew func() time.Duration
}

func (c *Config) now() time.Time {
	if c.Skew == nil {
		return time.Now()
	}
	return time.Now().Add(c.Skew())
}

// Control holds this node's policy. See the package comment for who owns what.
type Control struct {
	cfg    Config
	dir    string // Config.Dir
	fsm    *fsm
	wake   chan struct{} // capacity 1: fetch now
	news   chan struct{} // capacity 1: the log applied something
	spread chan struct{} // capacity 1: a new version is in force, tell others

	running atomic.Bool
	stage   atomic.Int32 // stageOpening ...; see bootstrap.go
	counts  counters

	turn        chan struct{} // capacity 1, a lock that can be waited for with a context: one proposal or membership change at a time
	barrierTerm uint64        // guarded by turn: the term in which this leader has caught up

	aheadSince time.Time // owned by fetchLoop: since when gossip has shown a version higher than aheadOf
	aheadOf    uint64

	installMu sync.Mutex // held while a copy is stored and enforced, so that both happen in order

	keys []nodeKey // read-only after New; the first is current

	mu     sync.Mutex
	chain  deltaChain // guarded by mu: the way to copy from older versions
	copy   envelope   // guarded by mu: what this node enforces, signed; zero before the first
	policy Policy     // guarded by mu: the same, decoded, certificates in the clear as far as this node may read them
	since  time.Time  // guarded by mu: when it came into force here, or was taken from disk

	ring       map[string]fenceKey  // guarded by mu: by id
	vault      []vaultKey           // guarded by mu: of the copy
	sealedApps int                  // guarded by mu: apps of this region whose certificates could not be opened
	learned    map[string]time.Time // guarded by mu: when a learner said last that it has the log, on the leader
	told       map[string]uint64    // guarded by mu: peers that said they enforce a higher version
	diskErr    string               // guarded by mu: why the log cannot be written
	unread     uint64               // guarded by mu: the newest version that a voter signed and this program cannot read
	unreadWhy  string               // guarded by mu
	unsaved    string               // guarded by mu: why the policy in force is not on disk
	rival      string               // guarded by mu: another raft group, in words
	voterKeys  map[string]voterKey  // guarded by mu: public keys, on voters

	raft    *raft.Raft              // guarded by mu: nil unless a running voter
	promise []string                // guarded by mu: see bootstrap.go
	lastErr string                  // guarded by mu
	records map[recordKey]AuditBody // guarded by mu: what waits for the audit log
	untold  uint64                  // guarded by mu: denials since the last record that had none
	entries *rate.Limiter           // of records
	now     func() time.Time        // Config.now; tests skew it
	fields  []string                // what this program knows of documents; tests take some away
	wrap    func(*stores)           // tests only: put faults around the stores; nil otherwise
}

// counters are the numbers of Status.
type counters struct {
	fetched, refused, failed, requests, unrecorded, served, servedBytes, deltas atomic.Uint64
}

// New validates cfg, prepares the data directory and loads the last policy from it. A damaged or foreign directory
// is an error that says what to do (see CorruptError). It starts nothing.
func New(cfg Config) (*Control, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Enforce == nil {
		cfg.Enforce = func(Policy) {}
	}
	c := &Control{cfg: cfg, dir: cfg.Dir, wake: make(chan struct{}, 1), news: make(chan struct{}, 1), spread: make(chan struct{}, 1), told: make(map[string]uint64), turn: make(chan struct{}, 1), now: cfg.now, fields: fieldsKnown(), records: make(map[recordKey]AuditBody), entries: rate.NewLimiter(rate.Every(recordEvery), maxRecords), voterKeys: make(map[string]voterKey), learned: make(map[string]time.Time)}
	c.fsm = &fsm{st: &state{}, applied: c.onApplied}
	if cfg.Enforced == nil {
		c.cfg.Enforced = func() Enforcement { return Enforcement{Version: c.Policy().Version} }
	}
	if err := prepareDir(cfg.Dir, owner{Mesh: cfg.Mesh, Node: cfg.Node}); err != nil {
		return nil, err
	}
	if err := c.loadKeys(); err != nil {
		return nil, err
	}
	return c, c.load()
}

func (cfg Config) validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(cfg.Node != "", "node name is empty")
	need(cfg.Dir != "", "data directory is empty")
	need(cfg.Members != nil && cfg.Call != nil && cfg.Verify != nil, "members, call and verify are needed")
	if cfg.Voter {
		need(cfg.Stream != nil && cfg.Sign != nil, "a voter needs stream and sign")
		need(cfg.Expect >= 1 && cfg.Expect <= maxVoters, fmt.Sprintf("a voter expects 1 to %d voters, not %d", maxVoters, cfg.Expect))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// Run enforces the policy from disk, then takes part in the mesh until ctx ends; a leader hands its office over
// first, so the streams and calls must outlive Run. It returns nil after ctx ended, and an error if the stored data is
// damaged or raft cannot start. Call it once.
func (c *Control) Run(ctx context.Context) error {
	if c.running.Swap(true) {
		return errors.New("control: Run may be called once")
	}
	lock, err := lockDir(c.dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if p := c.Policy(); p.Version > 0 {
		c.cfg.Enforce(p)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.fetchLoop(ctx) })
	if c.cfg.Lasting != nil {
		g.Go(func() error { return c.freshenLoop(ctx) })
	}
	g.Go(func() error { return c.spreadLoop(ctx) })
	g.Go(func() error { return c.recordLoop(ctx) })
	g.Go(func() error { return c.keysLoop(ctx) })
	if c.cfg.Voter {
		g.Go(func() error { return c.publishLoop(ctx) })
		g.Go(func() error { return c.runVoter(ctx) })
	}
	return g.Wait()
}

// Wake tells Control that Members changed, so that a newer policy is fetched at once. Never blocks.
func (c *Control) Wake() { nudge(c.wake) }

// nudge fills a channel of capacity 1.
func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Policy is the policy in force on this node, secrets included; version 0 before the first.
func (c *Control) Policy() Policy {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy
}

// Shown is the policy in force here as people read and edit it: every certificate as its fingerprint, also those of apps whose
// fence leaves this node out, which Policy does not have. It reads the stored copy: milliseconds for a large policy. Safe for
// concurrent use.
func (c *Control) Shown() (Policy, error) {
	c.mu.Lock()
	e := c.copy
	c.mu.Unlock()
	if e.Version == 0 {
		return Policy{}, nil
	}
	p, err := decodeDocument(e.Document, e.Version)
	return Redact(p), err
}

// RoleNoDisk is the role of a voter that is out of raft because its disk takes no writes.
const RoleNoDisk = "no disk"

// Status is a snapshot for people and metrics.
type Status struct {
	Voter         bool     `json:"voter"`
	Role          string   `json:"role"`   // leader, follower, candidate; starting (a voter not yet in raft); RoleNoDisk; subscriber
	Leader        string   `json:"leader"` // empty if unknown here
	Term          uint64   `json:"term"`
	Commit        uint64   `json:"commit"`         // log index
	Applied       uint64   `json:"applied"`        // log index
	PolicyVersion uint64   `json:"policy_version"` // in force here
	PolicySeconds float64  `json:"policy_seconds"` // for how long, or since the start
	Voters        []string `json:"voters"`         // as raft has them; on a subscriber, as Members has them
	LastError     string   `json:"last_error"`     // the latest thing that went wrong, if it still matters
	Fetched       uint64   `json:"fetched"`        // copies taken from peers
	Refused       uint64   `json:"refused"`        // copies that failed verification
	FetchErrors   uint64   `json:"fetch_errors"`   // peers that did not answer
	Requests      uint64   `json:"requests"`       // served
	Served        uint64   `json:"served"`         // copies handed to peers
	ServedBytes   uint64   `json:"served_bytes"`   // of their documents, or of the deltas that went instead
	Deltas        uint64   `json:"deltas"`         // copies taken as deltas
	Unrecorded    uint64   `json:"unrecorded"`     // denied actions that did not fit into the audit log's queue

	Audit AuditMark `json:"audit"` // the newest line of the audit log that this node knows
}

// Status never blocks on the network.
func (c *Control) Status() Status {
	r := c.node()
	c.mu.Lock()
	s := Status{Voter: c.cfg.Voter, Role: "subscriber", PolicyVersion: c.policy.Version, LastError: c.lastErr}
	if s.PolicyVersion > 0 {
		s.PolicySeconds = time.Since(c.since).Seconds()
	}
	c.mu.Unlock()
	c.fsm.read(func(st *state) {
		if st.stopped != nil {
			s.LastError = st.stopped.Error()
		}
	})
	c.mu.Lock()
	unwritable := c.diskErr != ""
	s.LastError = cmp.Or(c.diskErr, c.unsaved, c.rival, s.LastError)
	c.mu.Unlock()
	s.Fetched, s.Refused = c.counts.fetched.Load(), c.counts.refused.Load()
	s.FetchErrors, s.Requests = c.counts.failed.Load(), c.counts.requests.Load()
	s.Served, s.ServedBytes, s.Deltas = c.counts.served.Load(), c.counts.servedBytes.Load(), c.counts.deltas.Load()
	s.Unrecorded, s.Audit = c.counts.unrecorded.Load(), c.auditMark()
	switch {
	case r != nil:
		_, leader := r.LeaderWithID()
		s.Leader, s.Role = string(leader), roleName(r.State())
		s.Term, s.Commit, s.Applied = r.CurrentTerm(), r.CommitIndex(), r.AppliedIndex()
		s.Voters = votersOf(r)
	case c.cfg.Voter:
		if s.Role = "starting"; unwritable {
			s.Role = RoleNoDisk
		}
		fallthrough
	default:
		for _, m := range c.cfg.Members() {
			if m.Voter {
				s.Voters = append(s.Voters, m.Node)
			}
		}
	}
	slices.Sort(s.Voters)
	return s
}

func roleName(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Follower:
		return "follower"
	}
	return "starting"
}

func (c *Control) node() *raft.Raft {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raft
}

// fail records an error for Status and logs it when it is a new one; "" clears it.
func (c *Control) fail(text string) {
	c.mu.Lock()
	changed := c.lastErr != text
	c.lastErr = text
	c.mu.Unlock()
	if changed && text != "" {
		c.cfg.Logger.Warn("control", "error", text)
	}
}

// pause waits, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (c *Control) raftDir() string { return filepath.Join(c.dir, "raft") }
