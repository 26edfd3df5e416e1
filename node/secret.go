package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
