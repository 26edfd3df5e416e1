package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
)

// askTimeout bounds one question to one authority.
const askTimeout = 10 * time.Second

// Dialer opens a TCP connection; net.Dialer's DialContext is one.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Client asks authorities for leases, as one machine.
type Client struct {
	Key         *ecdsa.PrivateKey
	Node        string
	Fingerprint string
	Tolerance   time.Duration    // see lease.Machine
	Dial        Dialer           // nil: the operating system's
	Now         func() time.Time // the wall clock; nil: time.Now
}

// Ask asks the authority at address (HOST:PORT) for a lease. previous is nil, or the lease that the machine has; invitation is
// its secret, or empty. What comes back is checked: signature, node, machine, nonce, clock, and that the certificate is for our
// key. A refusal is a lease.Refusal.
func (c Client) Ask(ctx context.Context, address string, t identity.Trust, previous *lease.Lease, invitation string) (lease.Lease, error) {
	conf, err := t.AuthorityTLS(c.Key)
	if err != nil {
		return lease.Lease{}, err
	}
	l, err := c.exchange(ctx, address, conf, t.Mesh, previous, invitation, func() identity.Trust { return t })
	if err != nil {
		return lease.Lease{}, fmt.Errorf("%s: %w", address, err)
	}
	return l, nil
}

// Reach makes a TLS connection with the authority at address and asks nothing; an error says why none came about.
func (c Client) Reach(ctx context.Context, address string, t identity.Trust) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conf, err := t.AuthorityTLS(c.Key)
	if err != nil {
		return err
	}
	raw, err := c.dialer()(ctx, "tcp", address)
	if err != nil {
		return err
	}
	conn := tls.Client(raw, conf)
	return errors.Join(conn.HandshakeContext(ctx), raw.Close())
}

// exchange asks over one connection of its own. trust is asked once the handshake is over: it may have come from there.
func (c Client) exchange(ctx context.Context, address string, conf *tls.Config, mesh string, previous *lease.Lease, invitation string, trust func() identity.Trust) (lease.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var n [16]byte
	if _, err := rand.Read(n[:]); err != nil {
		return lease.Lease{}, err
	}
	r := lease.Request{
		Version: lease.FileVersion, Mesh: mesh, Node: c.Node, Fingerprint: c.Fingerprint,
		Nonce: hex.EncodeToString(n[:]), Time: c.now().Unix(), Invitation: invitation, Previous: previous,
	}
	answer, err := c.post(ctx, address, conf, r)
	if err != nil {
		return lease.Lease{}, err
	}
	l, err := lease.Decode(answer)
	if err != nil {
		return lease.Lease{}, fmt.Errorf("the authority's answer: %w", err)
	}
	t := trust()
	if err := l.Check(t.Mesh, c.Node, t.AuthorityOf); err != nil {
		return lease.Lease{}, fmt.Errorf("the authority's answer: %w", err)
	}
	if err := r.Fits(l, c.now(), c.Tolerance); err != nil {
		return lease.Lease{}, err
	}
	peer, err := t.NodeOf(l.Grant.Certificate)
	if err != nil || peer.Node != c.Node || !c.Key.PublicKey.Equal(peer.Cert.PublicKey) {
		return lease.Lease{}, errors.New("the authority's answer holds a certificate that is not for this node and its key")
	}
	return l, nil
}

func (c Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c Client) dialer() Dialer {
	if c.Dial == nil {
		return (&net.Dialer{}).DialContext
	}
	return c.Dial
}

// post sends one request and returns the body of a good answer.
func (c Client) post(ctx context.Context, address string, conf *tls.Config, r lease.Request) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext: c.dialer(), TLSClientConfig: conf, DisableKeepAlives: true,
		TLSHandshakeTimeout: askTimeout, ResponseHeaderTimeout: askTimeout, MaxResponseHeaderBytes: 16 << 10,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+lease.Path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req) // follows no redirect
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, lease.MaxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	var refusal lease.Refusal
	if json.Unmarshal(answer, &refusal) != nil || refusal.Code == "" {
		return nil, fmt.Errorf("it answered %s: is that a lease authority?", resp.Status)
	}
	return nil, fmt.Errorf("refused: %w", refusal)
}
