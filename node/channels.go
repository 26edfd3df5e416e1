package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/access"
)

const (
	kindInventory = "inventory"
	// maxInventory bounds the streams that one node tells another of.
	maxInventory = 2000
	// channelsTimeout bounds the wait for any node's answer; whoever is later is named as silent.
	channelsTimeout = 1500 * time.Millisecond
	// channelsFresh is how long an answer serves all who ask: the mesh is asked once, however many look.
	channelsFresh = 5 * time.Second
	// channelsAtOnce bounds the nodes that are asked at the same time.
	channelsAtOnce = 32
	// maxChannels bounds the channels of an answer, those with most viewers first.
	maxChannels = 1000
)

// Channel is one channel of an app with all nodes that have a part in it.
type Channel struct {
	App     string         `json:"app"`
	Channel string         `json:"channel"`
	Streams []StreamOnMesh `json:"streams"`
	Viewers int            `json:"viewers"` // in the whole mesh
}

// StreamOnMesh is one stream with where it enters and where it is watched.
type StreamOnMesh struct {
	Stream string     `json:"stream"`
	Origin string     `json:"origin"` // the ingress; empty if it did not answer
	At     []StreamAt `json:"at"`     // the nodes that watch it
	Since  *time.Time `json:"since,omitempty"`
}

// StreamAt is a stream at one egress: its viewers, where it comes from, and what the paths from there did (of all streams
// between the two nodes under the app's fence, since the paths began).
type StreamAt struct {
	Node        string       `json:"node"`
	Viewers     int          `json:"viewers"`
	Source      string       `json:"source"`
	Paths       []PathStatus `json:"paths,omitempty"`
	Delivered   uint64       `json:"delivered"`
	Undelivered uint64       `json:"undelivered"`
	Repaired    uint64       `json:"repaired"`
	// Of the WebRTC viewers that are there now: gaps in the frames written to them, how many viewers had any, keyframes that they
	// asked for, which is how frames lost on the last mile show, and the longest round trip to one.
	Freezes       int     `json:"freezes"`
	FrozenSeconds float64 `json:"frozen_seconds"`
	FrozenViewers int     `json:"frozen_viewers"`
	KeyframeAsks  uint64  `json:"keyframe_asks"`
	TripMS        float64 `json:"trip_ms"`
}

// Channels is what the mesh carries, as the nodes that answered say.
type Channels struct {
	Channels []Channel `json:"channels"`
	More     int       `json:"more"`   // channels left out
	Silent   []string  `json:"silent"` // live nodes that did not answer in time
}

// inventory is one node's part, as it travels between nodes.
type inventory struct {
	Node   string        `json:"node"`
	Held   []media.Held  `json:"held"`
	Braids []BraidStatus `json:"braids"` // In alone

	Watched []access.Watched `json:"watched"` // nodes of older versions say none
}

// channelsCache shares one round of questions among all who look.
type channelsCache struct {
	mu   sync.Mutex // held while the mesh is asked
	at   time.Time
	last Channels
}

func (n *Node) ownInventory() inventory {
	inv := inventory{Node: n.cfg.Node, Held: n.hub.Inventory(maxInventory), Braids: n.braidStatus(), Watched: n.access.Watched()}
	for i := range inv.Braids {
		inv.Braids[i].Out = nil
	}
	return inv
}

func (n *Node) answerInventory(context.Context, identity.Peer, []byte) []byte {
	answer, _ := json.Marshal(n.ownInventory())
	return answer
}

// Channels asks all live nodes what they have, at most once every channelsFresh. Safe for concurrent use.
func (n *Node) Channels(ctx context.Context) Channels {
	n.channels.mu.Lock()
	defer n.channels.mu.Unlock()
	if time.Since(n.channels.at) > channelsFresh {
		n.channels.last = n.askChannels(context.WithoutCancel(ctx))
		n.channels.at = time.Now()
	}
	return n.channels.last
}

