package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

const (
	// Path is where an authority is asked for leases: a Request by POST.
	Path = "/v1/lease"
	// MaxRequestBytes bounds a request to an authority; the lease that goes along is about 3 KB.
	MaxRequestBytes = 32 << 10
	// MaxSkew is how far a machine's clock may be from the authority's.
	MaxSkew = 120 * time.Second
	// secretDigits and nonceDigits are lengths in hex digits.
	secretDigits = 32
	nonceDigits  = 32
)

// Request is what a machine asks an authority. The key that the certificate is for is not in it: the machine proves that key in
// the TLS handshake.
type Request struct {
	Version     int    `json:"version"`
	Mesh        string `json:"mesh"`
	Node        string `json:"node"`
	Fingerprint string `json:"fingerprint"`
	Nonce       string `json:"nonce"`                // 32 hex digits, drawn for this request
	Time        int64  `json:"time"`                 // the machine's clock, Unix seconds
	Invitation  string `json:"invitation,omitempty"` // its secret; for the first lease
	Previous    *Lease `json:"previous,omitempty"`   // the lease that the machine has
}

// Refusal is an authority's answer instead of a lease.
type Refusal struct {
	Code string `json:"code"`
	Text string `json:"error"`
	Why  string `json:"-"` // for the authority's log alone
}

// The codes of refusals. All but CodeBusy and CodeNotServing will be the same an hour later.
const (
	CodeBadRequest = "bad_request"
	CodeNotListed  = "not_listed"
	CodeDenied     = "denied"
	CodeMachine    = "other_machine"
	CodeInvitation = "bad_invitation"
	CodeClock      = "clock"
	CodeNotServing = "not_serving"
	CodeBusy       = "busy"
	CodeInternal   = "internal"
)

// Error implements error.
func (r Refusal) Error() string { return r.Text }

// Is makes a refusal of a machine that may have no lease an ErrNotListed.
func (r Refusal) Is(target error) bool {
	switch r.Code {
	case CodeClock:
		return target == ErrClock
	case CodeNotListed, CodeDenied, CodeMachine, CodeInvitation:
		return target == ErrNotListed
	}
	return false
}

var (
	nonce  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	name   = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	keyHex = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// ValidKey says whether s has the form of a key's id: 64 lower-case hex digits.
func ValidKey(s string) bool { return keyHex.MatchString(s) }

// DecodeRequest reads a request, strictly: everything but the invitation and the previous lease, which mean something only to
// an authority's book, has its form. The bytes come from anywhere.
func DecodeRequest(b []byte) (Request, error) {
	if len(b) > MaxRequestBytes {
		return Request{}, fmt.Errorf("request of %d bytes, at most %d are read", len(b), MaxRequestBytes)
	}
	var r Request
	if err := decodeStrictly(b, &r); err != nil {
		return Request{}, fmt.Errorf("request: %w", err)
	}
	switch {
	case r.Version != FileVersion:
		return Request{}, fmt.Errorf("request of version %d; this authority reads %d", r.Version, FileVersion)
	case !name.MatchString(r.Mesh) || !name.MatchString(r.Node):
		return Request{}, errors.New("request: mesh and node are 1 to 63 of a-z, 0-9 and -")
	case !ValidFingerprint(r.Fingerprint):
		return Request{}, errors.New("request: the fingerprint is not 32 lower-case hex digits")
	case !nonce.MatchString(r.Nonce):
		return Request{}, errors.New("request: the nonce is not 32 lower-case hex digits")
	case r.Invitation != "" && len(r.Invitation) != secretDigits:
		return Request{}, errors.New("request: that is not an invitation's secret")
	}
	return r, nil
}

// Fits says whether a lease is the answer to r, at a clock that shows now. The lease's own signature is Check's.
func (r Request) Fits(l Lease, now time.Time, tolerance time.Duration) error {
	g := l.Grant
	ahead := now.Sub(time.Unix(g.Issued, 0))
	switch {
	case g.Nonce != r.Nonce:
		return errors.New("the lease answers another request")
	case g.Fingerprint != r.Fingerprint:
		return errors.New("the lease is for another machine")
	case ahead < -max(tolerance, time.Second):
		return fmt.Errorf("%w: this machine's clock is %v behind the authority's; put it right (NTP)", ErrClock, -ahead.Round(time.Second))
	case ahead > MaxSkew:
		return fmt.Errorf("%w: this machine's clock is %v ahead of the authority's; put it right (NTP)", ErrClock, ahead.Round(time.Second))
	}
	return nil
}

// ErrClock is wrapped when the clocks of a machine and of an authority are too far apart for a lease.
var ErrClock = errors.New("clocks differ")

// decodeStrictly reads one JSON document and nothing after it; unknown fields are errors.
func decodeStrictly(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the document")
	}
	return nil
}
