package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Timers for voters 300 ms apart (round trip). A follower hears from its leader at least every 420 ms (see heartbeatEvery). It misses the
// leader after 0.6 s, spread by raft to at most 1.2 s. A follower that errs changes nothing: the others tell it that
// they hear the leader (pre-vote); so nobody can be elected before all who are needed miss it. Two candidates that ask
// within one round trip take each other's votes away until their election timeouts end; raft's own spread is hardly longer
// than the round trip, so that it would happen again and again. Hence every voter has its own election timeout, by its rank
// among the voters that are not the leader, and the ranges (from once to twice the timeout) of the first two are further
// apart than a round trip.
const (
	heartbeatTimeout = 600 * time.Millisecond
	leaseTimeout     = 600 * time.Millisecond
	electionTimeout  = 600 * time.Millisecond  // of the first
	electionStep     = 1000 * time.Millisecond // more for each one after it
	commitTimeout    = time.Second             // what is committed is told at once, by tell
	streamTimeout    = 10 * time.Second        // one exchange, at most four entries of 5 MiB
	enqueueTimeout   = 5 * time.Second
	catchUpPoll      = 5 * time.Millisecond
	maxStreams       = 64 // raft connections of a voter, both directions; the next one is closed at once
)

// ErrNoLeader means that no write is possible now. Media goes on with the policy in force.
var ErrNoLeader = errors.New("no leader: the policy cannot be changed now; try again when a majority of voters is up")

// ErrUnknownOutcome means that the change may or may not have been made.
var ErrUnknownOutcome = errors.New("the leader was lost before it answered: read the history to see whether the change was made")

// onApplied is called by the fsm with its lock held.
func (c *Control) onApplied(*state, uint64) { nudge(c.news) }

// runVoter keeps raft running until ctx ends: it begins anew when the disk had failed and takes writes again.
func (c *Control) runVoter(ctx context.Context) error {
	in := newAccepted(c.cfg.Stream)
	var pump sync.WaitGroup
	pump.Go(in.run)
	defer pump.Wait()
	defer func() { _ = in.Close() }()
	for {
		failed, err := c.liveAsVoter(ctx, in)
		switch {
		case ctx.Err() != nil && (err == nil || failed):
			return nil
		case failed:
			if !errors.Is(err, errDisk) {
				c.cfg.Logger.Debug("raft cannot start on this disk now", "error", err)
			}
			c.untilWritable(ctx)
		default:
			return err
		}
	}
}

// liveAsVoter opens the stores, joins or founds the voter set, and runs raft until ctx ends or the disk fails.
func (c *Control) liveAsVoter(ctx context.Context, in *accepted) (failed bool, err error) {
	st, err := openStores(c.raftDir(), hclogTo(c.cfg.Logger))
	if isFull(err) {
		c.diskSaid(err)
	}
	if err != nil {
		return isFull(err), err
	}
	defer func() { _ = st.close() }()
	if c.wrap != nil {
		c.wrap(st)
	}
	g := newGuard(st, c.diskSaid)
	st.log, st.stable = g, guardedStable{g}
	if err := c.loadPromise(); err != nil {
		return false, err
	}
	found, err := c.enter(ctx, st)
	if err != nil || ctx.Err() != nil {
		return isFull(err), err
	}
	layer := newTrackedStreams(in)
	r, trans, err := c.startRaft(st, layer, found)
	if err != nil {
		return g.broken() || isFull(err), errors.Join(err, layer.Close(), layer.closeAll())
	}
	g.running(func() bool { return r.State() == raft.Leader })
	c.setRaft(r)
	life, end := context.WithCancel(ctx)
	defer end()
	var beside sync.WaitGroup
	beside.Go(func() {
		select {
		case <-g.failed:
			end()
		case <-life.Done():
		}
	})
	beside.Go(func() { c.keepVoters(life, r) })
	c.watch(life, r)
	beside.Wait()
	c.stopRaft(r, trans, layer, g)
	if g.broken() {
		return true, errDisk
	}
	return false, nil
}

// errDisk ends a life of raft whose disk failed; diskSaid has the reason already.
var errDisk = errors.New("a write to the raft directory failed")

func (c *Control) setRaft(r *raft.Raft) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raft = r
}

