package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// How a voter without raft state gets into raft. Nobody passes a flag; the danger is that two groups of nodes that
// see different halves of the mesh found two voter sets. So founding needs a promise:
//
//	wait     --fewer than Expect voters alive--------------------> wait
//	wait     --first Expect names alive = S, self in S-----------> promise S (on disk, once and for ever), ask the others of S
//	promised --every other of S promised S, or one founded by S--> found S
//	any      --a voter says that raft exists, not by my promise--> join: the leader takes this node in anew
//
// A node promises one set only, so two sets that share a node are never both founded; and any two sets of Expect
// voters that do not share a node need twice as many voters as were announced. A voter that lost its disk has no
// promise, meets voters with state, and joins: it must not vote before the leader counted it out and in again, or
// its forgotten acknowledgements could undo a committed policy. Joining is done as a learner first; see admit.
const (
	enterInterval = 500 * time.Millisecond
	helloTimeout  = 3 * time.Second
)

// How far this voter is; see enter.
const (
	stageOpening = iota // the disk was not read: says nothing to anybody
	stageWaiting        // has no raft state
	stageState          // has raft state, or is about to
)

// hello is what voters tell each other before raft runs.
type hello struct {
	HasState bool     `json:"has_state"`
	Promise  []string `json:"promise,omitempty"`
	Leader   string   `json:"leader,omitempty"`  // whom it follows, once raft runs
	Voters   []string `json:"voters,omitempty"`  // as it has them
	Servers  []string `json:"servers,omitempty"` // the same with learners
}

// promiseFile lives beside raft's own files, so that removing them removes the promise.
func (c *Control) promiseFile() string { return filepath.Join(c.raftDir(), "bootstrap.bin") }

func (c *Control) loadPromise() error {
	payload, err := readSealed(c.promiseFile(), promiseMagic, remedyVoter)
	if err != nil || payload == nil {
		return err
	}
	var set []string
	if err := json.Unmarshal(payload, &set); err != nil {
		return &CorruptError{File: c.promiseFile(), Remedy: remedyVoter, Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.promise = set
	return nil
}

// makePromise promises set if nothing was promised before, and returns what is promised now.
func (c *Control) makePromise(set []string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.promise != nil {
		return c.promise, nil
	}
	b, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	if err := writeSealed(c.promiseFile(), promiseMagic, b); err != nil {
		return nil, err
	}
	c.promise = set
	return set, nil
}

// enter returns when raft may start: with a configuration if this node founds the voter set, without one if it has
// state or was added by the leader. It also returns when ctx ends.
func (c *Control) enter(ctx context.Context, st *stores) (*raft.Configuration, error) {
	last, err := st.log.LastIndex()
	if err != nil {
		return nil, err
	}
	snaps, err := st.snaps.List()
	if err != nil || last > 0 || len(snaps) > 0 {
		c.stage.Store(stageState)
		return nil, err
	}
	c.stage.Store(stageWaiting)
	for first := true; first || pause(ctx, enterInterval); first = false {
		found, ready, err := c.tryEnter(ctx)
		if err != nil {
			c.fail("not in raft yet: " + err.Error())
		}
		if ready {
			c.stage.Store(stageState)
			c.fail("")
			return found, nil
		}
	}
	return nil, nil
}

// tryEnter makes one round of the diagram above.
func (c *Control) tryEnter(ctx context.Context) (found *raft.Configuration, ready bool, err error) {
	alive := c.aliveVoters()
	answers := make(map[string]hello, len(alive))
	var foreign bool
	for _, name := range alive {
		h, err := c.greet(ctx, name)
		if err != nil {
			continue // not up yet, or unreachable: its silence agrees to nothing
		}
		answers[name] = h
		mine := c.promised()
		foreign = foreign || h.HasState && (mine == nil || !slices.Equal(h.Promise, mine))
	}
	if foreign {
		err := c.join(ctx, true)
		return nil, err == nil, err
	}
	set := c.promised()
	if set == nil {
		if set = c.candidateSet(); set == nil {
			return nil, false, fmt.Errorf("%d of %d voters are alive", len(alive)+1, c.cfg.Expect)
		}
		if set, err = c.makePromise(set); err != nil {
			return nil, false, err
		} // the others see it when they are greeted again, in the next round
	}
	if waiting := disagree(set, c.cfg.Node, answers); len(waiting) > 0 {
		return nil, false, fmt.Errorf("voters %v have not agreed to found the voter set %v", waiting, set)
	}
	return configurationOf(set), true, nil
}

// disagree lists members of set, other than self, that keep it from being founded: none as soon as one has founded it.
func disagree(set []string, self string, answers map[string]hello) (waiting []string) {
	for _, name := range set {
		if name == self {
			continue
		}
		h, answered := answers[name]
		agreed := answered && slices.Equal(h.Promise, set)
		if agreed && h.HasState {
			return nil
		}
		if !agreed {
			waiting = append(waiting, name)
		}
	}
	return waiting
}

func configurationOf(set []string) *raft.Configuration {
	conf := &raft.Configuration{}
	for _, name := range set {
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(name), Address: raft.ServerAddress(name)})
	}
	return conf
}

