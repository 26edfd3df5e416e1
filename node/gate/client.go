package gate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// Target is an admin listener and the proof of who asks.
type Target struct {
	// Address is the path of a Unix socket (anything with a slash and no "://"), HOST:PORT or a URL. HOST:PORT means
	// http on loopback and https elsewhere.
	Address string
	// TokenFile holds a bearer token; "" sends none.
	TokenFile string
	// CA is the mesh's CA (PEM): the listener must show a node certificate of it. "": the system's roots and the host's name.
	CA string
	// Cert and Key are a client certificate of the mesh's CA (PEM); "" shows none.
	Cert, Key string
}

// Client returns a client for the target and the base URL for its requests, without a slash at the end. The caller closes
// the client's idle connections.
func (t Target) Client() (client *http.Client, base string, err error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if base, err = t.route(transport); err != nil {
		return nil, "", err
	}
	if strings.HasPrefix(base, "https://") {
		if err := t.secure(transport.TLSClientConfig); err != nil {
			return nil, "", err
		}
	}
	if t.TokenFile == "" {
		return &http.Client{Transport: transport, CheckRedirect: stay}, base, nil
	}
	token, err := os.ReadFile(t.TokenFile)
	if err != nil {
		return nil, "", fmt.Errorf("token file: %w", err)
	}
	if strings.HasPrefix(base, "http://") && transport.DialContext == nil && !loopback(strings.TrimPrefix(base, "http://")) {
		return nil, "", fmt.Errorf("%s would carry the token in the clear: use https://", base)
	}
	return &http.Client{Transport: bearer{transport, strings.TrimSpace(string(token))}, CheckRedirect: stay}, base, nil
}

// stay follows no redirect: a token is for the listener that was named.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// route points the transport at the address.
func (t Target) route(transport *http.Transport) (base string, err error) {
	switch {
	case t.Address == "":
		return "", errors.New("no address of an admin listener")
	case strings.Contains(t.Address, "://"):
		return strings.TrimRight(t.Address, "/"), nil
	case strings.Contains(t.Address, "/") || !strings.Contains(t.Address, ":"):
		path := t.Address
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, path) }
		return "http://tern", nil
	case loopback(t.Address):
		return "http://" + t.Address, nil
	}
	return "https://" + t.Address, nil
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// secure sets whom the client trusts and what it shows.
func (t Target) secure(c *tls.Config) error {
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("a client certificate needs both its file and its key's")
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return fmt.Errorf("client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if t.CA == "" {
		return nil
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return fmt.Errorf("CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", t.CA)
	}
	// Node certificates name nodes, not hosts, so the library's check of host names is replaced by one of the chain.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		return err
	}
	return nil
}

// bearer adds the token.
type bearer struct {
	next  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// CloseIdleConnections lets http.Client do so.
func (b bearer) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