func (n *Node) askChannels(ctx context.Context) Channels {
	ctx, cancel := context.WithTimeout(ctx, channelsTimeout)
	defer cancel()
	var mu sync.Mutex
	parts, silent := []inventory{n.ownInventory()}, []string{}
	var g errgroup.Group
	g.SetLimit(channelsAtOnce)
	for _, m := range n.mesh.Members() {
		if m.Node == n.cfg.Node || !m.Alive {
			continue
		}
		g.Go(func() error {
			inv, err := n.askInventory(ctx, m.Node)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				n.log.Debug("a node did not say what it carries", "peer", m.Node, "err", err)
				silent = append(silent, m.Node)
				return nil
			}
			parts = append(parts, inv)
			return nil
		})
	}
	_ = g.Wait()
	slices.Sort(silent)
	c := assembleChannels(parts, maxChannels)
	c.Silent = silent
	return c
}

func (n *Node) askInventory(ctx context.Context, node string) (inv inventory, err error) {
	answer, err := n.direct.Call(ctx, node, kindInventory, nil)
	if err != nil {
		return inv, err
	}
	if err := json.Unmarshal(answer, &inv); err != nil {
		return inv, fmt.Errorf("inventory of %s: %w", node, err)
	}
	inv.Node = node // whatever it says
	return inv, nil
}

// assembleChannels puts the parts of all nodes together; pure. Channels with most viewers come first.
func assembleChannels(parts []inventory, limit int) Channels {
	type room struct{ app, channel string }
	streams := make(map[room]map[string]*StreamOnMesh)
	viewers := make(map[room]int)
	for _, part := range parts {
		fares := make(map[media.Key]access.Watched, len(part.Watched))
		for _, w := range part.Watched {
			fares[media.Key{App: w.App, Channel: w.Channel, Stream: w.Stream}] = w
		}
		for _, h := range part.Held {
			r := room{h.App, h.Channel}
			if streams[r] == nil {
				streams[r] = make(map[string]*StreamOnMesh)
			}
			s := streams[r][h.Stream]
			if s == nil {
				s = &StreamOnMesh{Stream: h.Stream, At: []StreamAt{}}
				streams[r][h.Stream] = s
			}
			if h.Published {
				since := time.UnixMilli(h.SinceMS).UTC()
				s.Origin, s.Since = part.Node, &since
			}
			if h.Viewers > 0 {
				viewers[r] += h.Viewers
				s.At = append(s.At, streamAt(part, h, fares[media.Key{App: h.App, Channel: h.Channel, Stream: h.Stream}]))
			}
		}
	}
	out := Channels{Channels: make([]Channel, 0, len(streams)), Silent: []string{}}
	for r, byID := range streams {
		c := Channel{App: r.app, Channel: r.channel, Viewers: viewers[r]}
		for _, s := range byID {
			slices.SortFunc(s.At, func(a, b StreamAt) int { return cmp.Compare(a.Node, b.Node) })
			c.Streams = append(c.Streams, *s)
		}
		slices.SortFunc(c.Streams, func(a, b StreamOnMesh) int { return cmp.Compare(a.Stream, b.Stream) })
		out.Channels = append(out.Channels, c)
	}
	slices.SortFunc(out.Channels, func(a, b Channel) int {
		return cmp.Or(cmp.Compare(b.Viewers, a.Viewers), cmp.Compare(a.App, b.App), cmp.Compare(a.Channel, b.Channel))
	})
	out.More = max(0, len(out.Channels)-limit)
	out.Channels = out.Channels[:len(out.Channels)-out.More]
	return out
}

// streamAt adds how its viewers fare, and what the braid from the stream's source did. A node has one braid per fence with a peer; the one that
// delivered most stands for the stream's.
func streamAt(part inventory, h media.Held, w access.Watched) StreamAt {
	at := StreamAt{Node: part.Node, Viewers: h.Viewers, Source: h.Source}
	for _, b := range part.Braids {
		if b.Peer == h.Source && h.Source != part.Node && (at.Paths == nil || b.PacketsDelivered > at.Delivered) {
			at.Paths, at.Delivered, at.Undelivered, at.Repaired = b.In, b.PacketsDelivered, b.Undelivered, b.Repaired
		}
	}
	at.Freezes, at.FrozenSeconds, at.FrozenViewers = w.Freezes, w.Frozen.Seconds(), w.FrozenViewers
	at.KeyframeAsks, at.TripMS = w.KeyframeAsks, float64(w.Trip.Microseconds())/1000
	return at
}
