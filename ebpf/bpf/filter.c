//go:build ignore

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet filter in the kernel. frame.go and payload.go are its twin: the same checks in the same order with the
 * same reasons. Functions stand in packet order. A change here without the same change there fails the
 * differential test.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "verdict.h"
#include "guard.h"
#include "relay.h"

/*
 * The kernel lets a program use helpers that are marked GPL-only (among them bpf_ktime_get_ns before Linux 5.8,
 * which rate limits need) only if this string names a licence from its fixed list. Apache-2.0, the licence of the
 * rest of the repository, is not on that list; so the C files are offered under MIT or GPL instead.
 */
char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define ETH_P_TAG_C 0x8100 /* 802.1Q */
#define ETH_P_TAG_S 0x88a8 /* 802.1ad */
#define IP4_MORE 0x2000
#define IP4_OFFSET 0x1fff
#define STUN_COOKIE 0x2112a442

/*
 * A blocklist is the address space cut where the answer changes: rule[i] (0 = not blocked) holds from start[i] up to
 * start[i+1]. Nodes narrow the search: steps.go says how, and image.go writes these images. The kernel's own LPM trie
 * walks a node per bit of difference, each a cache line: with 100,000 entries it took twice as long.
 */
struct node {
	__u64 base;
	__u64 same;
	__u32 at;
	__u32 last;
	__u32 shift;
	__u32 low;
};

struct index {
	struct node nodes[TERN_NODES];
	__u64 jump[TERN_JUMPS];
};

struct table4 {
	struct index index;
	__u32 start[TERN_STEPS];
	__u32 rule[TERN_STEPS];
	__u32 steps;
	__u32 pad;
};

struct table6 {
	struct index index;
	__u64 hi[TERN_STEPS];
	__u64 lo[TERN_STEPS];
	__u32 rule[TERN_STEPS];
	__u32 steps;
	__u32 pad;
};

/*
 * One generation of rules is settings[g], blocklist4[g] and blocklist6[g]. user space fills the generation that is not
 * in use and then stores g in `active`: a packet sees all of the old rules or all of the new ones.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct list4 {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct table4));
};

struct list6 {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct table6));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct list4);
} blocklist4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct list6);
} blocklist6 SEC(".maps");

/* Packets by (class, reason), index = the low 10 bits of a verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TERN_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* What the IP header says about the datagram behind it. */
#define FLAG_FRAGMENT 1  /* the first fragment of several */
#define FLAG_MALFORMED 2 /* the IP header contradicts itself; matters only for our ports */
#define FLAG_IP6 4
#define FLAG_TEST 8 /* a test run, with a clock of its own */
#define MAX_OFFSET 0x3fff /* more than all headers can take; the verifier wants a bound */

static __always_inline __u32 verdict(__u32 class, __u32 reason)
{
	return class << TERN_REASON_BITS | reason;
}

/*
 * The search has no branch on what it compares. The verifier follows both sides of every branch, and a search of 18
 * halvings would have a quarter of a million ways; and the processor would guess wrong at every other one.
 * KEEP stops the compiler from turning the arithmetic back into branches.
 */
/* x < y ? 1 : 0: the borrow of x - y */
static __always_inline __u64 less(__u64 x, __u64 y)
{
	__u64 borrow = (~x & y) | ((~x | y) & (x - y));

	KEEP(borrow);
	return borrow >> 63;
}

/* The same for 128 bits: the borrow of the low halves goes on into the high ones. */
static __always_inline __u64 less_wide(__u64 xh, __u64 xl, __u64 yh, __u64 yl)
{
	__u64 d = xh - yh - less(xl, yl), borrow = (~xh & yh) | ((~xh | yh) & d);

	KEEP(borrow);
	return borrow >> 63;
}

/* For the verifier, which does not know what user space writes. */
#define STEP(i) ((i) & (TERN_STEPS - 1))

/* Does step i of a table begin at or before the address? */
static __always_inline __u64 begun4(const struct table4 *t, __u32 i, __u64 a)
{
	__u64 d = (__u64)t->start[STEP(i)] - a - 1; /* 32 bits each: the difference has the sign */

	KEEP(d);
	return d >> 63;
}

