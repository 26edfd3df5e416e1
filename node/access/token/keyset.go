package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithms of public keys, as in the JOSE header.
const (
	algES256 = "ES256"
	algEdDSA = "EdDSA"
)

const (
	// MaxKeySetBytes is the longest key set that is read.
	MaxKeySetBytes = 64 << 10
	maxKeys        = 64
)

// Key is one public key: an *ecdsa.PublicKey on P-256 (ES256) or an ed25519.PublicKey
// (EdDSA). ID is its kid, "" if it has none.
type Key struct {
	ID     string
	Public crypto.PublicKey
}

// algorithmOf returns the one algorithm of a key, "" for a key of no use here.
func algorithmOf(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return algES256
		}
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return algEdDSA
		}
	}
	return ""
}

// checkPublic verifies with the keys that the header's kid names, or with all of its
// algorithm if it names none or a key has no id.
func (h header) checkPublic(signed string, sig []byte, keys []Key) error {
	tried := false
	for _, k := range keys {
		if algorithmOf(k.Public) != h.Alg || (h.Key != "" && k.ID != "" && k.ID != h.Key) {
			continue
		}
		tried = true
		if jwt.GetSigningMethod(h.Alg).Verify(signed, sig, k.Public) == nil {
			return nil
		}
	}
	if !tried {
		return ReasonUnknownKey
	}
	return ReasonBadSignature
}

// jwk is one entry of a key set (RFC 7517, 7518, 8037).
type jwk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	ID    string `json:"kid"`
	Use   string `json:"use"`
	Alg   string `json:"alg"`
	X     string `json:"x"`
	Y     string `json:"y"`
	D     string `json:"d"`
}

// ParseKeySet reads a JWKS. Keys of other kinds or uses are skipped, as the RFC wants;
// a set without one that can be used is an error, and so is a private key in it.
func ParseKeySet(doc []byte) ([]Key, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if len(doc) > MaxKeySetBytes {
		return nil, fmt.Errorf("key set: %d bytes, at most %d", len(doc), MaxKeySetBytes)
	}
	if err := json.Unmarshal(doc, &set); err != nil {
		return nil, fmt.Errorf("key set: not a JSON object with keys: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set: %d keys, at most %d", len(set.Keys), maxKeys)
	}
	var out []Key
	for i, k := range set.Keys {
		if k.D != "" {
			return nil, fmt.Errorf("key set: key %d is private: publish public keys only", i)
		}
		public, err := k.public()
		if err != nil {
			return nil, fmt.Errorf("key set: key %d: %w", i, err)
		}
		if public != nil {
			out = append(out, Key{ID: k.ID, Public: public})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("key set: no key for ES256 (EC, P-256) or EdDSA (OKP, Ed25519)")
	}
	return out, nil
}

// public decodes a key; nil without an error for one that is of no use here.
func (k jwk) public() (crypto.PublicKey, error) {
	if k.Use != "" && k.Use != "sig" {
		return nil, nil
	}
	x, errX := segment.DecodeString(k.X)
	y, errY := segment.DecodeString(k.Y)
	switch {
	case k.Type == "EC" && k.Curve == "P-256" && (k.Alg == "" || k.Alg == algES256):
		if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
			return nil, errors.New("x and y are not 32 bytes of base64url each")
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	case k.Type == "OKP" && k.Curve == "Ed25519" && (k.Alg == "" || k.Alg == algEdDSA):
		if errX != nil || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("x is not 32 bytes of base64url")
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, nil
}

// ParsePublicKeys reads public keys as people have them in files: a JWKS, or PEM with
// public keys or certificates.
func ParsePublicKeys(doc []byte) ([]Key, error) {
	block, rest := pem.Decode(doc)
	if block == nil {
		return ParseKeySet(doc)
	}
	var out []Key
	for ; block != nil && len(out) < maxKeys; block, rest = pem.Decode(rest) {
		public, err := publicOf(block)
		if err != nil {
			return nil, err
		}
		out = append(out, Key{Public: public})
	}
	return out, nil
}

func publicOf(block *pem.Block) (public crypto.PublicKey, err error) {
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
		}
	case "PRIVATE KEY", "EC PRIVATE KEY":
		var signer crypto.Signer
		if signer, err = signerOf(block); err == nil {
			public = signer.Public()
		}
	default:
		return nil, fmt.Errorf("PEM block %q is no public key", block.Type)
	}
	if err == nil && algorithmOf(public) == "" {
		err = errors.New("the key is neither P-256 nor Ed25519")
	}
	return public, err
}

// ParseSigner reads a PEM private key for ES256 (P-256) or EdDSA (Ed25519). Its errors
// hold nothing of the key.
func ParseSigner(doc []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(doc)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	return signerOf(block)
}

func signerOf(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	if block.Type == "EC PRIVATE KEY" {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("PEM block %q is no private key", block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || algorithmOf(signer.Public()) == "" {
		return nil, errors.New("the private key is neither P-256 nor Ed25519")
	}
	return signer, nil
}
