package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

const signPrefix = "tern signature v1\x00"

// ErrSignature is wrapped when a signature is not the certificate's over that message in that context.
var ErrSignature = errors.New("signature does not match")

// Sign signs msg for one purpose, context (1-255 bytes, like "health"). It returns the node's certificate (DER), which
// a verifier needs, and the signature (ASN.1, at most 72 bytes).
func (id *Identity) Sign(context string, msg []byte) (certDER, sig []byte, err error) {
	digest, err := signDigest(context, msg)
	if err != nil {
		return nil, nil, err
	}
	own := id.Cert()
	key, ok := own.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("sign %s: the identity holds no ECDSA key", context)
	}
	sig, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", context, err)
	}
	return own.Certificate[0], sig, nil
}

// Verify checks that a node of this mesh signed msg in that context: certificate chain, its validity now (time.Now),
// mesh name, then the signature. It returns the signer. The inputs may come straight from the network.
func (id *Identity) Verify(context string, msg, certDER, sig []byte) (Peer, error) {
	digest, err := signDigest(context, msg)
	if err != nil {
		return Peer{}, err
	}
	signer, err := id.checkDER(certDER, id.now())
	if err != nil {
		return Peer{}, fmt.Errorf("verify signer of %s: %w", context, err)
	}
	if !id.memo.verified(digest, certDER, sig, func() bool { return ecdsa.VerifyASN1(signer.key, digest[:], sig) }) {
		return Peer{}, fmt.Errorf("verify %s of node %q: %w", context, signer.peer.Node, ErrSignature)
	}
	return signer.peer, nil
}

// signDigest hashes context and message so that no two pairs share an input.
func signDigest(context string, msg []byte) (digest [sha256.Size]byte, err error) {
	if len(context) == 0 || len(context) > 255 {
		return digest, fmt.Errorf("signature context has %d bytes; use 1-255", len(context))
	}
	h := sha256.New()
	h.Write([]byte(signPrefix))
	h.Write([]byte{byte(len(context))})
	h.Write([]byte(context))
	h.Write(msg)
	h.Sum(digest[:0])
	return digest, nil
}