static __always_inline __u64 begun6(const struct table6 *t, __u32 i, __u64 a, __u64 b)
{
	return 1 - less_wide(a, b, t->hi[STEP(i)], t->lo[STEP(i)]);
}

/*
 * SEARCH finds the last of n steps from `at` on that has begun; the first one has. Three looks that do not wait for each
 * other quarter what is left. A quarter is rounded down, so the last may be up to three steps longer than the
 * others: the next round takes that length for all, which only adds steps that have not begun.
 */
#define SEARCH(at, n, begun)                                             \
	do {                                                             \
		for (int i = 0; i < TERN_SEARCH && n >= 4; i++) {        \
			q = n >> 2;                                      \
			up = begun(at + q) + begun(at + 2 * q) + begun(at + 3 * q); \
			KEEP(up);                                        \
			at += q * (__u32)up;                             \
			n -= 3 * q;                                      \
		}                                                        \
		for (int i = 0; i < 2; i++) {                            \
			if (n < 2)                                       \
				break;                                   \
			up = begun(at + 1);                              \
			KEEP(up);                                        \
			at += (__u32)up;                                 \
			n--;                                             \
		}                                                        \
	} while (0)

/* The steps that are left to search: the first in the low half, their number in the high half. b is 0 for IPv4. */
static __always_inline __u64 near(const struct index *x, __u64 a, __u64 b, __u64 n)
{
	const __u64 one = 1ULL << 32;
	const struct node *d;
	__u64 at = 0, next = 0, slot, e, key;

	for (int i = 0; i < TERN_LEVELS; i++) {
		d = &x->nodes[next & (TERN_NODES - 1)];
		key = a;
		if (d->low) {
			key = b;
			if (a < d->same)
				return at | one;
			if (a > d->same)
				return at + n - 1 | one;
		}
		if (key < d->base)
			return at | one;
		slot = (key - d->base) >> (d->shift & 63);
		if (slot > d->last)
			slot = d->last;
		e = x->jump[d->at + slot & (TERN_JUMPS - 1)];
		at = e & 0xfffff;
		n = e >> 20 & 0xfffff;
		next = e >> 40;
		if (!next)
			break;
	}
	return at | n << 32;
}

static __always_inline __u32 blocked4(__u32 gen, __u32 a)
{
	void *list = bpf_map_lookup_elem(&blocklist4, &gen);
	__u32 zero = 0, at, n, q;
	struct table4 *t;
	__u64 left, up;

	if (!list)
		return 0;
	t = bpf_map_lookup_elem(list, &zero);
	if (!t)
		return 0;
	left = near(&t->index, a, 0, t->steps);
	at = left;
	n = left >> 32;
#define BEGUN(i) begun4(t, i, a)
	SEARCH(at, n, BEGUN);
#undef BEGUN
	return t->rule[STEP(at)];
}

/* a and b are the high and low half of the address. */
static __always_inline __u32 blocked6(__u32 gen, __u64 a, __u64 b)
{
	void *list = bpf_map_lookup_elem(&blocklist6, &gen);
	__u32 zero = 0, at, n, q;
	struct table6 *t;
	__u64 left, up;

	if (!list)
		return 0;
	t = bpf_map_lookup_elem(list, &zero);
	if (!t)
		return 0;
	left = near(&t->index, a, b, t->steps);
	at = left;
	n = left >> 32;
#define BEGUN(i) begun6(t, i, a, b)
	SEARCH(at, n, BEGUN);
#undef BEGUN
	return t->rule[STEP(at)];
}

/* A path frame: p[0..16) is readable, size is at least TERN_MIN_PATH. */
static __always_inline __u32 judge_path(const __u8 *p, __u32 size)
{
	__u32 relays = p[2] & 3, hop = p[2] >> 2 & 3, kind = p[3] & 0x0f;
	__u32 length = (__u32)p[4] << 8 | p[5];
	__u32 fence = p[12] | p[13] | p[14] | p[15];

	if (p[1] >> 4 != 1)
		return verdict(TERN_CLASS_PATH, TERN_REASON_BAD_VERSION);
	if (relays == 3 || hop > relays)
		return verdict(TERN_CLASS_PATH, TERN_REASON_BAD_HOPS);
	/* Of others the node knows more, and a relay passes on what it does not know. */
	if (!kind)
		return verdict(TERN_CLASS_PATH, TERN_REASON_BAD_KIND);
	/* More bytes than the length says are padding. */
	if (TERN_MIN_PATH + 10 * relays + length > size)
		return verdict(TERN_CLASS_PATH, TERN_REASON_BAD_LENGTH);
	/* The mesh fence carries only link probes and never crosses a relay. */
	if (!fence && (relays || kind != 3))
		return verdict(TERN_CLASS_PATH, TERN_REASON_BAD_FENCE);
	return verdict(TERN_CLASS_PATH, TERN_REASON_OK);
}

