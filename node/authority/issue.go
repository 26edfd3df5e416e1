package authority

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
)

// slackParts is how much longer than its lease a certificate lives, as a part of the lease's time: a day for seven. A node whose
// lease has ended takes no new clients; for that day those that it has can stay.
const slackParts = 7

// proofOf reads the lease that a machine showed; nil without one that counts here.
func (a *Authority) proofOf(r lease.Request) *lease.Proof {
	l := r.Previous
	if l == nil {
		return nil
	}
	t := a.current.Load().Trust
	if err := l.Check(t.Mesh, r.Node, t.AuthorityOf); err != nil {
		a.log.Debug("the lease that a machine showed does not count", "node", r.Node, "err", err)
		return nil
	}
	peer, err := t.NodeOf(l.Grant.Certificate)
	if err != nil || peer.Node != r.Node {
		return nil
	}
	key, err := identity.KeyID(peer.Cert.PublicKey)
	if err != nil {
		return nil
	}
	return &lease.Proof{
		Issuer: l.Grant.Issuer, Fingerprint: l.Grant.Fingerprint, Key: key, Nonce: l.Grant.Nonce,
		Region: peer.Region, Voter: peer.Voter, Issued: l.Grant.Issued, Expires: l.Grant.Expires,
	}
}

// give decides on a request and makes the lease, with the book locked and the log written.
func (a *Authority) give(now time.Time, r lease.Request, key *ecdsa.PublicKey, from string) (l lease.Lease, note lease.Note, err error) {
	keyID, err := identity.KeyID(key)
	if err != nil {
		return l, "", err
	}
	proof := a.proofOf(r)
	err = a.cfg.Store.change(func(b *lease.Book) ([]Line, error) {
		m, n, err := b.Admit(now, r, keyID, proof)
		if err != nil {
			return nil, err
		}
		var serial string
		if l, serial, err = a.sign(now, r, m, key); err != nil {
			return nil, err
		}
		note = n
		b.Given(l.Grant, serial, from)
		return []Line{{
			Time: now.Unix(), Action: ActionLease, Who: from, Node: r.Node, Region: m.Region, Voter: m.Voter,
			Fingerprint: r.Fingerprint, Key: keyID, Serial: serial, Expires: l.Grant.Expires, Note: string(n),
		}}, nil
	})
	return l, note, err
}

// sign makes the certificate and the lease around it.
func (a *Authority) sign(now time.Time, r lease.Request, m lease.Entry, key *ecdsa.PublicKey) (lease.Lease, string, error) {
	own := a.current.Load()
	expires := earliest(now.Add(a.cfg.Term), a.right.Load().Term(now), own.Cert.NotAfter)
	granted := expires.Sub(now).Truncate(time.Second)
	if granted < time.Second {
		return lease.Lease{}, "", lease.Refusal{Code: lease.CodeNotServing, Text: "this authority's own time is over"}
	}
	const early = 5 * time.Minute // clocks of nodes differ
	der, serial, err := a.cfg.Signer.SignLeased(key, identity.IssueOptions{
		Node: r.Node, Region: m.Region, Voter: m.Voter, NotBefore: now.Add(-early), Valid: early + granted + granted/slackParts,
	})
	if err != nil {
		return lease.Lease{}, "", fmt.Errorf("sign the certificate: %w", err)
	}
	g := lease.Grant{
		Mesh: own.Mesh, Node: r.Node, Fingerprint: r.Fingerprint, Issuer: own.Name,
		Issued: now.Unix(), Expires: now.Add(granted).Unix(), Nonce: r.Nonce, Certificate: der,
	}
	l := lease.Sign(g, own.Key, own.Cert.Raw)
	// What is handed out must be believed where it goes: an error here is this authority's, not the machine's.
	if err := l.Check(own.Mesh, r.Node, own.AuthorityOf); err != nil {
		return lease.Lease{}, "", fmt.Errorf("the lease would not be believed: %w", err)
	}
	return l, serial, nil
}

func earliest(times ...time.Time) time.Time {
	first := times[0]
	for _, t := range times[1:] {
		if t.Before(first) {
			first = t
		}
	}
	return first
}

var errInternal = errors.New("the authority cannot give leases now; its log says why")
