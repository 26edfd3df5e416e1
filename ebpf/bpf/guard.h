/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The live rules: who may send what is in order. guard.go is the twin. Nothing here runs unless the settings ask for
 * it, and only well-formed datagrams of sources that are not blocked come here.
 */
#ifndef TERN_GUARD_H
#define TERN_GUARD_H

/* The compiler knows nothing of x here: neither its bounds nor where it came from. */
#define KEEP(x) asm volatile("" : "+r"(x))

/*
 * A rate as virtual scheduling (GCRA): a bucket is one number, the time at which it would be empty if nothing came.
 * A packet passes unless that time is more than `burst` ahead, and moves it by `interval`. One word per bucket: two
 * processors that race can let a packet too many through, but cannot tear or lose the bucket.
 */
struct limit {
	__u64 interval; /* ns per packet; 0 = no limit */
	__u64 burst;    /* ns */
};

struct settings {
	__be16 mesh_port; /* 0 = none */
	__be16 access_port;
	__u8 pass_fragments;
	__u8 guard; /* TERN_GUARD_... */
	__u8 pad[2];
	__u64 tick;      /* ns per jiffy */
	__u64 base;      /* the time at which hour 0 of the ufrags began */
	__u64 ufrag[2];  /* SipHash key of the ufrags */
	__u64 source[2]; /* SipHash key of the table of sources */
	struct limit limits[TERN_LIMITS];
};

struct address {
	__u64 hi, lo; /* IPv4 as ::ffff:a.b.c.d */
};

struct flow {
	struct address from;
	__u32 port;
	__u32 pad;
};

/* Of one member or one admitted client: bulk (frames, media) and the rest. */
struct buckets {
	__u64 at[2];
};

/*
 * Buckets of unknown sources. A source has one place in one set; the one whose bucket is emptiest makes room, and a
 * bucket that ran empty says nothing that a missing one does not.
 */
struct ways {
	__u64 at[TERN_WAYS];
	__u32 tag[TERN_WAYS];
};