static __always_inline __u32 judge_mesh(const __u8 *p, void *end, __u32 size)
{
	__u8 first;

	if (!size || (void *)(p + 1) > end)
		return verdict(TERN_CLASS_MESH, TERN_REASON_EMPTY);
	first = p[0];
	if (first == 5) {
		if (size < TERN_MIN_PATH || (void *)(p + 16) > end)
			return verdict(TERN_CLASS_PATH, TERN_REASON_SHORT);
		return judge_path(p, size);
	}
	if (first == 4)
		return verdict(TERN_CLASS_GOSSIP, size < TERN_MIN_GOSSIP ? TERN_REASON_SHORT : TERN_REASON_OK);
	if (first >= 192)
		return verdict(TERN_CLASS_QUIC, size < TERN_MIN_QUIC_LONG ? TERN_REASON_SHORT : TERN_REASON_OK);
	if (first >= 64 && first < 128)
		return verdict(TERN_CLASS_QUIC, size < TERN_MIN_QUIC_SHORT ? TERN_REASON_SHORT : TERN_REASON_OK);
	return verdict(TERN_CLASS_MESH, TERN_REASON_BAD_CLASS);
}

static __always_inline __u32 judge_stun(const __u8 *p, void *end, __u32 size)
{
	__u32 length;

	if (size < TERN_MIN_STUN || (void *)(p + 8) > end)
		return verdict(TERN_CLASS_STUN, TERN_REASON_SHORT);
	length = (__u32)p[2] << 8 | p[3];
	if (length & 3 || TERN_MIN_STUN + length > size)
		return verdict(TERN_CLASS_STUN, TERN_REASON_BAD_LENGTH);
	if (((__u32)p[4] << 24 | (__u32)p[5] << 16 | (__u32)p[6] << 8 | p[7]) != STUN_COOKIE)
		return verdict(TERN_CLASS_STUN, TERN_REASON_BAD_COOKIE);
	return verdict(TERN_CLASS_STUN, TERN_REASON_OK);
}

/* RFC 7983 tells the classes apart by the first byte, RFC 5761 RTCP from RTP by the second. */
static __always_inline __u32 judge_access(const __u8 *p, void *end, __u32 size)
{
	__u8 first;

	if (!size || (void *)(p + 1) > end)
		return verdict(TERN_CLASS_ACCESS, TERN_REASON_EMPTY);
	first = p[0];
	if (first >= 128 && first < 192) {
		if (size < TERN_MIN_RTCP || (void *)(p + 2) > end)
			return verdict(TERN_CLASS_RTP, TERN_REASON_SHORT);
		if (p[1] >= 192 && p[1] < 224)
			return verdict(TERN_CLASS_RTCP, TERN_REASON_OK);
		if (size < TERN_MIN_RTP)
			return verdict(TERN_CLASS_RTP, TERN_REASON_SHORT);
		/* the low nibble counts contributing sources, 4 bytes each */
		if (size < TERN_MIN_RTP + 4 * (first & 15))
			return verdict(TERN_CLASS_RTP, TERN_REASON_BAD_LENGTH);
		return verdict(TERN_CLASS_RTP, TERN_REASON_OK);
	}
	if (first < 4)
		return judge_stun(p, end, size);
	if (first >= 20 && first < 64)
		return verdict(TERN_CLASS_DTLS, size < TERN_MIN_DTLS ? TERN_REASON_SHORT : TERN_REASON_OK);
	return verdict(TERN_CLASS_ACCESS, TERN_REASON_BAD_CLASS);
}

