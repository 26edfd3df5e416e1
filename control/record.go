package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Denied actions reach the audit log by a queue of their own: a flood of them must neither wait for raft nor fill it.
// Equal ones of one interval become one entry with a count; what does not fit is counted and dropped.
const (
	recordInterval = 2 * time.Second
	maxRecords     = 256 // different ones waiting
	maxRecordBatch = 64  // in one entry of the log
	// recordEvery is how often a node may add one when it has added maxRecords at once: who is denied ever again must not push out
	// of the log what people did. The next one says how many had no entry of their own.
	recordEvery = 10 * time.Minute
)

// recordKey is what makes two denials equal.
type recordKey struct{ who, from, action, detail string }

// Record puts an action that was not a change of the policy, such as one that was denied, into the audit log of the
// mesh. It never blocks; the entry is there some seconds later, or when there is a leader again. Body.When is
// set here.
func (c *Control) Record(b AuditBody) {
	b.When = c.now()
	b.From = truncated(b.From, maxWho-len(via)-len(c.cfg.Node)) + via + c.cfg.Node
	k := recordKey{b.Who, b.From, b.Action, b.Detail}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, known := c.records[k]; known {
		old.Count = max(old.Count, 1) + 1
		c.records[k] = old
		return
	}
	if len(c.records) >= maxRecords || !c.entries.Allow() {
		c.counts.unrecorded.Add(1)
		c.untold++
		return
	}
	if c.untold > 0 {
		b.Detail += fmt.Sprintf("; %d more since the last entry", c.untold)
		c.untold = 0
	}
	c.records[k] = b
}

// recordLoop hands what was recorded to the leader, in batches.
func (c *Control) recordLoop(ctx context.Context) error {
	for pause(ctx, recordInterval) {
		batch := c.takeRecords()
		if len(batch) == 0 {
			continue
		}
		req := request{Op: opAudit}
		for _, b := range batch {
			if body, err := bodyOf(b); err == nil {
				req.Audit = append(req.Audit, body)
			}
		}
		if _, err := c.onceToLeader(ctx, req); err != nil {
			c.returnRecords(batch) // asked again with the next interval; a lost answer may write a batch twice, never lose it
		}
	}
	return nil
}

func (c *Control) takeRecords() map[recordKey]AuditBody {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[recordKey]AuditBody)
	for k, b := range c.records {
		if len(out) == maxRecordBatch {
			break
		}
		out[k] = b
		delete(c.records, k)
	}
	return out
}

func (c *Control) returnRecords(batch map[recordKey]AuditBody) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, b := range batch {
		if newer, known := c.records[k]; known {
			b.Count = max(b.Count, 1) + max(newer.Count, 1)
		}
		c.records[k] = b
	}
}

// leadAudit appends to the audit log. Leader only.
func (c *Control) leadAudit(ctx context.Context, bodies []json.RawMessage) error {
	if len(bodies) == 0 || len(bodies) > maxRecordBatch {
		return fmt.Errorf("%d audit entries in one request, 1 to %d are allowed", len(bodies), maxRecordBatch)
	}
	for _, b := range bodies {
		var read AuditBody
		if len(b) > maxAuditBody || json.Unmarshal(b, &read) != nil || read.Result == AuditDone {
			return errors.New("an audit entry from a peer is not that of a denied action")
		}
	}
	r := c.node()
	if r == nil || r.State() != raft.Leader {
		return ErrNoLeader
	}
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	defer c.endTurn()
	return commit(r, command{kind: commandAudit, when: c.now(), audit: bodies})
}

// Audit returns at most 500 entries of the audit log behind seq, oldest first: the leader's, or without a leader this
// voter's own.
func (c *Control) Audit(ctx context.Context, seq uint64) ([]AuditEntry, error) {
	a, err := c.readFromLeader(ctx, request{Op: opAuditRead, After: seq})
	if err != nil && c.node() != nil {
		return c.auditAfter(seq).Audit, nil
	}
	return a.Audit, err
}

func (c *Control) auditAfter(seq uint64) (a answer) {
	c.fsm.read(func(st *state) { a.Audit = st.audit.after(seq) })
	return a
}

// AuditWitness is what one node remembers of the audit log.
type AuditWitness struct {
	Node  string    `json:"node"`
	Mark  AuditMark `json:"mark"`
	Error string    `json:"error,omitempty"`
}

// AuditWitnesses asks every live node for the newest mark that it has seen signed: voters by their log, all others by
// their copy of the policy. Who rewrites the log must rewrite all of them.
func (c *Control) AuditWitnesses(ctx context.Context) []AuditWitness {
	out := []AuditWitness{{Node: c.cfg.Node, Mark: c.auditMark()}}
	asked := c.askAll(ctx, request{Op: opAuditMark})
	for _, one := range asked {
		w := AuditWitness{Node: one.node}
		if one.err != nil {
			w.Error = one.err.Error()
		} else if one.answer.Mark != nil {
			w.Mark = *one.answer.Mark
		}
		out = append(out, w)
	}
	return out
}

// auditMark is this node's own.
func (c *Control) auditMark() (m AuditMark) {
	c.mu.Lock()
	m = c.copy.Audit
	c.mu.Unlock()
	c.fsm.read(func(st *state) {
		if head := st.audit.head(); head.Seq > m.Seq {
			m = head
		}
	})
	return m
}
