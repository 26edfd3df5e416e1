package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of the audit log; the oldest entries go first, and those that are older than the policy's retention.
const (
	maxAuditEntries = 20_000
	maxAuditBytes   = 4 << 20 // of all bodies
	maxAuditBody    = 16 << 10
	maxAuditChanges = 40 // differences named in one entry
	maxAuditText    = 512
	auditPage       = 500 // entries in one answer
)

// Results of an action in the audit log.
const (
	AuditDone   = "done"
	AuditDenied = "denied"
)

// AuditBody is what happened, as its proposer saw it.
type AuditBody struct {
	When    time.Time `json:"when"`
	Who     string    `json:"who"`              // "" is nobody known
	From    string    `json:"from,omitempty"`   // where the author came from
	Action  string    `json:"action"`           // such as "policy apply"
	Result  string    `json:"result"`           // AuditDone or AuditDenied
	Detail  string    `json:"detail,omitempty"` // why it was denied
	Count   int       `json:"count,omitempty"`  // equal denials that this one entry stands for, if more than one
	Before  string    `json:"before,omitempty"` // SHA-256 of the redacted policy, hex
	After   string    `json:"after,omitempty"`
	Changes []string  `json:"changes,omitempty"` // see Diff; at most 40
}

// AuditEntry is one line of the audit log. Its hash covers the hash before it, so that nobody can change, drop or
// insert a line without changing all that follow:
//
//	hash = hex(SHA-256("tern audit 1\n" prev "\n" seq "\n" version "\n" body))
//
// with prev in hex ("" before the first), seq and version in decimal, and body as compact JSON.
type AuditEntry struct {
	Seq     uint64          `json:"seq"`     // from 1
	Version uint64          `json:"version"` // of the policy, after it
	Prev    string          `json:"prev"`
	Hash    string          `json:"hash"`
	Body    json.RawMessage `json:"body"`
}

// Read decodes the body.
func (e AuditEntry) Read() (b AuditBody, err error) {
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return b, fmt.Errorf("audit entry %d: %w", e.Seq, err)
	}
	return b, nil
}

// sum computes the hash that e should have.
func (e AuditEntry) sum() string {
	var body bytes.Buffer
	if json.Compact(&body, e.Body) != nil {
		return ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "tern audit 1\n%s\n%d\n%d\n", e.Prev, e.Seq, e.Version)
	h.Write(body.Bytes())
	return hex.EncodeToString(h.Sum(nil))
}

// AuditMark names a line of the audit log by number and hash.
type AuditMark struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// VerifyAudit checks a run of entries: numbers without a gap, each hash over the one before. It returns the last mark,
// or an error that names the first entry that does not fit. Pure.
func VerifyAudit(entries []AuditEntry) (AuditMark, error) {
	var last AuditMark
	for i, e := range entries {
		switch {
		case i > 0 && e.Seq != last.Seq+1:
			return last, fmt.Errorf("entry %d follows entry %d: lines are missing or out of order", e.Seq, last.Seq)
		case i > 0 && e.Prev != last.Hash:
			return last, fmt.Errorf("entry %d does not follow from entry %d: one of the two was changed", e.Seq, last.Seq)
		case e.Hash == "" || e.sum() != e.Hash:
			return last, fmt.Errorf("entry %d does not match its hash: it was changed", e.Seq)
		}
		last = AuditMark{Seq: e.Seq, Hash: e.Hash}
	}
	return last, nil
}

// auditLog is the log as the state holds it. Pure.
type auditLog struct {
	base    AuditMark // the last entry that was dropped; zero if none was
	entries []AuditEntry
	bytes   int // of all bodies
}

// head is the newest mark.
func (l *auditLog) head() AuditMark {
	if n := len(l.entries); n > 0 {
		return AuditMark{Seq: l.entries[n-1].Seq, Hash: l.entries[n-1].Hash}
	}
	return l.base
}

// append adds a body and drops what is too old, by the clock of the newest entry: all voters drop the same.
func (l *auditLog) append(body json.RawMessage, version uint64, keep time.Duration) error {
	if len(body) > maxAuditBody {
		return fmt.Errorf("audit entry of %d bytes", len(body))
	}
	head := l.head()
	e := AuditEntry{Seq: head.Seq + 1, Version: version, Prev: head.Hash, Body: slices.Clone(body)}
	newest, err := e.Read()
	if err != nil {
		return err
	}
	e.Hash = e.sum()
	l.entries = append(l.entries, e)
	l.bytes += len(e.Body)
	drop := 0
	for drop < len(l.entries)-1 {
		old, err := l.entries[drop].Read()
		if len(l.entries)-drop <= maxAuditEntries && l.bytes <= maxAuditBytes && err == nil && newest.When.Sub(old.When) <= keep {
			break
		}
		l.bytes -= len(l.entries[drop].Body)
		drop++
	}
	if drop > 0 {
		l.base = AuditMark{Seq: l.entries[drop-1].Seq, Hash: l.entries[drop-1].Hash}
		l.entries = slices.Delete(l.entries, 0, drop)
	}
	return nil
}

// after returns at most auditPage entries behind seq, oldest first.
func (l *auditLog) after(seq uint64) []AuditEntry {
	i, _ := slices.BinarySearchFunc(l.entries, seq+1, func(e AuditEntry, s uint64) int {
		return int(int64(e.Seq) - int64(s))
	})
	return slices.Clone(l.entries[i:min(len(l.entries), i+auditPage)])
}

// bodyOf makes the bytes of an audit entry, within bounds.
func bodyOf(b AuditBody) (json.RawMessage, error) {
	b.When = b.When.UTC().Truncate(time.Millisecond)
	b.Who, b.From = truncated(b.Who, maxWho), truncated(b.From, maxWho)
	b.Action, b.Detail = truncated(b.Action, maxAuditText), truncated(b.Detail, maxAuditText)
	if n := len(b.Changes); n > maxAuditChanges {
		b.Changes = append(slices.Clone(b.Changes[:maxAuditChanges]), fmt.Sprintf("and %d more", n-maxAuditChanges))
	}
	out, err := json.Marshal(b)
	for err == nil && len(out) > maxAuditBody && len(b.Changes) > 0 { // long lines: as many as fit
		b.Changes = b.Changes[:len(b.Changes)/2]
		out, err = json.Marshal(b)
	}
	if err == nil && len(out) > maxAuditBody {
		err = errors.New("audit entry too large")
	}
	return out, err
}

// changeBody is the audit entry of a change of the policy.
func changeBody(req request, out Outcome, base, next Policy, now time.Time) (json.RawMessage, error) {
	b := AuditBody{When: now, Who: req.Who, From: req.From, Action: req.Action, Result: AuditDone, Before: redactedSum(base), After: redactedSum(next)}
	if b.Action == "" {
		b.Action = "policy apply"
	}
	if req.Force && len(out.Stranded) > 0 {
		b.Detail = fmt.Sprintf("forced, stranding %d apps", len(out.Stranded))
	}
	for _, d := range out.Changes {
		b.Changes = append(b.Changes, truncated(d.String(), maxAuditText))
	}
	return bodyOf(b)
}

// redactedSum is equal for policies that say the same; "" for version 0.
func redactedSum(p Policy) string {
	if p.Version == 0 && len(p.Regions) == 0 && len(p.Apps) == 0 {
		return ""
	}
	doc, err := json.Marshal(Redact(p))
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}
