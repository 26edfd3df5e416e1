package braid

import (
	"crypto/tls"
	"slices"
)

// A session speaks the newest protocol that both ends offer, as ALPN says before anything else is exchanged, so nodes of
// neighbouring versions work together while a mesh is upgraded node by node. What protocol 2 has more than 1: reports in
// sections (report.go), feedback for budgets (pacefeed.go; without it a sender limits nothing), the copies bits of the path
// frame's kind byte, path probes.
const (
	protocolFixed    = 1 // reports of fixed layout
	protocolSections = 2
	protocolNewest   = protocolSections
)

// ALPN is the newest protocol that the QUIC connections of braids speak. The number behind the slash is the hello's first
// byte as well.
const ALPN = "tern-braid/2"

// offered protocols, the newest first.
var offered = []string{ALPN, "tern-braid/1"}

// protocolOf is the number of a negotiated protocol, 0 if it is none of ours.
func protocolOf(cs tls.ConnectionState) uint8 {
	i := slices.Index(offered, cs.NegotiatedProtocol)
	if i < 0 {
		return 0
	}
	return uint8(protocolNewest - i)
}

func withALPN(c *tls.Config, protocols []string) *tls.Config {
	c = c.Clone()
	c.NextProtos = protocols
	return c
}
