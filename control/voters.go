package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// The leader keeps the set of voters as the policy wants it, one safe step at a time: a newcomer is a learner until it
// has the log, becomes a voter before another stops being one, and nobody is removed if those who are left and alive
// would be no majority.
const (
	voterInterval = 2 * time.Second // between two looks
	rivalInterval = 5 * time.Second
	rivalLooks    = 3 // in a row before another group is called a rival
)

// seat is a node that may vote, as the leader sees it.
type seat struct {
	node, region string
	in, votes    bool          // in raft's configuration; as a voter
	alive        bool          //
	since        time.Duration // how long it has been alive or dead, as far as this leader knows
	ready        bool          // a learner that has the log
}

// step is one change of raft's configuration; the zero value is none.
type step struct {
	kind stepKind
	node string
	why  string
}

type stepKind uint8

const (
	stepNone    stepKind = iota
	stepLearn            // take in as a learner
	stepPromote          // learner to voter
	stepRemove           // out of the configuration
)

// planVoters decides the next step. Pure. self is the leader; without a count in the rule nothing is planned: every node that
// may vote does.
func planVoters(rule Voters, seats []seat, self string) step {
	if rule.Count == 0 {
		return step{}
	}
	var voters, dead, learners, outside []seat
	for _, s := range seats {
		switch {
		case s.votes:
			voters = append(voters, s)
			if !s.alive && s.since >= rule.Grace() {
				dead = append(dead, s)
			}
		case s.in:
			learners = append(learners, s)
		case s.alive:
			outside = append(outside, s)
		}
	}
	spread := rule.Spread != SpreadNone
	crowded := crowdedVoter(voters, self, spread)
	switch {
	case len(voters) > rule.Count && len(dead) > 0:
		return safely(voters, step{stepRemove, dead[0].node, fmt.Sprintf("dead for %v, and replaced", dead[0].since.Round(time.Second))})
	case len(voters) > rule.Count:
		return safely(voters, step{stepRemove, crowded.node, fmt.Sprintf("the policy wants %d voters", rule.Count)})
	}
	need := ""
	switch {
	case len(voters) < rule.Count:
		need = fmt.Sprintf("the policy wants %d voters", rule.Count)
	case len(dead) > 0:
		need = fmt.Sprintf("%s has been dead for %v", dead[0].node, dead[0].since.Round(time.Second))
	}
	best, found := bestCandidate(append(learners, outside...), voters, spread)
	if need == "" && spread && found && best.since >= rule.Grace() && sharesRegion(crowded, voters) && !hasRegion(voters, best.region) {
		need = fmt.Sprintf("%s shares its region with another voter", crowded.node)
	}
	switch {
	case need == "" || !found:
		return step{}
	case !best.in:
		return step{stepLearn, best.node, need}
	case best.ready:
		return step{stepPromote, best.node, need}
	}
	return step{} // it is still learning
}

// safely drops a removal after which the living voters would be no majority.
func safely(voters []seat, s step) step {
	alive := 0
	for _, v := range voters {
		if v.alive && v.node != s.node {
			alive++
		}
	}
	if s.node == "" || alive < (len(voters)-1)/2+1 {
		return step{}
	}
	return s
}

// bestCandidate prefers a region without a living voter, then nodes that learn already, then names.
func bestCandidate(list, voters []seat, spread bool) (seat, bool) {
	list = slices.DeleteFunc(slices.Clone(list), func(s seat) bool { return !s.alive })
	if len(list) == 0 {
		return seat{}, false
	}
	rank := func(s seat) int {
		r := 0
		if spread && hasRegion(voters, s.region) {
			r += 2
		}
		if !s.in {
			r++
		}
		return r
	}
	return slices.MinFunc(list, func(a, b seat) int { return cmp.Or(rank(a)-rank(b), strings.Compare(a.node, b.node)) }), true
}

// crowdedVoter is the voter that can be spared best: in the region with most voters, never the leader.
func crowdedVoter(voters []seat, self string, spread bool) (out seat) {
	per := make(map[string]int)
	for _, v := range voters {
		per[v.region]++
	}
	for _, v := range voters {
		if v.node == self {
			continue
		}
		if out.node == "" || spread && per[v.region] > per[out.region] || (!spread || per[v.region] == per[out.region]) && v.node > out.node {
			out = v
		}
	}
	return out
}

func sharesRegion(s seat, voters []seat) bool {
	return s.node != "" && slices.ContainsFunc(voters, func(v seat) bool { return v.node != s.node && v.region == s.region })
}

// hasRegion says whether a living voter is in a region.
func hasRegion(voters []seat, region string) bool {
	return slices.ContainsFunc(voters, func(v seat) bool { return v.alive && v.region == region })
}

