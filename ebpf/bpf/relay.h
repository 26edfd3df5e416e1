/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Path frames for another node, sent on without user space. The node's relay in user space decides: when it has sent a frame
 * on, it may say so (struct onward), and for a second the kernel does the same with frames of the same source, hops and
 * fence, if it can verify them. Whatever is not clean, new, or near a bound goes to user space, which drops, counts and
 * answers. So nothing leaves from here that would not have left from there, with the same bytes.
 */
#ifndef TERN_RELAY_H
#define TERN_RELAY_H

/* Ids and fence as they stand in a frame. */
struct onward_key {
	__be32 source, before, next, fence;
};

struct onward {
	__u64 until;      /* kernel time, ns */
	__u64 keys[4][2]; /* by the low two bits of the epoch */
	__u32 epochs;     /* bit i: keys[i] is one */
	__u32 ifindex;    /* frames leave where they came in */
	__u32 slot;       /* in onward_counts */
	__be32 from, to;  /* IPv4 */
	__be16 port;
	__u8 link[12];    /* both hardware addresses, as a frame begins */
	__u8 pad[6];
};

/* What was sent on: frames that count as a link's traffic, the others, UDP payload. */
struct onward_count {
	__u64 media, other, bytes;
};

struct relaying {
	__be32 self; /* this node's id; 0 = off */
	__u32 cost;  /* of a byte against its source's budget, in ns * 1024 */
	__u64 tick;  /* ns per jiffy */
	__u64 unix;  /* Unix time when the kernel's was 0, in ms */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct relaying);
} relaying SEC(".maps");

/* user space writes them and takes them out. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TERN_MAX_ONWARD);
	__type(key, struct onward_key);
	__type(value, struct onward);
} onwards SEC(".maps");

/* Apart from the decisions, which user space writes again and again. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TERN_MAX_ONWARD);
	__type(key, __u32);
	__type(value, struct onward_count);
} onward_counts SEC(".maps");

/* What a source had relayed, as the time at which its budget would be whole again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TERN_MAX_PEERS);
	__type(key, __be32);
	__type(value, __u64);
} relay_budgets SEC(".maps");

#define RELAY_AT (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr))
#define HOP_BITS 0x0c
#define CONGESTION 1

static __always_inline __u32 word32(const __u8 *p)
{
	return p[0] | (__u32)p[1] << 8 | (__u32)p[2] << 16 | (__u32)p[3] << 24;
}

#define ABSORB(m) do { v3 ^= (m); SIPROUND; SIPROUND; v0 ^= (m); } while (0)

/* The low 48 bits of the MAC over the header, the relay ids and the time (media/braid/doc.go). n is 1 or 2. */
static __noinline __u64 path_mac(const __u8 *p, __u64 k0, __u64 k1, __u32 n, __u64 sent)
{
	__u64 v0 = 0x736f6d6570736575ULL ^ k0, v1 = 0x646f72616e646f6dULL ^ k1;
	__u64 v2 = 0x6c7967656e657261ULL ^ k0, v3 = 0x7465646279746573ULL ^ k1;
	__u64 m;

	m = word(p) & ~((__u64)CONGESTION << 8 | (__u64)HOP_BITS << 16);
	ABSORB(m);
	m = word(p + 8);
	ABSORB(m);
	m = word(p + 16);
	ABSORB(m);
	sent = __builtin_bswap64(sent);
	if (n == 1) {
		m = word32(p + 24) | sent << 32;
		ABSORB(m);
		m = sent >> 32 | 36ULL << 56;
	} else {
		m = word(p + 24);
		ABSORB(m);
		ABSORB(sent);
		m = 40ULL << 56;
	}
	ABSORB(m);
	v2 ^= 0xff;
	SIPROUND; SIPROUND; SIPROUND; SIPROUND;
	return (v0 ^ v1 ^ v2 ^ v3) & 0xffffffffffffULL;
}

/* The time that is nearest to now of those with these low 16 bits; 0 if it is not fresh, or near the bound. */
static __always_inline __u64 fresh(__u64 now, __u16 low)
{
	__s64 d = (__s16)(low - (__u16)now);

	return d > TERN_RELAY_FRESH_MS || d < -TERN_RELAY_FRESH_MS ? 0 : now + d;
}