// foundVoters writes the first entry of the log. All founders write the same.
func foundVoters(st *stores, conf raft.Configuration) error {
	key := []byte("CurrentTerm") // raft's own
	term, err := st.stable.GetUint64(key)
	if err == nil && term == 0 {
		err = st.stable.SetUint64(key, 1)
	}
	if err == nil {
		err = st.log.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)})
	}
	if err != nil {
		return fmt.Errorf("found the voter set: %w", err)
	}
	return nil
}

func (c *Control) promised() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.promise
}

// aliveVoters lists the other voters that are alive, sorted.
func (c *Control) aliveVoters() (out []string) {
	for _, m := range c.cfg.Members() {
		if m.Voter && m.Alive && m.Node != c.cfg.Node {
			out = append(out, m.Node)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// candidateSet is the set that this node would found: the first Expect names alive, if it is among them.
func (c *Control) candidateSet() []string {
	all := append(c.aliveVoters(), c.cfg.Node)
	slices.Sort(all)
	if len(all) < c.cfg.Expect {
		return nil
	}
	set := all[:c.cfg.Expect]
	if !slices.Contains(set, c.cfg.Node) {
		return nil
	}
	return set
}

// greet exchanges hellos; what this node has promised invites the other to promise the same.
func (c *Control) greet(ctx context.Context, node string) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	a, err := c.call(ctx, node, request{Op: opHello, Voters: c.promised()})
	if err != nil {
		return hello{}, err
	}
	if a.Hello == nil {
		return hello{}, errors.New("no hello in the answer")
	}
	return *a.Hello, nil
}

// serveHello answers greet: it promises the other's set if this node would have chosen the same.
func (c *Control) serveHello(set []string) (hello, error) {
	if !c.cfg.Voter {
		return hello{}, errors.New("not a voter")
	}
	switch c.stage.Load() {
	case stageOpening:
		return hello{}, errors.New("starting: what is on disk is not known yet")
	case stageState:
		h := hello{HasState: true, Promise: c.promised()}
		if r := c.node(); r != nil {
			_, leader := r.LeaderWithID()
			h.Leader, h.Voters, h.Servers = string(leader), votersOf(r), serversOf(r)
		}
		return h, nil
	}
	if c.promised() == nil && len(set) > 0 && slices.Equal(set, c.candidateSet()) {
		if _, err := c.makePromise(set); err != nil {
			return hello{}, err
		}
	}
	return hello{Promise: c.promised()}, nil
}

// join asks the leader, through any voter, to take this node in; fresh says that it holds no raft state.
func (c *Control) join(ctx context.Context, fresh bool) error {
	_, err := c.toLeader(ctx, request{Op: opJoin, Node: c.cfg.Node, Fresh: fresh})
	if err != nil {
		return fmt.Errorf("join the voters: %w", err)
	}
	return nil
}

// admit takes node into raft's configuration, in steps of which each is safe to be the last one:
//
//	a voter that is fresh     -> removed: it lost its disk and with it what it acknowledged
//	not in the configuration  -> learner: gets the log, does not count
//	a learner, not fresh      -> voter, or, if the policy says how many voters there are, noted as ready to be one
//
// A node that counted before it runs could leave the others without a majority. Leader only.
func (c *Control) admit(ctx context.Context, node string, fresh bool) error {
	r := c.node()
	if r == nil || r.State() != raft.Leader {
		return ErrNoLeader
	}
	if node == c.cfg.Node || !c.isVoter(node) {
		return fmt.Errorf("node %q is not known as another voter", node)
	}
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	defer c.endTurn()
	id := raft.ServerID(node)
	suffrage, in := suffrageOf(r, node)
	if in && suffrage == raft.Voter && fresh {
		if err := r.RemoveServer(id, 0, enqueueTimeout).Error(); err != nil {
			return fmt.Errorf("remove the former %s: %w", node, err)
		}
		in = false
	}
	var err error
	switch {
	case !in && c.rule().Count == 0 && len(votersOf(r)) >= maxVoters:
		return fmt.Errorf("there are %d voters already, at most %d are allowed", len(votersOf(r)), maxVoters)
	case !in:
		err = r.AddNonvoter(id, raft.ServerAddress(node), 0, enqueueTimeout).Error()
	case suffrage == raft.Nonvoter && !fresh && c.rule().Count > 0:
		c.mu.Lock()
		c.learned[node] = time.Now() // keepVoters decides when it votes
		c.mu.Unlock()
		return nil
	case suffrage == raft.Nonvoter && !fresh:
		err = r.AddVoter(id, raft.ServerAddress(node), 0, enqueueTimeout).Error()
	}
	if err != nil {
		return fmt.Errorf("take in %s: %w", node, err)
	}
	c.cfg.Logger.Info("voter taken in", "node", node, "fresh", fresh)
	return nil
}

// suffrageOf looks node up in raft's configuration.
func suffrageOf(r *raft.Raft, node string) (s raft.ServerSuffrage, in bool) {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return 0, false
	}
	for _, server := range f.Configuration().Servers {
		if string(server.ID) == node {
			return server.Suffrage, true
		}
	}
	return 0, false
}

func (c *Control) isVoter(node string) bool {
	return slices.ContainsFunc(c.cfg.Members(), func(m Member) bool { return m.Node == node && m.Voter })
}
