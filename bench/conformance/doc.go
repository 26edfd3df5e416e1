// Package conformance asks a WHIP or WHEP server the questions of its specification,
// over HTTP and WebRTC, and says what it answered. It knows nothing of Tern and can be
// pointed at any server.
//
//	conformance.go   Config, Run, Report: the checks in order, one session each
//	client.go        requests, offers, peers
//	whip.go          the checks of WHIP (RFC 9725), and those that both share
//	session.go       those of a session: its URL, PATCH, DELETE
//	whep.go          the checks of WHEP (draft-ietf-wish-whep)
//
// A check is must, should or may, as the text has it: only a failed must fails the run. A
// check that the server's own choices make void (no ICE restarts, no trickle) is
// skipped, with the reason. Every session that a check opens is deleted again.
//
// Not here: redirects between servers, load balancing, TURN and STUN of Link headers,
// and what cannot be seen from outside (that unguessable URLs are random).
package conformance
