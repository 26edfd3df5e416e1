// Package access lets clients in and out: WHIP, WHEP, RTP and SRTP, in both directions.
// It decides once who may enter (node/access/token), speaks WebRTC on one UDP port for
// everybody, and hands RTP packets to and from media, which learns of no token and no
// user: app, channel and stream ids are all that leaves this package.
//
// # Reading order: a session's way in, then a packet's way through
//
//	access.go     Config, New, Run: start, the one-second round, shutdown
//	http.go       routes, methods, CORS, problem answers
//	refusals.go   which refusals are logged
//	limits.go     joins per source address
//	quota.go      plain RTP ingests per app and source address; an app's limits
//	halfopen.go   which session gives way where too many wait for their clients to connect
//	admit.go      token -> grant -> the session's right and expiry
//	proxies.go    whose request it is, behind reverse proxies
//	owner.go      what the network's owner allows, by its headers; pure
//	used.go       room tokens that were used
//	renew.go      a session's pass, and a new token for it
//	whip.go       POST /whip/{app}/{channel}
//	whep.go       POST /whep/{app}/{channel}[/{stream}], counter-offers
//	rtp.go        POST /v1/apps/{app}/channels/{channel}/rtp, the ingest
//	rtpin.go      its ports: who may send, decryption, RTCP
//	rtpout.go     POST /v1/apps/{app}/channels/{channel}/rtp/out, the egress
//	rtpsdp.go     the bodies and the SDP of plain RTP
//	srtp.go       keys and suites
//	rtcp.go       what a receiver report says; pure
//	list.go       GET /v1/apps/{app}/channels/{channel}
//	patch.go      PATCH and DELETE of a session: trickle, restart, counter-answer
//	events.go     a session's event stream
//	departure.go  what it says while a node is drained or stops
//	frag.go       the SDP fragment of trickle ICE; pure
//	offer.go      what an SDP offers; pure
//	codecs.go     which codec a session uses; pure
//	session.go    sessions: registry, half-open, expiry, end
//	answer.go     candidates of our answers: where they stand, what they name; pure
//	peer.go       one pion PeerConnection per session, and its codecs
//	mux.go        the one UDP port, advertised under the addresses of Config
//	filter.go     what the packet filter is told: ufrags, proved addresses
//	bitrate.go    an app's limit on what one publisher sends
//	publisher.go  RTP from a WebRTC publisher into media; keyframe requests to it
//	estimate.go   REMB to a publisher: what the mesh can carry of its stream
//	audience.go   the viewers of one stream: packets shared and kept, written by shards
//	frames.go     a picture's packets, until all are here
//	viewer.go     one viewer: headers, encryption, repair, sender reports
//	seal.go       encryption of RTP to a viewer
//	freeze.go     when the picture of a viewer stood still, and how viewers fare
//	reports.go    a viewer's RTCP: requests, losses, what arrived
//	estimator.go  what a viewer's last mile carries; pure
//	layers.go     which simulcast layer fits it; pure
//	choice.go     the layer that goes out, and its change
//	keyframes.go  where a keyframe begins; pure
//	viewertrack.go what the library negotiates for it, and its keys
//	runs.go       the packets of a burst to one viewer as one system call
//	twins.go      one source that comes from two nodes while its publisher moves; pure
//	splice.go     joins two sources of one stream into one RTP sequence; pure
//	hub.go        what is asked of media
//	stats.go      counters and their snapshot
//	trace.go      the trace of a join, from its request to the first packet
//	pionlog.go    the library's log, at debug level
//
// # Who owns what
//
// Access.mu guards the registry and the closed flag. A session's end runs once, by
// whoever comes first: DELETE, the round, media, the peer, Reauthorise or shutdown.
// session.negotiation serialises PATCHes of one session. An audience's packets are
// brought by media through any of its viewers, and written by its shards: a shard's
// goroutine holds the shard's lock for a burst, and with it its viewers' numbers and
// keys. All goroutines are started by spawn; Run waits for them, at most 3 s.
//
// # Bounds
//
//	sessions of the node        Config.MaxSessions, then 503
//	joins per source address    Config.JoinRate, then 429; 4,096 addresses, least recent forgotten
//	PATCHes per source address  Config.PatchRate, then 429
//	log lines per reason        10 at once, 1 each second, then a sum every 10 s
//	body                        64 KiB, then 413
//	arrivals of a publisher's tracks  32, then its session ends
//	simulcast layers            4, or the offer is taken for one encoding
//	feedback awaited            1,024 packets of a viewer
//	candidates of one peer      64, the rest ignored
//	event streams                2 of a session, the oldest gives way; 2,048 read at a node, then 503
//	reader of events             5 s for what it is sent, then its stream ends
//	picture that is not complete  16 packets, 1 ms; then its packets leave as they come
//	queue of a shard            512 packets, newest dropped and counted for each viewer
//	kept for repair             512 packets of a track of a stream, oldest let go
//	repair of one viewer        half of what it is sent, 128 at once, then counted
//	queue of an RTP egress      512 packets, newest dropped and counted
//	half-open sessions          256 of a source, then 429; half of Config.MaxSessions in all, then the oldest of
//	                            the token that has most gives way; 503 where that is the client's own, for 5 s
//	half-open session           15 s (30 s for a counter-offer nobody answered)
//	plain RTP sessions          32 of an app (or a quarter of the sessions), 8 of an address, then 429
//	silent RTP ingest           15 s; 10 s until its first packet
//	RTP packet                  1,500 bytes, longer ones dropped and counted
//
// # Invariants
//
//   - Plain RTP leaves only for the address that asked for it, which TCP has proved, and
//     enters from the address that was named, or with a key.
//   - A refusal is precise in the log and vague on the wire. An unknown app is refused
//     like a bad token, after the same work.
//   - Who is on the blocklist gets no answer but a bare 403, and none of its plain RTP
//     passes (Config.Allow). The port of WebRTC has the packet filter in front.
//   - RTP payloads pass unchanged. Towards viewers SSRC and payload type are the
//     session's; header extensions are removed, because their numbers and the MID in
//     them belong to the publisher's connection, and a transport-wide number is added.
//   - A viewer's layer changes at a keyframe, with numbers and clock going on.
//   - Writing to one viewer never waits: not for the network, not for another viewer.
//   - An event stream holds no queue: whoever reads it is told what holds now.
//   - A session ends within one round (1 s) of its expiry.
//   - A WebRTC publisher's stream is announced once ICE checks of its client have come, not by its offer.
//   - A stream uses one codec per track, fixed when its offer was answered.
//
// # What it does not do
//
// No padding to find out what a viewer's last mile carries beyond what it is sent: the
// next simulcast layer is tried instead. No estimate of viewers of a stream without
// layers, nor where the library writes, but by REMB. Layers that nobody watches cross the mesh all the same, and where end-to-end
// encryption hides the codec's header a viewer stays with its first layer. A viewer
// whose pair changes to TCP in the middle is ended, to come back. A session whose counter-offer was answered
// cannot restart ICE. No app can have the id "s", which the policy refuses: its paths
// are those of sessions. Sender reports to viewers take their clock from this node, so
// audio and video are in step only as far as they arrive in step. Used room tokens are
// remembered at the node where they were used, and not by others.
package access