/* user space writes peers and flows; a flood cannot make it evict any. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TERN_MAX_PEERS);
	__type(key, struct address);
	__type(value, struct buckets);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TERN_MAX_FLOWS);
	__type(key, struct flow);
	__type(value, struct buckets);
} flows SEC(".maps");

/* Sources in quarantine (IPv6: /64), and how many packets of each that dropped. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TERN_MAX_WALLS);
	__type(key, struct address);
	__type(value, __u64);
} walls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TERN_SETS);
	__type(key, __u32);
	__type(value, struct ways);
} sources SEC(".maps");

/* The buckets of the whole node, by TERN_LIMIT_BUDGET_...; then that of samples, and how many samples found no room. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TERN_LIMITS + 2);
	__type(key, __u32);
	__type(value, __u64);
} budgets SEC(".maps");

/* What test runs take for the time, and where tern_clock leaves it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} test_clock SEC(".maps");

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define SIPROUND                                                   \
	do {                                                       \
		v0 += v1; v1 = ROTL(v1, 13) ^ v0; v0 = ROTL(v0, 32); \
		v2 += v3; v3 = ROTL(v3, 16) ^ v2;                  \
		v0 += v3; v3 = ROTL(v3, 21) ^ v0;                  \
		v2 += v1; v1 = ROTL(v1, 17) ^ v2; v2 = ROTL(v2, 32); \
	} while (0)

/* SipHash-2-4 of two words and what stands behind them; last carries the message's length in its high byte. */
static __noinline __u64 siphash(__u64 k0, __u64 k1, __u64 a, __u64 b, __u64 last)
{
	__u64 v0 = 0x736f6d6570736575ULL ^ k0, v1 = 0x646f72616e646f6dULL ^ k1;
	__u64 v2 = 0x6c7967656e657261ULL ^ k0, v3 = 0x7465646279746573ULL ^ k1;

	v3 ^= a; SIPROUND; SIPROUND; v0 ^= a;
	v3 ^= b; SIPROUND; SIPROUND; v0 ^= b;
	v3 ^= last; SIPROUND; SIPROUND; v0 ^= last;
	v2 ^= 0xff;
	SIPROUND; SIPROUND; SIPROUND; SIPROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

/* Does the bucket let a packet through at now? *next is the bucket afterwards. */
static __always_inline int spare(__u64 at, const struct limit *l, __u64 now, __u64 *next)
{
	if (at < now)
		at = now;
	*next = at + l->interval;
	return at - now <= l->burst;
}

static __always_inline int take(__u64 *at, const struct limit *l, __u64 now)
{
	__u64 next;

	if (!spare(*at, l, now, &next))
		return 0;
	*at = next;
	return 1;
}

/*
 * An unknown source: its own rate first, so that one source cannot use up what all share; then the budget, so that
 * sources made up one after another cannot push others out of the table faster than the budget allows. IPv6 sources
 * count by their /64.
 */
static __always_inline __u32 stranger(const struct settings *set, struct address a, __u32 own, __u32 shared, __u64 now)
{
	__u64 h, next, least, *budget;
	__u32 index, tag, at = 0;
	struct ways *w;

	if (a.hi)
		a.lo = 0;
	h = siphash(set->source[0], set->source[1], a.hi, a.lo, 17ULL << 56 | own);
	index = h & (TERN_SETS - 1);
	tag = h >> 32 | 1;
	w = bpf_map_lookup_elem(&sources, &index);
	budget = bpf_map_lookup_elem(&budgets, &shared);
	if (!w || !budget)
		return TERN_REASON_BUDGET;
	least = w->at[0];
#pragma unroll
	for (int i = 1; i < TERN_WAYS; i++) {
		if (w->at[i] < least) {
			least = w->at[i];
			at = i;
		}
	}
	least = 0; /* a new source begins with an empty bucket */
#pragma unroll
	for (int i = 0; i < TERN_WAYS; i++) {
		if (w->tag[i] == tag) {
			at = i;
			least = w->at[i];
		}
	}
	if (own >= TERN_LIMITS || shared >= TERN_LIMITS || !spare(least, &set->limits[own], now, &next))
		return TERN_REASON_RATE_SOURCE;
	if (!take(budget, &set->limits[shared], now))
		return TERN_REASON_BUDGET;
	KEEP(at); /* so that the bound is said here, where it counts */
	at &= TERN_WAYS - 1;
	w->tag[at] = tag;
	w->at[at] = next;
	return TERN_REASON_STRANGER;
}

/*
 * Read only for packets whose fate depends on it. The kernel counts jiffies by its monotonic clock, and the program reads
 * them with one load; asking for the coarse clock, which moves no finer, took 13 ns, half a program that does nothing.
 */
static __always_inline __u64 clock(const struct settings *set, __u32 test)
{
	__u32 zero = 0;
	__u64 *at;

	if (!test)
		return bpf_jiffies64() * set->tick;
	at = bpf_map_lookup_elem(&test_clock, &zero);
	return at ? *at : 0;
}

/* Asked for strangers alone, so that nobody who is known pays for it. */
static __always_inline int walled(struct address a)
{
	__u64 *dropped;

	if (a.hi)
		a.lo = 0;
	dropped = bpf_map_lookup_elem(&walls, &a);
	if (!dropped)
		return 0;
	__sync_fetch_and_add(dropped, 1);
	return 1;
}

static __always_inline __u32 guard_mesh(const struct settings *set, struct address a, __u32 class, __u32 test)
{
	struct buckets *b = bpf_map_lookup_elem(&peers, &a);
	__u64 now;

	if (!b && class == TERN_CLASS_PATH)
		return TERN_REASON_NOT_MEMBER;
	if (!b && walled(a))
		return TERN_REASON_QUARANTINE;
	now = clock(set, test);
	if (b) {
		if (class == TERN_CLASS_GOSSIP)
			return take(&b->at[1], &set->limits[TERN_LIMIT_PEER_GOSSIP], now) ? TERN_REASON_OK : TERN_REASON_RATE;
		return take(&b->at[0], &set->limits[TERN_LIMIT_PEER], now) ? TERN_REASON_OK : TERN_REASON_RATE;
	}
	return stranger(set, a, TERN_LIMIT_SOURCE_MESH,
			class == TERN_CLASS_QUIC ? TERN_LIMIT_BUDGET_QUIC : TERN_LIMIT_BUDGET_GOSSIP, now);
}

/* Eight bytes of a packet as SipHash reads them. */
static __always_inline __u64 word(const __u8 *p)
{
	__u64 x = 0;

#pragma unroll
	for (int i = 7; i >= 0; i--)
		x = x << 8 | p[i];
	return x;
}

/* Eight characters 'a' to 'p' as 32 bits, the first in the lowest; ~0 if another character is among them. */
static __always_inline __u64 nibbles(__u64 x)
{
	x -= 0x6161616161616161ULL;
	if (x & 0xf0f0f0f0f0f0f0f0ULL)
		return ~0ULL;
	x = (x | x >> 4) & 0x00ff00ff00ff00ffULL;
	x = (x | x >> 8) & 0x0000ffff0000ffffULL;
	return (x | x >> 16) & 0xffffffffULL;
}

/* p is a USERNAME of at least TERN_UFRAG + 1 readable bytes: is the ufrag before the colon one of ours? */
static __always_inline int known(const struct settings *set, const __u8 *p, __u64 now)
{
	__u64 a = word(p), b = word(p + 8), lo = nibbles(word(p + 16)), hi = nibbles(word(p + 24)), issued;
	__u16 age;

	if (p[TERN_UFRAG] != ':' || (lo | hi) >> 32)
		return 0;
	if ((hi << 32 | lo) != siphash(set->ufrag[0], set->ufrag[1], a, b, 16ULL << 56))
		return 0;
	/* An hour ahead is no contradiction: two clocks were read. */
	issued = nibbles(b) >> 16;
	age = (now - set->base) / TERN_UFRAG_EPOCH_NS - issued + 1;
	return age <= TERN_UFRAG_EPOCHS + 1;
}

/* A Binding request names the receiver's ufrag first. p is the STUN header, length what it promises behind itself. */
static __always_inline int ufrag(const struct settings *set, const __u8 *p, void *end, __u32 length, __u64 now)
{
	__u32 at = TERN_MIN_STUN, kind, size;
	const __u8 *q;

	if ((void *)(p + 2) > end || p[0] || p[1] != 1)
		return 0;
	for (int i = 0; i < TERN_MAX_ATTRIBUTES; i++) {
		if (at + 4 > TERN_MIN_STUN + length || at > 0x7ff)
			return 0;
		q = p + at;
		if ((void *)(q + 4) > end)
			return 0;
		kind = (__u32)q[0] << 8 | q[1];
		size = (__u32)q[2] << 8 | q[3];
		if (at + 4 + size > TERN_MIN_STUN + length)
			return 0;
		if (kind == TERN_STUN_USERNAME) {
			if (size <= TERN_UFRAG || (void *)(q + 4 + TERN_UFRAG + 1) > end)
				return 0;
			return known(set, q + 4, now);
		}
		at += 4 + ((size + 3) & ~3U);
	}
	return 0;
}

static __always_inline __u32 guard_access(const struct settings *set, struct address a, __u32 port, __u32 class,
					  const __u8 *p, void *end, __u32 test)
{
	struct flow f = { .from = a, .port = port };
	struct buckets *b = bpf_map_lookup_elem(&flows, &f);
	__u32 reason;
	__u64 now;

	if (!b && (class != TERN_CLASS_STUN || (void *)(p + 4) > end))
		return TERN_REASON_NOT_ADMITTED;
	now = clock(set, test);
	if (b) {
		if (class == TERN_CLASS_RTP || class == TERN_CLASS_RTCP)
			return take(&b->at[0], &set->limits[TERN_LIMIT_FLOW], now) ? TERN_REASON_OK : TERN_REASON_RATE;
		return take(&b->at[1], &set->limits[TERN_LIMIT_FLOW_CONTROL], now) ? TERN_REASON_OK : TERN_REASON_RATE;
	}
	if (!ufrag(set, p, end, (__u32)p[2] << 8 | p[3], now))
		return walled(a) ? TERN_REASON_QUARANTINE : stranger(set, a, TERN_LIMIT_SOURCE_STUN, TERN_LIMIT_BUDGET_STUN, now);
	reason = stranger(set, a, TERN_LIMIT_SOURCE_UFRAG, TERN_LIMIT_BUDGET_UFRAG, now);
	return reason == TERN_REASON_STRANGER ? TERN_REASON_UFRAG : reason;
}

#endif
