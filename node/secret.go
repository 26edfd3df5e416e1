package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// loadSecret reads the node's relay secret (32 bytes) from its data directory, or makes it the first time. A
// restart with the same secret keeps the relay keys that other nodes hold valid.
func loadSecret(dir string) (secret [32]byte, err error) {
	file := filepath.Join(dir, "relay.secret")
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err = rand.Read(secret[:]); err != nil {
			return secret, err
		}
		return secret, os.WriteFile(file, secret[:], 0o600)
	case err != nil:
		return secret, err
	case len(b) != len(secret):
		return secret, fmt.Errorf("%s holds %d bytes instead of %d: remove it (peers fetch new keys within seconds) or restore it", file, len(b), len(secret))
	}
	copy(secret[:], b)
	return secret, nil
}

// nextIncarnation returns a number that grows with every start of the node: Unix seconds, or one more than the last start's
// if that is later (two starts within a second, or a clock that went back).
func nextIncarnation(dir string, now time.Time) (uint32, error) {
	file := filepath.Join(dir, "incarnation")
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	next := uint64(now.Unix())
	if err == nil {
		last, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%s is not a number: remove it", file)
		}
		next = max(next, last+1)
	}
	return uint32(next), os.WriteFile(file, strconv.AppendUint(nil, next, 10), 0o600)
}
