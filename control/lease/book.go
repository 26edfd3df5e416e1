package lease

import (
	"fmt"
	"slices"
	"time"
)

const (
	// MaxEntries and MaxInvitations bound a book.
	MaxEntries     = 5_000
	MaxInvitations = 1_000
	// AdoptFor is how long after its end a lease of another authority still proves that its machine was enrolled.
	AdoptFor = 30 * 24 * time.Hour
)

// Entry is what an authority knows of a node's machine. Times are Unix seconds.
type Entry struct {
	Region      string `json:"region"`
	Voter       bool   `json:"voter,omitempty"`
	Fingerprint string `json:"fingerprint"`
	Key         string `json:"key"`   // id of the node's key, 64 hex digits
	By          string `json:"by"`    // how it got here: invitation, operator, or the authority whose lease it showed
	Since       int64  `json:"since"` // when it got here

	Issued int64  `json:"issued,omitempty"` // the last lease given here
	Nonce  string `json:"nonce,omitempty"`  // of that
	Serial string `json:"serial,omitempty"` // of its certificate
	From   string `json:"from,omitempty"`   // the address that asked for it

	Denied string `json:"denied,omitempty"` // why it gets no lease; empty: it does
}

// Book is an authority's memory: which machines may have leases. The zero value is empty.
type Book struct {
	Version     int              `json:"version"`
	Machines    map[string]Entry `json:"machines"` // by node
	Invitations []Invited        `json:"invitations"`
	Audit       string           `json:"audit"` // hash of the newest line of the audit log
}

// Proof is what the lease that a machine showed says, once the caller has verified the authority's signature in it and the CA's
// under its certificate.
type Proof struct {
	Issuer, Fingerprint, Key, Nonce string
	Region                          string
	Voter                           bool
	Issued, Expires                 int64
}

// Note is what an authority's operator should know of a lease that was given.
type Note string

// The notes.
const (
	NoNote Note = ""
	// NoteFirst: the machine was enrolled by this request.
	NoteFirst Note = "enrolled"
	// NoteMoved: the node was enrolled on another machine or with another key before.
	NoteMoved Note = "moved"
	// NoteAdopted: another authority enrolled it.
	NoteAdopted Note = "adopted"
	// NoteForked: the machine showed an older lease than the last one given to it here: two copies of it run, or the last
	// answer was lost.
	NoteForked Note = "forked"
	// NoteShared: another node has the same fingerprint: both run on one machine, or the machine was cloned.
	NoteShared Note = "shared_fingerprint"
)

// unlisted refuses who has not proved to be the machine in question: the wire tells everybody the same, the log why.
func unlisted(node, why string, args ...any) error {
	return Refusal{
		Code: CodeNotListed, Why: fmt.Sprintf(why, args...),
		Text: fmt.Sprintf("this authority gives node %q no lease on that machine with that key: it needs an invitation, or the operator's approval", node),
	}
}

// badInvitation refuses an invitation, in the same way.
func badInvitation(node, why string) error {
	return Refusal{
		Code: CodeInvitation, Why: why,
		Text: fmt.Sprintf("the invitation is not of this authority for node %q on that machine, was used, or has run out: ask for a new one", node),
	}
}

// Admit decides whether a machine gets a lease, and as what: key is the id of the key that it has proved, proof is nil without
// a lease that counts. The book changes where the machine enrols: an invitation is used up by that. Pure but for b.
func (b *Book) Admit(now time.Time, r Request, key string, proof *Proof) (Entry, Note, error) {
	if r.Invitation != "" {
		return b.redeem(now, r, key)
	}
	m, known := b.Machines[r.Node]
	proven := proof != nil && proof.Key == key && proof.Fingerprint == r.Fingerprint
	switch {
	case known && m.Denied != "":
		return Entry{}, NoNote, denied(m, r.Node, key)
	case known && m.Key == key && m.Fingerprint == r.Fingerprint:
		if proven && proof.Nonce != m.Nonce && proof.Issued <= m.Issued {
			return m, NoteForked, nil
		}
		return m, b.shared(r), nil
	case proven && proof.Issued > m.Since && now.Unix() < proof.Expires+int64(AdoptFor.Seconds()):
		m = Entry{Region: proof.Region, Voter: proof.Voter, Fingerprint: r.Fingerprint, Key: key, By: proof.Issuer, Since: now.Unix()}
		return m, NoteAdopted, b.add(r.Node, m)
	case known && m.Key == key:
		return Entry{}, NoNote, Refusal{Code: CodeMachine, Text: fmt.Sprintf("node %q is enrolled on a machine with another fingerprint; an invitation moves it here", r.Node)}
	case known:
		return Entry{}, NoNote, unlisted(r.Node, "it is enrolled with key %s", m.Key)
	}
	return Entry{}, NoNote, unlisted(r.Node, "nobody enrolled that node")
}