// census remembers since when nodes have been alive or dead. Owned by keepVoters.
type census map[string]sighting

type sighting struct {
	alive bool
	since time.Time
}

// see updates the census and says how long node has been as it is.
func (c census) see(node string, alive bool, now time.Time) time.Duration {
	s, known := c[node]
	if !known || s.alive != alive {
		s = sighting{alive, now}
		c[node] = s
	}
	return now.Sub(s.since)
}

// seats lists raft's configuration and the other members that may vote.
func (c *Control) seats(r *raft.Raft, seen census, now time.Time) (out []seat) {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	members := make(map[string]Member)
	for _, m := range c.cfg.Members() {
		if m.Voter || m.Node == c.cfg.Node {
			members[m.Node] = m
		}
	}
	for _, server := range f.Configuration().Servers {
		name := string(server.ID)
		m := members[name]
		delete(members, name)
		s := seat{node: name, region: m.Region, in: true, votes: server.Suffrage == raft.Voter, alive: m.Alive || name == c.cfg.Node}
		if name == c.cfg.Node {
			s.region = c.cfg.Region
		}
		s.ready = s.votes || c.hasLog(name)
		out = append(out, s)
	}
	for name, m := range members {
		if name != c.cfg.Node {
			out = append(out, seat{node: name, region: m.Region, alive: m.Alive})
		}
	}
	for i := range out {
		out[i].since = seen.see(out[i].node, out[i].alive, now)
	}
	slices.SortFunc(out, func(a, b seat) int { return strings.Compare(a.node, b.node) })
	return out
}

// hasLog says whether a learner has said lately that it has applied the log.
func (c *Control) hasLog(node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.learned[node]) < 3*voterInterval
}

// keepVoters runs beside raft: on the leader it makes the steps of planVoters, everywhere it looks for rivals.
func (c *Control) keepVoters(ctx context.Context, r *raft.Raft) {
	seen, looks := make(census), make(map[string]int)
	for n := 0; pause(ctx, voterInterval); n++ {
		if r.State() != raft.Leader {
			clear(seen) // what this node saw before it led is old
		} else if s := planVoters(c.rule(), c.seats(r, seen, time.Now()), c.cfg.Node); s.kind != stepNone {
			if err := c.take(ctx, r, s); err != nil && ctx.Err() == nil {
				c.fail(fmt.Sprintf("voters: %v", err))
			}
		}
		if n%int(rivalInterval/voterInterval) == 0 {
			c.lookForRivals(ctx, r, looks)
		}
	}
}

// rule is what the policy says of voters.
func (c *Control) rule() Voters { return c.Policy().Voters }

// take makes one step. Leader only.
func (c *Control) take(ctx context.Context, r *raft.Raft, s step) error {
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	defer c.endTurn()
	id := raft.ServerID(s.node)
	var err error
	switch s.kind {
	case stepLearn:
		err = r.AddNonvoter(id, raft.ServerAddress(s.node), 0, enqueueTimeout).Error()
	case stepPromote:
		err = r.AddVoter(id, raft.ServerAddress(s.node), 0, enqueueTimeout).Error()
	case stepRemove:
		err = r.RemoveServer(id, 0, enqueueTimeout).Error()
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", s.kind, s.node, err)
	}
	c.cfg.Logger.Info("voters changed", "step", s.kind.String(), "node", s.node, "why", s.why)
	return nil
}

func (k stepKind) String() string {
	return [...]string{"nothing", "taken in to learn", "voter", "removed"}[k]
}

// lookForRivals asks the living voters that are not in this node's configuration whether they follow another leader. Two
// groups come about when voters were started with control.expect: 1, or half of the data directories were removed.
func (c *Control) lookForRivals(ctx context.Context, r *raft.Raft, looks map[string]int) {
	_, leader := r.LeaderWithID()
	if leader == "" {
		return
	}
	mine := votersOf(r)
	found := ""
	for _, v := range c.aliveVoters() {
		if _, in := suffrageOf(r, v); in {
			delete(looks, v)
			continue
		}
		h, err := c.greet(ctx, v)
		if err != nil || h.Leader == "" || h.Leader == string(leader) || slices.Contains(mine, h.Leader) || slices.Contains(h.Voters, string(leader)) {
			delete(looks, v)
			continue
		}
		if looks[v]++; looks[v] >= rivalLooks {
			found = fmt.Sprintf("rival raft groups: this node follows %s with voters %v, %s follows %s with voters %v, so that there are two policies: keep one group, stop the nodes of the other, remove their data directories and start them again",
				leader, mine, v, h.Leader, h.Voters)
		}
	}
	c.mu.Lock()
	changed := c.rival != found
	c.rival = found
	c.mu.Unlock()
	if changed && found != "" {
		c.cfg.Logger.Error("control", "error", found)
	}
}
