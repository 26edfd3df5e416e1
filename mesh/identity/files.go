package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY"
)

// writePEM writes one PEM block, so that a reader sees the old file or the whole new one: temporary file, sync, rename.
func writePEM(file, kind string, der []byte, mode fs.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
			err = fmt.Errorf("write %s: %w", file, err)
		}
	}()
	err = errors.Join(
		tmp.Chmod(mode), // before the first byte, so that a key is never readable by others
		pem.Encode(tmp, &pem.Block{Type: kind, Bytes: der}),
		tmp.Sync(),
		tmp.Close(),
	)
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// writeKey writes a private key in PKCS #8, readable by the owner alone.
func writeKey(file string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key for %s: %w", file, err)
	}
	return writePEM(file, pemKey, der, 0o600)
}

// readPEM reads the first block of the wanted kind.
func readPEM(file, kind string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err // *PathError names the file already
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("%s has no PEM block %q; is it the right file?", file, kind)
		}
		if block.Type == kind {
			return block.Bytes, nil
		}
	}
}

func readCert(file string) (*x509.Certificate, error) {
	der, err := readPEM(file, pemCert)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged (%w); issue it again", file, err)
	}
	return cert, nil
}

// readKey reads a node's or the CA's key.
func readKey(file string) (*ecdsa.PrivateKey, error) {
	return readPrivate[*ecdsa.PrivateKey](file, "a mesh key is ECDSA P-256")
}

// readEdKey reads the key of an authority.
func readEdKey(file string) (ed25519.PrivateKey, error) {
	return readPrivate[ed25519.PrivateKey](file, "an authority's key is Ed25519 (`tern ca authority` makes it)")
}

// readPrivate reads a private key in PKCS #8; wanted is said of one of another kind.
func readPrivate[K crypto.Signer](file, wanted string) (key K, err error) {
	der, err := readPEM(file, pemKey)
	if err != nil {
		return key, fmt.Errorf("read key: %w", err)
	}
	held, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return key, fmt.Errorf("%s is damaged (%w); issue it again", file, err)
	}
	key, ok := held.(K)
	if !ok {
		return key, fmt.Errorf("%s holds a %T; %s", file, held, wanted)
	}
	return key, nil
}

// refuseExisting errors if one of the files is there already.
func refuseExisting(files ...string) error {
	for _, file := range files {
		_, err := os.Lstat(file)
		if err == nil {
			return fmt.Errorf("%s exists already; a mesh has one CA for life. To start a new mesh choose another directory", file)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
