package authority

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
)

// MaxInvitationTime bounds how long an invitation may lie around.
const MaxInvitationTime = 30 * 24 * time.Hour

// Order is what an operator says of a node. Who is the operator's name for the audit log.
type Order struct {
	Who, Node, Region string
	Voter             bool
	Fingerprint, Key  string        // Approve needs both; Invite takes a fingerprint
	Valid             time.Duration // of an invitation
	Reason            string        // of a denial
}

func (o Order) check() error {
	errs := []error{identity.CheckName("node name", o.Node)}
	if o.Fingerprint != "" && !lease.ValidFingerprint(o.Fingerprint) {
		errs = append(errs, errors.New("a fingerprint is 32 lower-case hex digits, as `tern lease show` prints it"))
	}
	return errors.Join(errs...)
}

// Invite makes an invitation and returns it with its secret, which is kept nowhere.
func (s Store) Invite(now time.Time, t identity.Trust, o Order) (lease.Invitation, error) {
	err := errors.Join(o.check(), identity.CheckRegion(o.Region))
	if o.Valid <= 0 || o.Valid > MaxInvitationTime {
		err = errors.Join(err, errors.New("an invitation is valid for more than nothing and at most 30 days"))
	}
	if err != nil {
		return lease.Invitation{}, err
	}
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return lease.Invitation{}, err
	}
	i := lease.Invitation{Mesh: t.Mesh, Node: o.Node, Pin: t.Pin(), Secret: hex.EncodeToString(secret[:])}
	return i, s.change(func(b *lease.Book) ([]Line, error) {
		return []Line{o.line(now, ActionInvite, now.Add(o.Valid))}, b.Invite(now, lease.Invited{
			Hash: lease.HashSecret(i.Secret), Node: o.Node, Region: o.Region, Voter: o.Voter, Fingerprint: o.Fingerprint,
			Made: now.Unix(), Expires: now.Add(o.Valid).Unix(),
		})
	})
}

// Approve enrols a machine by its fingerprint and its key, as `tern enrol` printed them there.
func (s Store) Approve(now time.Time, o Order) error {
	err := errors.Join(o.check(), identity.CheckRegion(o.Region))
	if o.Fingerprint == "" || !lease.ValidKey(o.Key) {
		err = errors.Join(err, errors.New("an approval needs the machine's fingerprint and the id of its key (64 hex digits): `tern enrol` prints both there"))
	}
	if err != nil {
		return err
	}
	return s.change(func(b *lease.Book) ([]Line, error) {
		return []Line{o.line(now, ActionApprove, time.Time{})},
			b.Approve(now, o.Node, lease.Entry{Region: o.Region, Voter: o.Voter, Fingerprint: o.Fingerprint, Key: o.Key})
	})
}

// Deny ends a node's leases here: the one that it has runs out.
func (s Store) Deny(now time.Time, o Order) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.Reason == "" {
		o.Reason = "denied by the operator"
	}
	return s.change(func(b *lease.Book) ([]Line, error) {
		return []Line{o.line(now, ActionDeny, time.Time{})}, b.Deny(o.Node, o.Reason)
	})
}

func (o Order) line(now time.Time, action string, expires time.Time) Line {
	l := Line{
		Time: now.Unix(), Action: action, Who: o.Who, Node: o.Node, Region: o.Region, Voter: o.Voter,
		Fingerprint: o.Fingerprint, Key: o.Key, Note: o.Reason,
	}
	if !expires.IsZero() {
		l.Expires = expires.Unix()
	}
	return l
}