// denied tells a machine that it is denied, and nobody else.
func denied(e Entry, node, key string) error {
	if e.Key != key {
		return unlisted(node, "the node is denied: %s", e.Denied)
	}
	return Refusal{Code: CodeDenied, Why: e.Denied, Text: fmt.Sprintf("this authority gives node %q no lease any more; its operator knows why", node)}
}

// redeem uses an invitation up.
func (b *Book) redeem(now time.Time, r Request, key string) (Entry, Note, error) {
	i := slices.IndexFunc(b.Invitations, func(i Invited) bool { return i.Node == r.Node && i.opens(r.Invitation) })
	switch {
	case i < 0:
		return Entry{}, NoNote, badInvitation(r.Node, "no open invitation has that secret for that node")
	case !b.Invitations[i].open(now):
		return Entry{}, NoNote, badInvitation(r.Node, "it has run out")
	case b.Invitations[i].Fingerprint != "" && b.Invitations[i].Fingerprint != r.Fingerprint:
		return Entry{}, NoNote, badInvitation(r.Node, "it is for another fingerprint")
	}
	in := b.Invitations[i]
	m := Entry{Region: in.Region, Voter: in.Voter, Fingerprint: r.Fingerprint, Key: key, By: "invitation", Since: now.Unix()}
	note := NoteFirst
	if _, known := b.Machines[r.Node]; known {
		note = NoteMoved
	}
	if err := b.add(r.Node, m); err != nil {
		return Entry{}, NoNote, err
	}
	b.Invitations = slices.Delete(b.Invitations, i, i+1)
	return m, note, nil
}

func (b *Book) add(node string, m Entry) error {
	if _, known := b.Machines[node]; !known && len(b.Machines) >= MaxEntries {
		return Refusal{Code: CodeInternal, Text: "the authority's book is full"}
	}
	if b.Machines == nil {
		b.Machines = make(map[string]Entry)
	}
	b.Machines[node] = m
	return nil
}

func (b *Book) shared(r Request) Note {
	for node, m := range b.Machines {
		if node != r.Node && m.Fingerprint == r.Fingerprint && m.Denied == "" {
			return NoteShared
		}
	}
	return NoNote
}

// Given notes a lease that was given.
func (b *Book) Given(g Grant, serial, from string) {
	m := b.Machines[g.Node]
	m.Issued, m.Nonce, m.Serial, m.From = g.Issued, g.Nonce, serial, from
	b.Machines[g.Node] = m
}

// Invite adds an invitation; those that ran out go.
func (b *Book) Invite(now time.Time, i Invited) error {
	b.Invitations = slices.DeleteFunc(b.Invitations, func(i Invited) bool { return !i.open(now) })
	if len(b.Invitations) >= MaxInvitations {
		return fmt.Errorf("%d invitations are open, which is the most: let some be used or run out", len(b.Invitations))
	}
	b.Invitations = append(b.Invitations, i)
	return nil
}

// Approve enrols a machine whose fingerprint and key the operator has seen; denied ones are readmitted by that.
func (b *Book) Approve(now time.Time, node string, m Entry) error {
	m.By, m.Since = "operator", now.Unix()
	return b.add(node, m)
}

// Deny ends a node's leases: it gets no more, and its open invitations go. A node that nobody knows can be denied as well, so
// that no lease of another authority lets it in.
func (b *Book) Deny(node, reason string) error {
	b.Invitations = slices.DeleteFunc(b.Invitations, func(i Invited) bool { return i.Node == node })
	m := b.Machines[node]
	m.Denied = reason
	return b.add(node, m)
}