/* 64 bits of an address from its 32-bit word i on. */
static __always_inline __u64 half(const struct in6_addr *a, int i)
{
	return (__u64)bpf_ntohl(a->in6_u.u6_addr32[i]) << 32 | bpf_ntohl(a->in6_u.u6_addr32[i + 1]);
}

/*
 * A global function: the verifier checks it once, instead of once for every way of headers that leads to its call. Each
 * call takes 6 ns here, so it is the only one on the way of most packets.
 *
 * ip_at and udp_at are the places of the IP and the UDP header in the frame; room is the number of bytes that the
 * IP header promises from the UDP header on.
 */
__noinline __u32 judge_udp(struct xdp_md *ctx, __u32 ip_at, __u32 udp_at, __u32 room, __u32 flags)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 zero = 0, gen, class, rule, length, size, judged;
	struct address from = {};
	struct settings *set;
	struct udphdr *udp;
	struct iphdr *ip4;
	struct ipv6hdr *ip6;
	__u32 *gen_at;
	__be16 port;

	if (udp_at > MAX_OFFSET)
		return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
	KEEP(udp_at); /* or the compiler joins the two checks into one of `udp_at | ip_at` */
	if (ip_at > MAX_OFFSET)
		return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
	udp = data + udp_at;
	KEEP(udp); /* one register for the check and the reads, or the verifier loses the connection */
	if ((void *)(udp + 1) > end)
		return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
	gen_at = bpf_map_lookup_elem(&active, &zero);
	if (!gen_at)
		return verdict(TERN_CLASS_NONE, TERN_REASON_NOT_OURS);
	/* Read once: everything about this packet comes from one generation. */
	gen = *(volatile __u32 *)gen_at;
	set = bpf_map_lookup_elem(&settings, &gen);
	port = udp->dest;
	if (!set || !port)
		return verdict(TERN_CLASS_NONE, TERN_REASON_NOT_OURS);
	if (port == set->mesh_port)
		class = TERN_CLASS_MESH;
	else if (port == set->access_port)
		class = TERN_CLASS_ACCESS;
	else
		return verdict(TERN_CLASS_NONE, TERN_REASON_NOT_OURS);

	length = bpf_ntohs(udp->len);
	if (flags & FLAG_MALFORMED || length < sizeof(*udp) || room < sizeof(*udp) || room > (__u32)(end - (void *)udp))
		return verdict(class, TERN_REASON_MALFORMED);
	if (flags & FLAG_FRAGMENT && !set->pass_fragments)
		return verdict(class, TERN_REASON_FRAGMENT);
	if (!(flags & FLAG_FRAGMENT) && length > room)
		return verdict(class, TERN_REASON_MALFORMED);

	ip4 = data + ip_at;
	KEEP(ip4);
	ip6 = (void *)ip4;
	if (flags & FLAG_IP6 && (void *)(ip6 + 1) <= end) {
		from.hi = half(&ip6->saddr, 0);
		from.lo = half(&ip6->saddr, 2);
		rule = blocked6(gen, from.hi, from.lo);
	} else if ((void *)(ip4 + 1) <= end) {
		from.lo = bpf_ntohl(ip4->saddr);
		rule = blocked4(gen, from.lo);
		from.lo |= 0xffff00000000ULL;
	} else {
		return verdict(class, TERN_REASON_TRUNCATED);
	}
	if (rule)
		return verdict(class, TERN_REASON_BLOCKLIST) | rule << TERN_RULE_SHIFT;
	if (flags & FLAG_FRAGMENT)
		return verdict(class, TERN_REASON_FRAGMENT_PASSED);

	size = length - sizeof(*udp);
	if (class == TERN_CLASS_MESH)
		judged = judge_mesh((void *)(udp + 1), end, size);
	else
		judged = judge_access((void *)(udp + 1), end, size);
	/* TERN_GUARD_... are the numbers of the two port classes */
	if (!(set->guard & class) || judged & ((1 << TERN_REASON_BITS) - 1))
		return judged;

	if (class == TERN_CLASS_MESH)
		return judged | guard_mesh(set, from, judged >> TERN_REASON_BITS, flags & FLAG_TEST);
	return judged | guard_access(set, from, bpf_ntohs(udp->source), judged >> TERN_REASON_BITS,
				     (void *)(udp + 1), end, flags & FLAG_TEST);
}

