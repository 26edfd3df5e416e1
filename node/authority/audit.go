package authority

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	auditFile = "audit.jsonl"
	// oldAudit names the older files of the log; they are the operator's, to move away in order, the oldest first.
	oldAudit = "audit-%06d.jsonl"
	// rotateAt is how large the newest file of the log gets, in bytes.
	rotateAt = 64 << 20
	// maxLine bounds one line, in bytes.
	maxLine = 8 << 10
)

// Line is one entry of the audit log. Each names the hash of the line before, so that none can be changed or taken out unseen.
type Line struct {
	Time        int64  `json:"time"` // Unix seconds
	Prev        string `json:"prev"` // SHA-256 of the line before, hex; empty in the first
	Action      string `json:"action"`
	Who         string `json:"who"` // the machine's address, or the operator's name on this host
	Node        string `json:"node,omitempty"`
	Region      string `json:"region,omitempty"`
	Voter       bool   `json:"voter,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Key         string `json:"key,omitempty"`
	Serial      string `json:"serial,omitempty"`
	Expires     int64  `json:"expires,omitempty"`
	Note        string `json:"note,omitempty"`
}

// The actions.
const (
	ActionLease   = "lease"
	ActionInvite  = "invite"
	ActionApprove = "approve"
	ActionDeny    = "deny"
)

func hashLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// append adds lines to the log and returns the newest one's hash; the lock is held.
func (s Store) append(lines []Line) (head string, err error) {
	path := filepath.Join(s.dir, auditFile)
	if head, err = s.rotate(path); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return "", err
	}
	defer file.Close()
	before, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	var text []byte
	for _, l := range lines {
		l.Prev = head
		b, err := json.Marshal(l)
		switch {
		case err != nil:
			return "", err
		case len(b) >= maxLine: // it could not be read back
			return "", fmt.Errorf("a line of %d bytes, less than %d are taken: give a shorter reason", len(b), maxLine)
		}
		head = hashLine(b)
		text = append(append(text, b...), '\n')
	}
	if _, err := file.Write(text); err != nil {
		return "", errors.Join(err, file.Truncate(before)) // no half line on a full disk
	}
	return head, file.Sync()
}

// rotate gives a log that has grown large a name of its own, and returns the hash of the newest line.
func (s Store) rotate(path string) (head string, err error) {
	files, err := s.auditFiles()
	if err != nil || len(files) == 0 {
		return "", err
	}
	newest := files[len(files)-1]
	if head, err = lastHash(newest); err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err != nil || info.Size() < rotateAt {
		return head, nil
	}
	number := 1
	if len(files) > 1 { // after the newest that is there: older ones may have been moved away
		if _, err := fmt.Sscanf(filepath.Base(files[len(files)-2]), oldAudit, &number); err != nil {
			return "", fmt.Errorf("%s is no file of the log (%w): move it away", files[len(files)-2], err)
		}
		number++
	}
	return head, os.Rename(path, filepath.Join(s.dir, fmt.Sprintf(oldAudit, number)))
}

// auditFiles lists the log's files, the oldest first.
func (s Store) auditFiles() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "audit-*.jsonl"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	newest := filepath.Join(s.dir, auditFile)
	if _, err := os.Stat(newest); err == nil {
		files = append(files, newest)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return files, nil
}

// lastHash reads the end of a file.
func lastHash(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return "", err
	}
	b := make([]byte, min(size, 2*maxLine))
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil {
		return "", err
	}
	if b[len(b)-1] != '\n' {
		return "", fmt.Errorf("%s ends in the middle of a line: take that away, it was never in force", file)
	}
	b = b[:len(b)-1]
	return hashLine(b[bytes.LastIndexByte(b, '\n')+1:]), nil
}

// Audit calls f with every line, the oldest first, and verifies the chain up to what the book knows. An error says where it is
// broken; f has had the lines before that.
func (s Store) Audit(f func(Line) error) (lines int, err error) {
	err = s.locked(unix.LOCK_SH, func() error {
		book, err := s.read()
		if err != nil {
			return err
		}
		files, err := s.auditFiles()
		if err != nil {
			return err
		}
		c := chain{wanted: book.Audit, seen: book.Audit == ""}
		for _, file := range files {
			if err := c.read(file, f); err != nil {
				return err
			}
		}
		lines = c.lines
		if !c.seen {
			return fmt.Errorf("the log lacks its end: the newest line that the book knows (%.12s) is not there", book.Audit)
		}
		return nil
	})
	return lines, err
}

// chain follows the log.
type chain struct {
	prev, wanted string
	seen         bool
	lines        int
}

func (c *chain) read(file string, f func(Line) error) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, maxLine)
	for n := 1; scan.Scan(); n++ {
		var l Line
		d := json.NewDecoder(strings.NewReader(scan.Text()))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("%s, line %d: %w", file, n, err)
		}
		if l.Prev != c.prev && (c.lines > 0 || c.prev != "") {
			return fmt.Errorf("%s, line %d does not follow the line before it: the log was changed", file, n)
		}
		c.prev = hashLine(scan.Bytes())
		c.seen = c.seen || c.prev == c.wanted
		c.lines++
		if err := f(l); err != nil {
			return err
		}
	}
	return scan.Err()
}
