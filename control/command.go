package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Entry layout of the raft log, all integers big-endian:
//
//	0  2  "TC"
//	2  1  format, 1
//	3  1  type, 1 = apply a policy
//	4  8  base: the version that the proposer saw; the entry counts only if it is still the current one
//	12 8  floor: the highest version known outside of this log; see state.current
//	20 8  when, Unix milliseconds at the proposer
//	28 2  length of who, then who
//	   4  length of the document, then the document
const (
	commandFormat = 1
	commandApply  = 1
	commandFixed  = 30
)

// maxWho bounds the name in an audit line, in bytes.
const maxWho = 256

// errFromFuture means that a newer program wrote something that this one cannot read. Skipping it would make two
// nodes disagree about the policy, so whoever meets it stops applying.
var errFromFuture = errors.New("written by a newer version of this program: upgrade this node")

// command is one entry of the log.
type command struct {
	base, floor uint64
	who         string
	when        time.Time
	document    []byte // stored form, secrets included
}

// encode appends nothing to anything: it returns the entry.
func (c command) encode() ([]byte, error) {
	if len(c.who) > maxWho || len(c.document) > MaxDocumentBytes {
		return nil, fmt.Errorf("command too large: who %d bytes, document %d bytes", len(c.who), len(c.document))
	}
	b := make([]byte, 0, commandFixed+len(c.who)+4+len(c.document))
	b = append(b, 'T', 'C', commandFormat, commandApply)
	b = binary.BigEndian.AppendUint64(b, c.base)
	b = binary.BigEndian.AppendUint64(b, c.floor)
	b = binary.BigEndian.AppendUint64(b, uint64(c.when.UnixMilli()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.who)))
	b = append(b, c.who...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.document)))
	return append(b, c.document...), nil
}

// decodeCommand reads an entry; the result shares memory with it.
func decodeCommand(b []byte) (command, error) {
	if len(b) < 4 || b[0] != 'T' || b[1] != 'C' {
		return command{}, errors.New("log entry is not a command")
	}
	if b[2] != commandFormat || b[3] != commandApply {
		return command{}, fmt.Errorf("log entry of format %d and type %d: %w", b[2], b[3], errFromFuture)
	}
	if len(b) < commandFixed+4 {
		return command{}, errors.New("log entry is cut short")
	}
	c := command{
		base:  binary.BigEndian.Uint64(b[4:]),
		floor: binary.BigEndian.Uint64(b[12:]),
		when:  time.UnixMilli(int64(binary.BigEndian.Uint64(b[20:]))).UTC(),
	}
	who := int(binary.BigEndian.Uint16(b[28:]))
	rest := b[commandFixed:]
	if who > maxWho || len(rest) < who+4 {
		return command{}, errors.New("log entry is cut short in its author")
	}
	c.who, rest = string(rest[:who]), rest[who:]
	size := binary.BigEndian.Uint32(rest)
	if c.document = rest[4:]; uint64(size) != uint64(len(c.document)) || size > MaxDocumentBytes {
		return command{}, fmt.Errorf("log entry says %d bytes of document and holds %d", size, len(c.document))
	}
	return c, nil
}