static __always_inline int afford(__be32 source, const struct relaying *r, __u32 size, __u64 now)
{
	__u64 at, *budget = bpf_map_lookup_elem(&relay_budgets, &source);

	if (!budget)
		return 0;
	at = *budget < now ? now : *budget;
	if (at - now > TERN_RELAY_BURST_NS)
		return 0;
	*budget = at + ((__u64)size * r->cost >> 10);
	return 1;
}

static __always_inline void seal_ip(struct iphdr *ip)
{
	__u16 *w = (void *)ip;
	__u32 sum = 0;

	ip->check = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
}

/* Asked before the call, which costs more. */
static __always_inline int relays(void)
{
	__u32 zero = 0;
	struct relaying *r = bpf_map_lookup_elem(&relaying, &zero);

	return r && r->self;
}

/* The frame has passed the filter as a member's path frame. 1: it was rewritten for its next hop. */
static __noinline int relay(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u8 *p = (void *)(udp + 1), *mac;
	__u32 zero = 0, n, hop, epoch, size;
	__u64 now, sent, k0, k1;
	struct onward_count *c;
	struct onward_key key;
	struct relaying *r;
	struct onward *o;

	r = bpf_map_lookup_elem(&relaying, &zero);
	if (!r || !r->self || (void *)(p + 50) > end) /* the largest header: smaller frames are not worth a second way */
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return 0;
	if ((ip->tos & 3) == 3 || p[1] & CONGESTION)
		return 0; /* marked: user space sets the congestion bit and counts */
	size = bpf_ntohs(udp->len);
	if (bpf_ntohs(ip->tot_len) != size + sizeof(*ip) || (void *)ip + sizeof(*ip) + size != end)
		return 0;
	size -= sizeof(*udp);
	n = p[2] & 3;
	hop = p[2] >> 2 & 3;
	if (hop >= n || n > 2 || size > TERN_RELAY_MAX || word32(p + 24 + (hop ? 4 : 0)) != r->self)
		return 0;
	key.source = word32(p + 16);
	key.fence = word32(p + 12);
	key.before = hop ? word32(p + 24) : key.source;
	key.next = n == 2 && !hop ? word32(p + 28) : word32(p + 20);
	o = bpf_map_lookup_elem(&onwards, &key);
	now = bpf_jiffies64() * r->tick;
	if (!o || o->until < now || o->ifindex != ctx->ingress_ifindex)
		return 0;
	epoch = p[1] >> 2 & 3;
	sent = fresh(now / 1000000 + r->unix, (__u16)p[10] << 8 | p[11]);
	if (!sent || !(o->epochs >> epoch & 1))
		return 0;
	k0 = o->keys[epoch][0];
	k1 = o->keys[epoch][1];
	mac = p + 24 + 4 * n + (hop ? 6 : 0);
	if ((void *)(mac + 6) > end)
		return 0;
	if ((word32(mac) | (__u64)mac[4] << 32 | (__u64)mac[5] << 40) != path_mac(p, k0, k1, n, sent))
		return 0;
	c = bpf_map_lookup_elem(&onward_counts, &o->slot);
	if (!c || !afford(key.source, r, size, now))
		return 0;
	if ((p[3] & 15) == 1 || (p[3] & 15) == 2)
		__sync_fetch_and_add(&c->media, 1);
	else
		__sync_fetch_and_add(&c->other, 1);
	__sync_fetch_and_add(&c->bytes, size);

	p[2] += 4; /* the one change that a relay makes */
	__builtin_memcpy(eth, o->link, sizeof(o->link));
	ip->tos = (ip->tos & 0xfc) | 2; /* as the socket sends: the source answers to congestion marks */
	ip->ttl = 64;
	ip->saddr = o->from;
	ip->daddr = o->to;
	seal_ip(ip);
	udp->source = udp->dest;
	udp->dest = o->port;
	udp->check = 0; /* IPv4 allows it; header and payload have MACs of their own */
	return 1;
}

#endif
