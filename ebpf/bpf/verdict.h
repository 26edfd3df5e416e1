/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The numbers that the XDP program and its Go twin share. They are stable: dashboards and drop records carry
 * them, so a number is never used again for something else. verdict.go has the same lists, and a test compares
 * the two files.
 */
#ifndef TERN_VERDICT_H
#define TERN_VERDICT_H

/* What kind of datagram it is. MESH and ACCESS mean "for that port, kind not (yet) known". */
enum tern_class {
	TERN_CLASS_NONE = 0,
	TERN_CLASS_MESH = 1,
	TERN_CLASS_ACCESS = 2,
	TERN_CLASS_GOSSIP = 3,
	TERN_CLASS_PATH = 4,
	TERN_CLASS_QUIC = 5,
	TERN_CLASS_STUN = 6,
	TERN_CLASS_DTLS = 7,
	TERN_CLASS_RTP = 8,
	TERN_CLASS_RTCP = 9,
};

/* Why. Each reason has exactly one action: reasons below TERN_FIRST_DROP pass, the others drop. */
enum tern_reason {
	TERN_REASON_OK = 0,
	TERN_REASON_NOT_OURS = 1,
	TERN_REASON_FRAGMENT_REST = 2,
	TERN_REASON_FRAGMENT_PASSED = 3,
	TERN_REASON_UFRAG = 4,
	TERN_REASON_STRANGER = 5,

	TERN_REASON_TRUNCATED = 16,
	TERN_REASON_MALFORMED = 17,
	TERN_REASON_EXT_HEADERS = 18,
	TERN_REASON_FRAGMENT = 19,
	TERN_REASON_BLOCKLIST = 20,
	TERN_REASON_EMPTY = 21,
	TERN_REASON_BAD_CLASS = 22,
	TERN_REASON_SHORT = 23,
	TERN_REASON_BAD_VERSION = 24,
	TERN_REASON_BAD_HOPS = 25,
	TERN_REASON_BAD_KIND = 26,
	TERN_REASON_BAD_LENGTH = 27,
	TERN_REASON_BAD_FENCE = 28,
	TERN_REASON_BAD_COOKIE = 29,
	TERN_REASON_NOT_MEMBER = 30,
	TERN_REASON_NOT_ADMITTED = 31,
	TERN_REASON_RATE = 32,
	TERN_REASON_RATE_SOURCE = 33,
	TERN_REASON_BUDGET = 34,
	TERN_REASON_QUARANTINE = 35,
};

/* Rates. PEER and FLOW are per member and per admitted client, SOURCE per unknown source, BUDGET for the node. */
enum tern_limit {
	TERN_LIMIT_PEER = 0,
	TERN_LIMIT_PEER_GOSSIP = 1,
	TERN_LIMIT_FLOW = 2,
	TERN_LIMIT_FLOW_CONTROL = 3,
	TERN_LIMIT_SOURCE_UFRAG = 4,
	TERN_LIMIT_SOURCE_STUN = 5,
	TERN_LIMIT_SOURCE_MESH = 6,
	TERN_LIMIT_BUDGET_UFRAG = 7,
	TERN_LIMIT_BUDGET_STUN = 8,
	TERN_LIMIT_BUDGET_QUIC = 9,
	TERN_LIMIT_BUDGET_GOSSIP = 10,
};
#define TERN_LIMITS 11

#define TERN_FIRST_DROP 16
#define TERN_REASON_BITS 6
#define TERN_CLASS_BITS 4
#define TERN_COUNTERS (1 << (TERN_REASON_BITS + TERN_CLASS_BITS))

/* A verdict in 32 bits: 6 bits reason, 4 bits class, 22 bits number of the matching rule (0 = none). */
#define TERN_RULE_SHIFT (TERN_REASON_BITS + TERN_CLASS_BITS)

/* Bounds that both sides keep. */
#define TERN_MAX_VLANS 2
#define TERN_MAX_EXT_HEADERS 6
#define TERN_MAX_RULES 100000
#define TERN_STEPS 262144 /* each rule cuts the address space twice at most; rounded up to a power of two */
#define TERN_SEARCH 9 /* quarterings of TERN_STEPS */
#define TERN_NODES 16384 /* a power of two, like the next */
#define TERN_JUMPS 131072
#define TERN_LEVELS 4 /* of nodes above one another */

/* The live rules (guard.h). */
#define TERN_GUARD_MESH 1
#define TERN_GUARD_ACCESS 2
#define TERN_MAX_PEERS 8192
#define TERN_MAX_FLOWS 65536
#define TERN_MAX_WALLS 1024
#define TERN_SETS 16384 /* a power of two */
#define TERN_WAYS 4
#define TERN_UFRAG 32 /* characters: 12 of id, 4 of epoch, 16 of MAC */
#define TERN_UFRAG_EPOCH_NS 3600000000000
#define TERN_UFRAG_EPOCHS 168 /* how long a ufrag proves something, in epochs */
#define TERN_MAX_ATTRIBUTES 8 /* of a STUN message, looked through for the ufrag */
#define TERN_STUN_USERNAME 6

/* Samples of drops: of each class and reason the first and every SAMPLE_EVERY-th on a processor, within a rate. */
#define TERN_SAMPLE_EVERY 64 /* a power of two */
#define TERN_SAMPLE_INTERVAL_NS 10000000
#define TERN_SAMPLE_BURST 100
#define TERN_SAMPLE_BYTES 96
#define TERN_SAMPLE_RING 65536

/* Relaying (relay.h). */
#define TERN_MAX_ONWARD 8192
#define TERN_RELAY_FRESH_MS 9500 /* half a second less than the relay in user space allows */
#define TERN_RELAY_BURST_NS 187500000 /* three quarters of its burst: what is left decides about the congestion bit there */
#define TERN_RELAY_MAX 1372 /* bytes of a path frame */

/* Smallest UDP payload of each class, in bytes; doc.go says where each figure comes from. */
#define TERN_MIN_GOSSIP 30
#define TERN_MIN_PATH 30
#define TERN_MIN_QUIC_SHORT 21
#define TERN_MIN_QUIC_LONG 11
#define TERN_MIN_STUN 20
#define TERN_MIN_DTLS 13
#define TERN_MIN_RTP 12
#define TERN_MIN_RTCP 8

#endif