static __always_inline __u32 judge_ip4(struct xdp_md *ctx, __u32 ip_at, void *at, void *end, __u32 flags)
{
	struct iphdr *ip = at;
	__u32 header, total, frag;

	if ((void *)(ip + 1) > end)
		return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return verdict(TERN_CLASS_NONE, TERN_REASON_MALFORMED);
	if (at + header > end)
		return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
	if (ip->protocol != IPPROTO_UDP)
		return verdict(TERN_CLASS_NONE, TERN_REASON_NOT_OURS);
	frag = bpf_ntohs(ip->frag_off);
	if (frag & IP4_OFFSET)
		return verdict(TERN_CLASS_NONE, TERN_REASON_FRAGMENT_REST);
	if (frag & IP4_MORE)
		flags |= FLAG_FRAGMENT;
	total = bpf_ntohs(ip->tot_len);
	if (total < header)
		flags |= FLAG_MALFORMED;
	return judge_udp(ctx, ip_at, ip_at + header, total - header, flags);
}

/* ::ffff:0:0/96 never stands on a wire; a socket would show such a source as IPv4, past the IPv6 blocklist. */
static __always_inline int mapped4(const struct in6_addr *a)
{
	return !a->in6_u.u6_addr32[0] && !a->in6_u.u6_addr32[1] && a->in6_u.u6_addr32[2] == bpf_htonl(0xffff);
}

static __always_inline __u32 judge_ip6(struct xdp_md *ctx, __u32 ip_at, void *at, void *end, __u32 flags)
{
	struct ipv6hdr *ip = at;
	__u32 used = 0, step, total;
	void *cur = ip + 1;
	__u8 next, *ext;
	__u16 frag;

	if (cur > end)
		return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
	if (ip->version != 6)
		return verdict(TERN_CLASS_NONE, TERN_REASON_MALFORMED);
	flags |= FLAG_IP6;
	next = ip->nexthdr;
	total = bpf_ntohs(ip->payload_len);

#pragma unroll
	for (int i = 0; i < TERN_MAX_EXT_HEADERS; i++) {
		ext = cur;
		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case 135: /* mobility */
		case 139: /* host identity */
		case 140: /* shim6 */
		case IPPROTO_AH:
		case IPPROTO_FRAGMENT:
			break;
		default:
			goto upper;
		}
		if (cur + 8 > end)
			return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
		if (next == IPPROTO_FRAGMENT) {
			frag = (__u16)ext[2] << 8 | ext[3];
			if (frag & 0xfff8)
				return verdict(TERN_CLASS_NONE, TERN_REASON_FRAGMENT_REST);
			if (frag & 1)
				flags |= FLAG_FRAGMENT;
			step = 8;
		} else if (next == IPPROTO_AH) {
			step = ((__u32)ext[1] + 2) * 4;
		} else {
			step = ((__u32)ext[1] + 1) * 8;
		}
		next = ext[0];
		used += step;
		cur += step;
		if (cur > end)
			return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
	}
	switch (next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case 135:
	case 139:
	case 140:
	case IPPROTO_AH:
	case IPPROTO_FRAGMENT:
		return verdict(TERN_CLASS_NONE, TERN_REASON_EXT_HEADERS);
	}
upper:
	if (next != IPPROTO_UDP)
		return verdict(TERN_CLASS_NONE, TERN_REASON_NOT_OURS);
	if (total < used || mapped4(&ip->saddr))
		flags |= FLAG_MALFORMED;
	return judge_udp(ctx, ip_at, ip_at + sizeof(*ip) + used, total - used, flags);
}

static __always_inline __u32 judge(struct xdp_md *ctx, __u32 flags)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	void *cur = eth + 1;
	__u32 ip_at = sizeof(*eth);
	__be16 *tag, proto;

	if (cur > end)
		return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
	proto = eth->h_proto;
