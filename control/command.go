package control

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Entry layout of the raft log, all integers big-endian:
//
//	0  2  "TC"
//	2  1  format, 2
//	3  1  type: 1 = apply a policy, 2 = append to the audit log
//	4  4  length of the head, then the head: JSON, see commandHead
//	   4  length of the document, then the document (type 1 alone; otherwise empty)
//
// A newer program may add types, fields of the head and fields of the document. A node that meets what it cannot read stops
// its log instead of skipping, and goes on enforcing what it has; so what is new may be used only when all nodes are upgraded.
const (
	commandFormat = 2
	commandApply  = 1
	commandAudit  = 2
	commandFixed  = 8
	maxHead       = 256 << 10
)

// maxWho bounds the name in an audit line, in bytes.
const maxWho = 256

// errFromFuture means that a newer program wrote something that this one cannot read. Skipping it would make two
// nodes disagree about the policy, so whoever meets it stops applying.
var errFromFuture = errors.New("written by a newer version of this program: upgrade this node")

// command is one entry of the log.
type command struct {
	kind        byte
	base, floor uint64 // with commandApply; see state.current
	id          string // of the request
	who         string
	when        time.Time // at the proposer, in whole milliseconds
	audit       []json.RawMessage
	document    []byte // stored form, secrets sealed
}

// commandHead is the JSON in an entry.
type commandHead struct {
	Base  uint64            `json:"base,omitempty"`  // the version that the proposer saw; the entry counts only if it is still the current one
	Floor uint64            `json:"floor,omitempty"` // the highest version known outside of this log
	ID    string            `json:"id,omitempty"`
	Who   string            `json:"who,omitempty"`
	When  int64             `json:"when"`            // Unix milliseconds at the proposer
	Audit []json.RawMessage `json:"audit,omitempty"` // bodies of audit entries, see AuditBody
}

// encode appends nothing to anything: it returns the entry.
func (c command) encode() ([]byte, error) {
	head, err := json.Marshal(commandHead{Base: c.base, Floor: c.floor, ID: c.id, Who: c.who, When: c.when.UnixMilli(), Audit: c.audit})
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	if len(c.who) > maxWho || len(head) > maxHead || len(c.document) > MaxDocumentBytes {
		return nil, fmt.Errorf("command too large: who %d bytes, head %d, document %d", len(c.who), len(head), len(c.document))
	}
	b := make([]byte, 0, commandFixed+len(head)+4+len(c.document))
	b = append(b, 'T', 'C', commandFormat, c.kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)))
	b = append(b, head...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.document)))
	return append(b, c.document...), nil
}

// decodeCommand reads an entry; the result shares memory with it.
func decodeCommand(b []byte) (command, error) {
	if len(b) < 4 || b[0] != 'T' || b[1] != 'C' {
		return command{}, errors.New("log entry is not a command")
	}
	if b[2] != commandFormat || b[3] != commandApply && b[3] != commandAudit {
		return command{}, fmt.Errorf("log entry of format %d and type %d: %w", b[2], b[3], errFromFuture)
	}
	head, rest, err := cut(b[4:], maxHead)
	if err != nil {
		return command{}, err
	}
	document, rest, err := cut(rest, MaxDocumentBytes)
	if err != nil {
		return command{}, err
	}
	if len(rest) > 0 {
		return command{}, fmt.Errorf("log entry has %d bytes behind its end", len(rest))
	}
	h, err := decodeHead(head)
	if err != nil {
		return command{}, err
	}
	return command{
		kind: b[3], base: h.Base, floor: h.Floor, id: h.ID, who: h.Who, when: time.UnixMilli(h.When).UTC(), audit: h.Audit,
		document: document,
	}, nil
}

// decodeHead refuses fields that it does not know: they would be rules that are not followed.
func decodeHead(b []byte) (h commandHead, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return h, fmt.Errorf("head of a log entry: %w (%w)", err, errFromFuture)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return h, errors.New("head of a log entry: bytes after it")
	}
	if len(h.Who) > maxWho {
		return h, fmt.Errorf("log entry with an author of %d bytes", len(h.Who))
	}
	return h, nil
}

// cut takes a part off b: u32 length, then so many bytes.
func cut(b []byte, most int) (part, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errors.New("log entry is cut short")
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if n > uint64(most) || n > uint64(len(b)-4) {
		return nil, nil, fmt.Errorf("log entry says %d bytes and holds %d", n, len(b)-4)
	}
	return b[4 : 4+n], b[4+n:], nil
}
