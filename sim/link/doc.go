// Package link carries real UDP on this machine through one emulated link, so that browsers, ffmpeg and other programs can be put
// behind a bad last mile. WebRTC goes through it by its signalling: a proxy for WHIP and WHEP maps the server's ICE candidates to
// ports of the link.
//
//	link.go    Config, Link: the emulated link, Run
//	tunnel.go  one real port towards one real address: flows by source, idle ones end
//	http.go    the proxy: candidates out of offers, mapped in answers
//	sdp.go     rewriting candidate lines; pure
//
//	program ─UDP─▶ listen [tunnel] ═ sim.Network, near > far ═▶ [socket of the flow] ─UDP─▶ server
//
// # Who owns what
//
// Link.mu guards the tunnels. tunnel.mu guards its flows. Every goroutine runs under Link.Run, and ends with its context.
//
// # Invariants
//
// All flows share the link, its rate and its queue. A client's own candidates never reach the server: it could answer past the
// link. The server sees each flow come from a socket of its own, and learns the address from the client's checks.
//
// # Bounds
//
// maxTunnels for a link, maxFlows for a tunnel (newest refused, counted), flowIdle for a flow; what is under way and
// receive queues are bounded by package sim. Bodies of the proxy: maxBody.
//
// # What it does not do
//
// TCP candidates and names (mDNS) in answers are dropped. HTTP itself is not delayed. Only loopback is meant: no authentication.
package link
