package control

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A copy of the policy counts for others as long as its signer's certificate does, and that may be a week (docs/enrolment.md),
// while the policy stays the same for months. So voters sign the version in force again, and subscribers fetch that, before
// anybody who joins could find only copies that count no more.

const (
	freshenEvery = 10 * time.Minute // plus up to as much again
	freshenMost  = 24 * time.Hour   // between two questions that did not help
	freshenPeers = 3                // voters asked in one round
)

// freshenLoop keeps this node's copy one that others can verify.
func (c *Control) freshenLoop(ctx context.Context) error {
	wait := freshenEvery
	for pause(ctx, wait+rand.N(wait)) {
		if c.freshen(ctx) {
			wait = freshenEvery
		} else {
			wait = min(2*wait, freshenMost)
		}
	}
	return nil
}

// freshen replaces the copy by the same version with a newer signature, if it needs one; false if it does and there was none.
func (c *Control) freshen(ctx context.Context) bool {
	c.mu.Lock()
	e := c.copy
	c.mu.Unlock()
	if e.Version == 0 || c.cfg.Lasting(e.Cert) {
		return true
	}
	if c.cfg.Voter {
		fresh := e
		var err error
		if fresh.Cert, fresh.Sig, err = c.cfg.Sign(e.signedBytes()); err != nil {
			c.fail(fmt.Sprintf("policy version %d cannot be signed again: %v", e.Version, err))
			return false
		}
		return c.cfg.Lasting(fresh.Cert) && c.replaceCopy(e, fresh)
	}
	var voters []string
	for _, m := range c.cfg.Members() {
		if m.Alive && m.Voter && m.Node != c.cfg.Node {
			voters = append(voters, m.Node)
		}
	}
	rand.Shuffle(len(voters), func(i, j int) { voters[i], voters[j] = voters[j], voters[i] })
	for _, node := range voters[:min(len(voters), freshenPeers)] {
		if c.freshenFrom(ctx, node, e) {
			return true
		}
	}
	return false
}

// freshenFrom asks a voter for its copy of the version that this node has.
func (c *Control) freshenFrom(ctx context.Context, node string, e envelope) bool {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	a, err := c.call(ctx, node, request{Op: opEnvelope, Have: e.Version - 1, PublicKey: c.keys[0].public})
	if err != nil || a.Envelope == nil {
		return false
	}
	fresh := *a.Envelope
	if fresh.Version != e.Version || !bytes.Equal(fresh.Document, e.Document) || !c.cfg.Lasting(fresh.Cert) {
		return false
	}
	if _, err := fresh.open(c.cfg.Verify); err != nil {
		c.counts.refused.Add(1)
		return false
	}
	return c.replaceCopy(e, fresh)
}

// replaceCopy puts a copy of the same version in the place of before; what is enforced does not change.
func (c *Control) replaceCopy(before, fresh envelope) bool {
	c.installMu.Lock()
	defer c.installMu.Unlock()
	c.mu.Lock()
	overtaken := c.copy.Version != before.Version
	c.mu.Unlock()
	if overtaken {
		return true // by a newer version, which is as fresh
	}
	b, err := fresh.encode()
	if err == nil {
		err = writeSealed(c.copyFile(), copyMagic, b)
	}
	if err != nil {
		c.cfg.Logger.Warn("the policy's newer signature is not on disk", "version", fresh.Version, "err", err)
	}
	c.mu.Lock()
	c.copy = fresh
	c.mu.Unlock()
	c.cfg.Logger.Info("the policy in force has a newer signature", "version", fresh.Version)
	return true
}
