package lease

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	invitationPrefix = "tern-invitation-1."
	// maxInvitation bounds an invitation as it is handed over, in bytes.
	maxInvitation = 2048
)

// Invitation is what an operator hands to whoever sets up a machine: with it, once, a first lease is given.
type Invitation struct {
	Mesh   string `json:"mesh"`
	Node   string `json:"node"`
	Pin    string `json:"pin"`    // SHA-256 of the mesh's CA certificate, hex
	Secret string `json:"secret"` // 32 hex digits
}

// String is the invitation as one line. It holds the secret.
func (i Invitation) String() string {
	b, _ := json.Marshal(i) // plain fields: it cannot fail
	return invitationPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseInvitation reads what String made, with white space around it.
func ParseInvitation(s string) (Invitation, error) {
	s = strings.TrimSpace(s)
	rest, ok := strings.CutPrefix(s, invitationPrefix)
	if !ok || len(s) > maxInvitation {
		return Invitation{}, fmt.Errorf("that is not an invitation: it is one line that begins with %s", invitationPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	var i Invitation
	if err == nil {
		err = decodeStrictly(b, &i)
	}
	if err != nil || !name.MatchString(i.Mesh) || !name.MatchString(i.Node) || !keyHex.MatchString(i.Pin) || !nonce.MatchString(i.Secret) {
		return Invitation{}, errors.New("the invitation is damaged: copy all of its line")
	}
	return i, nil
}

// Invited is an invitation as the authority keeps it, without the secret.
type Invited struct {
	Hash        string `json:"hash"` // SHA-256 of the secret, hex
	Node        string `json:"node"`
	Region      string `json:"region"`
	Voter       bool   `json:"voter,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"` // of the only machine that may use it; empty: the first that comes
	Made        int64  `json:"made"`
	Expires     int64  `json:"expires"`
}

// HashSecret is how the authority keeps a secret.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte("tern invitation\n" + secret))
	return hex.EncodeToString(sum[:])
}

func (i Invited) opens(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(i.Hash), []byte(HashSecret(secret))) == 1
}

func (i Invited) open(now time.Time) bool { return now.Unix() < i.Expires }