#pragma unroll
	for (int i = 0; i < TERN_MAX_VLANS; i++) {
		if (proto != bpf_htons(ETH_P_TAG_C) && proto != bpf_htons(ETH_P_TAG_S))
			break;
		tag = cur;
		cur += 4;
		if (cur > end)
			return verdict(TERN_CLASS_NONE, TERN_REASON_TRUNCATED);
		proto = tag[1];
		ip_at += 4;
	}
	if (proto == bpf_htons(ETH_P_IP))
		return judge_ip4(ctx, ip_at, cur, end, flags);
	if (proto == bpf_htons(ETH_P_IPV6))
		return judge_ip6(ctx, ip_at, cur, end, flags);
	return verdict(TERN_CLASS_NONE, TERN_REASON_NOT_OURS);
}

struct sample {
	__u32 verdict;
	__u32 length; /* of head, in bytes */
	__u8 head[TERN_SAMPLE_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TERN_SAMPLE_RING);
} samples SEC(".maps");

/* Hands the beginning of a dropped frame to user space, unless there were too many of late or nobody reads. */
static __noinline int sample(struct xdp_md *ctx, __u32 v)
{
	const struct limit l = { TERN_SAMPLE_INTERVAL_NS, (__u64)TERN_SAMPLE_INTERVAL_NS * (TERN_SAMPLE_BURST - 1) };
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 index = TERN_LIMITS;
	__u64 *bucket = bpf_map_lookup_elem(&budgets, &index);
	struct sample *s;

	if (!bucket || !take(bucket, &l, bpf_ktime_get_ns()))
		return 0;
	s = bpf_ringbuf_reserve(&samples, sizeof(*s), 0);
	if (!s) {
		index++;
		bucket = bpf_map_lookup_elem(&budgets, &index);
		if (bucket)
			__sync_fetch_and_add(bucket, 1);
		return 0;
	}
	s->verdict = v;
	s->length = 0;
#pragma unroll
	for (int i = 0; i < TERN_SAMPLE_BYTES; i += 2) {
		if (data + i + 2 > end)
			break;
		__builtin_memcpy(s->head + i, data + i, 2);
		s->length = i + 2;
	}
	bpf_ringbuf_submit(s, 0);
	return 0;
}

/* Attached to interfaces. */
SEC("xdp")
int tern_filter(struct xdp_md *ctx)
{
	__u32 v = judge(ctx, 0);
	__u32 index = v & (TERN_COUNTERS - 1);
	__u64 *count = bpf_map_lookup_elem(&counters, &index);

	if (count)
		(*count)++; /* per CPU, and XDP does not nest */
	if (index == verdict(TERN_CLASS_PATH, TERN_REASON_OK) && relays() && relay(ctx))
		return XDP_TX;
	if ((v & ((1 << TERN_REASON_BITS) - 1)) < TERN_FIRST_DROP)
		return XDP_PASS;
	if (count && (*count & (TERN_SAMPLE_EVERY - 1)) == 1)
		sample(ctx, v);
	return XDP_DROP;
}

/* Never attached: returns the whole verdict to a test run (tern filter verdict, the differential test). */
SEC("xdp")
int tern_judge(struct xdp_md *ctx)
{
	return judge(ctx, FLAG_TEST);
}

/*
 * Never attached: judges and relays a plain IPv4 frame, and then makes it what it was, since the kernel's benchmark gives the
 * same frame again and again.
 */
SEC("xdp")
int tern_relay(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr), before;
	struct udphdr *udp = (void *)(ip + 1), ports;
	__u8 *p = (void *)(udp + 1), hops;

	if ((void *)(p + 3) > end)
		return XDP_PASS;
	before = *ip;
	ports = *udp;
	hops = p[2];
	if (judge(ctx, 0) != verdict(TERN_CLASS_PATH, TERN_REASON_OK) || !relay(ctx))
		return XDP_PASS;
	*ip = before;
	*udp = ports;
	p[2] = hops;
	return XDP_TX;
}

/* Never attached: leaves the kernel's count of jiffies for user space. */
SEC("xdp")
int tern_clock(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *at = bpf_map_lookup_elem(&test_clock, &zero);

	if (at)
		*at = bpf_jiffies64();
	return XDP_PASS;
}

/* Never attached: what the test run itself costs, the yardstick of the benchmarks. */
SEC("xdp")
int tern_noop(struct xdp_md *ctx)
{
	return XDP_PASS;
}