// startRaft creates the transport and raft; with a configuration, it founds the voter set first. Raft panics on some
// damage that it finds at start; that becomes an error, because a node must say what to do.
func (c *Control) startRaft(st *stores, layer *trackedStreams, found *raft.Configuration) (r *raft.Raft, trans *calmTransport, err error) {
	logger := hclogTo(c.cfg.Logger)
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(c.cfg.Node)
	conf.Logger = logger
	conf.HeartbeatTimeout, conf.ElectionTimeout = heartbeatTimeout, electionTimeout
	conf.LeaderLeaseTimeout, conf.CommitTimeout = leaseTimeout, commitTimeout
	conf.SnapshotThreshold, conf.TrailingLogs = snapshotEvery, trailingEntries
	conf.SnapshotInterval = 30 * time.Second
	conf.MaxAppendEntries = 4 // entries may be 5 MiB each
	conf.ShutdownOnRemove = false
	conf.NoLegacyTelemetry = true

	// One exchange at a time, which turns pipelining off: in v1.8.0 a pipeline whose follower refuses an entry (a full disk)
	// while more are on their way blocks for ever, and then neither replication to that follower nor the shutdown goes on.
	trans = newCalmTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, MaxRPCsInFlight: 1, Timeout: streamTimeout, Logger: logger, ServerAddressProvider: names{},
	}))
	defer func() {
		if p := recover(); p != nil {
			err = &CorruptError{File: c.raftDir(), Remedy: remedyVoter, Err: fmt.Errorf("raft cannot start: %v", p)}
		}
		if err != nil {
			err = errors.Join(err, trans.Close())
		}
	}()
	cached, err := raft.NewLogCache(cachedLogs, st.log)
	if err != nil {
		return nil, trans, err
	}
	if found != nil {
		if err := foundVoters(st, *found); err != nil {
			return nil, trans, err
		}
	}
	r, err = raft.NewRaft(conf, c.fsm, cached, st.stable, st.snaps, trans)
	if err != nil {
		err = fmt.Errorf("start raft: %w", err)
	}
	return r, trans, err
}

// watch looks after raft until ctx ends: a leader that can no longer apply hands over its office, and a learner that
// has the log asks for its vote.
func (c *Control) watch(ctx context.Context, r *raft.Raft) {
	leader := ""
	for n := 0; ; n++ {
		if _, id := r.LeaderWithID(); id != "" {
			leader = string(id)
		}
		c.stagger(r, leader)
		c.gatherKeys(ctx, votersOf(r))
		if !pause(ctx, time.Second) {
			return
		}
		if s, in := suffrageOf(r, c.cfg.Node); in && s == raft.Nonvoter && r.AppliedIndex() > 0 {
			if err := c.join(ctx, false); err != nil && ctx.Err() == nil {
				c.fail(err.Error())
			}
		}
		if n%lostCheck == 0 {
			c.rejoinIfRemoved(ctx, r)
		}
		var stopped error
		c.fsm.read(func(st *state) { stopped = st.stopped })
		if stopped != nil && r.State() == raft.Leader {
			c.fail(stopped.Error())
			if err := r.LeadershipTransfer().Error(); err != nil {
				c.cfg.Logger.Warn("cannot hand over leadership", "error", err)
			}
		}
	}
}

// lostCheck is how many seconds apart a voter without a leader asks whether it is still one.
const lostCheck = 5

// rejoinIfRemoved asks to be taken in again when this node follows nobody and a peer's leader leads without it: it was
// replaced while it was away, and stands by from now on.
func (c *Control) rejoinIfRemoved(ctx context.Context, r *raft.Raft) {
	if _, leader := r.LeaderWithID(); leader != "" {
		return
	}
	for _, v := range c.aliveVoters() {
		h, err := c.greet(ctx, v)
		if err != nil || h.Leader == "" {
			continue
		}
		if !slices.Contains(h.Servers, c.cfg.Node) && slices.Contains(serversOf(r), h.Leader) {
			if err := c.join(ctx, false); err != nil && ctx.Err() == nil {
				c.fail(err.Error())
			}
		}
		return
	}
}

// stagger sets this voter's own election timeout for the case that leader, the latest one known, dies; see the timers
// above.
func (c *Control) stagger(r *raft.Raft, leader string) {
	rank := 0
	for _, v := range votersOf(r) {
		if v < c.cfg.Node && v != leader {
			rank++
		}
	}
	conf := r.ReloadableConfig()
	want := electionTimeout + time.Duration(rank)*electionStep
	if conf.ElectionTimeout == want {
		return
	}
	conf.ElectionTimeout = want
	if err := r.ReloadConfig(conf); err != nil {
		c.fail(fmt.Sprintf("election timeout: %v", err))
	}
}

// HandOver gives raft's leadership to a voter; nil if this node does not lead. It waits for the outcome, at most an election
// timeout.
func (c *Control) HandOver(to string) error {
	r := c.node()
	if r == nil || r.State() != raft.Leader {
		return nil
	}
	return r.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to)).Error()
}

// stopRaft ends the voter in this order: hand over leadership, so that writes are possible again at once; stop raft;
// stop accepting; close every stream, which ends the readers that raft leaves behind.
// When the disk failed, nothing is handed over, and the write that failed returns when nothing can leave this node any more.
func (c *Control) stopRaft(r *raft.Raft, trans *calmTransport, layer *trackedStreams, g *guard) {
	if !g.broken() && r.State() == raft.Leader && len(votersOf(r)) > 1 {
		if err := r.LeadershipTransfer().Error(); err != nil {
			c.cfg.Logger.Info("leadership not handed over", "error", err)
		}
	}
	c.setRaft(nil)
	defer c.lastTurn(g)()
	// The streams end before the wait: a peer that does not answer would hold the shutdown up for its timeout.
	ended := r.Shutdown()
	trans.quit()
	trans.CloseStreams()
	if err := errors.Join(trans.Close(), layer.closeAll()); err != nil && !errors.Is(err, net.ErrClosed) {
		c.cfg.Logger.Debug("raft streams", "error", err)
	}
	close(g.over)
	if err := ended.Error(); err != nil {
		c.cfg.Logger.Warn("raft shutdown", "error", err)
	}
}

// lastTurn waits for the change that is under way, so that none is when raft ends: v1.8.0 forgets what it has committed and not
// passed to the state yet, and whoever waits for the outcome would wait for ever, with the turn. A write that failed has no
// outcome before raft ends.
func (c *Control) lastTurn(g *guard) (end func()) {
	ctx, cancel := context.WithTimeout(context.Background(), enqueueTimeout)
	defer cancel()
	select {
	case c.turn <- struct{}{}:
		return c.endTurn
	case <-g.failed:
	case <-ctx.Done():
	}
	return func() {}
}

// takeTurn waits for the right to change the log; the holder must call endTurn.
func (c *Control) takeTurn(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w (busy with another change)", ErrNoLeader)
	}
}

func (c *Control) endTurn() { <-c.turn }

// catchUp waits, once a term, until this leader has applied all that its predecessors committed: whatever is in its log
// when it is first asked. What raft has passed to the state but the state has not seen yet, a moment later, makes the proposal
// conflict, and it is made again (see propose).
func (c *Control) catchUp(ctx context.Context, r *raft.Raft) error {
	term := r.CurrentTerm()
	if c.barrierTerm == term {
		return nil
	}
	last := r.LastIndex()
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	for r.AppliedIndex() < last {
		if r.State() != raft.Leader || !pause(ctx, catchUpPoll) {
			return fmt.Errorf("%w (the new leader has not applied the log yet)", ErrNoLeader)
		}
	}
	c.barrierTerm = term
	return nil
}

// commit blocks until the voters agreed or this node lost its office, which a leader without a majority does within
// its lease.
func commit(r *raft.Raft, cmd command) error {
	b, err := cmd.encode()
	if err != nil {
		return err
	}
	f := r.Apply(b, enqueueTimeout)
	switch err := f.Error(); {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w (%w)", ErrNoLeader, err)
	case err != nil:
		return fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
	}
	tell(r)
	res, known := f.Response().(applyResult)
	if !known {
		return fmt.Errorf("raft answered %T", f.Response())
	}
	return res.err
}

// tell lets the followers know that the last entry is committed: the next one says so, and otherwise they would hear it within
// twice the commitTimeout. Nobody waits for it.
func tell(r *raft.Raft) { r.Barrier(enqueueTimeout) }

// votersOf lists the voters of raft's configuration.
func votersOf(r *raft.Raft) []string {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	var out []string
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			out = append(out, string(s.ID))
		}
	}
	return out
}

// serversOf lists raft's configuration, learners included.
func serversOf(r *raft.Raft) (out []string) {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	for _, s := range f.Configuration().Servers {
		out = append(out, string(s.ID))
	}
	return out
}

// names is the address provider: a voter's address is its name.
type names struct{}

// ServerAddr implements raft.ServerAddressProvider.
func (names) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(id), nil
}

// trackedStreams closes what raft's transport does not: it leaves a reader on every accepted stream until the far
// end closes it.
type trackedStreams struct {
	*accepted
	ended  chan struct{} // closed by Close
	once   sync.Once
	mu     sync.Mutex
	open   map[net.Conn]bool // guarded by mu
	closed bool              // guarded by mu
}

func newTrackedStreams(in *accepted) *trackedStreams {
	return &trackedStreams{accepted: in, ended: make(chan struct{}), open: make(map[net.Conn]bool)}
}

// Accept implements net.Listener.
func (t *trackedStreams) Accept() (net.Conn, error) {
	for {
		select {
		case conn := <-t.conns:
			if tracked := t.track(conn); tracked != nil {
				return tracked, nil
			}
		case <-t.ended:
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener. The layer beneath stays open for the next life of raft.
func (t *trackedStreams) Close() error {
	t.once.Do(func() { close(t.ended) })
	return nil
}

// Dial implements raft.StreamLayer.
func (t *trackedStreams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := t.StreamLayer.Dial(to, timeout)
	if err != nil {
		return nil, err
	}
	if tracked := t.track(conn); tracked != nil {
		return tracked, nil
	}
	return nil, net.ErrClosed
}

// track returns nil, and closes conn, after closeAll or above maxStreams.
func (t *trackedStreams) track(conn net.Conn) net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.open) >= maxStreams {
		_ = conn.Close()
		return nil
	}
	t.open[conn] = true
	return &trackedConn{Conn: conn, owner: t}
}

func (t *trackedStreams) closeAll() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	var errs []error
	for conn := range t.open {
		errs = append(errs, conn.Close())
	}
	clear(t.open)
	return errors.Join(errs...)
}

type trackedConn struct {
	net.Conn
	owner *trackedStreams
}

// Close forgets the stream first, so that it counts no longer.
func (t *trackedConn) Close() error {
	t.owner.mu.Lock()
	delete(t.owner.open, t.Conn)
	t.owner.mu.Unlock()
	return t.Conn.Close()
}
