package scenario

import (
	"time"

	"github.com/ternmesh/tern/sim"
)

// Bounds of a scenario, so that a mistake in a file does not become a machine without memory.
const (
	MaxNodes    = 500
	MaxStreams  = 1000
	MaxEvents   = 5000 // after repetitions are written out
	MaxDuration = 7 * 24 * time.Hour
	// MaxPacketsPerSecond is of one stream.
	MaxPacketsPerSecond = 20_000
	// MinPacketBytes is what the figures need in a packet: RTP header and stamp.
	MinPacketBytes = 64
	MaxPacketBytes = 1200
)

// Defaults of what a file may leave out.
const (
	DefaultDuration = 30 * time.Second
	DefaultWarmup   = 2 * time.Second
	DefaultApp      = "sim"
	DefaultChannel  = "sim"
	DefaultDeadline = 250 * time.Millisecond
	DefaultFPS      = 30
	DefaultPackets  = 200
	DefaultSize     = 1150
)

// Scenario is a checked file: every name in it exists, every event is possible. Nobody changes it after Parse.
type Scenario struct {
	Name, About      string
	Duration, Warmup time.Duration
	Seed             uint64
	Nodes            []Node // by name
	Links            map[Pair]sim.Link
	Risks            map[string][]Pair // directions that depend on each shared risk
	Policy           []byte            // document; nil: every app that a stream names, unfenced
	Streams          []Stream
	Events           []Event // by time; repetitions written out
}

// Node is one place in the mesh.
type Node struct {
	Name, Region, City, Provider string
	SharedRisk                   []string
	Voter                        bool          // in the file, or one of the first three (of two nodes, the first) if no node says so
	Uplink                       int64         // bit/s that all links of the node share, outwards; 0: unlimited
	Clock                        time.Duration // how far the node's wall clock is ahead at the start
	NAT                          bool          // behind a translator that maps one to one; the node advertises its public address
	JointLoss                    float64       // share of moments in which everything that the node sends is lost, on all links
}

// Pair is one direction.
type Pair struct{ From, To string }

// Kinds of streams.
const (
	Video = "video"
	Audio = "audio"
)

// Stream is a synthetic publisher and its viewers.
type Stream struct {
	Name, From       string
	To               []string
	PacketsPerSecond int
	Size             int // bytes of an RTP packet
	App, Channel     string
	Redundancy       string // "" is the app's
	Kind             string
	FPS              int           // frames a second, of video
	Deadline         time.Duration // playout, after the instant of sending
	Start, Stop      time.Duration // from t=0; Stop is the scenario's end unless stated
	Viewers          int           // at each destination
	WebRTC           bool          // real WebRTC clients publish and watch
	LastMile         sim.Link      // of each client, both directions
	NAT              sim.NATKind   // in front of each client; 0: none
}

// Actions on a node.
const (
	Kill     = "kill"     // cut off and ended, without a goodbye
	Stop     = "stop"     // ended gracefully
	Restart  = "restart"  // a running node is stopped and started at once (or after For), a dead one is started
	Down     = "down"     // every link of the node is cut; the process goes on
	Rebind   = "rebind"   // the translators of a stream's clients lose their mappings; the clients do not notice
	Skew     = "skew"     // the node's wall clock is set, as far ahead of the others as the event says
	Handover = "handover" // the clients of a stream change networks: new public addresses, and they join again
)

// Event is one thing that happens. Exactly one of its kinds is set: Node with Action, Node with JointLoss or Skew, Risk, Partition,
// Policy, Stream (with Action Rebind, or with Change), or Pairs with Change.
type Event struct {
	At, For   time.Duration // For 0: to the end
	Label     string        // what it is, for people
	Node      string
	Action    string
	Risk      string
	Partition [][]string
	Policy    []byte // applied through Node
	Pairs     []Pair
	Change    Change
	Flood     *Flood
	Stream    string         // whose clients' last miles
	JointLoss *float64       // of Node
	Skew      *time.Duration // of Node's wall clock
}

// Flood is unwanted traffic from a host outside the mesh to a node's mesh port.
type Flood struct {
	To               string
	PacketsPerSecond int
	Size             int // bytes of payload
}

// Change is what an event does to a link; nil leaves a setting as it is. Several changes at once are applied in
// the order of their start.
type Change struct {
	Delay, AddDelay, Jitter       *time.Duration
	JitterModel                   *sim.JitterModel
	Loss                          *Loss
	Rate                          *int64
	Queue                         *int
	MTU                           *int
	Reorder, Duplicate, Corrupted *float64
	ReorderDelay                  *time.Duration
	Down                          bool
}

// Loss is one way of losing packets.
type Loss struct {
	Share float64
	GE    sim.GilbertElliott
	Trace sim.LossTrace
}

// Apply changes a link's settings.
func (c Change) Apply(l *sim.Link) {
	set(&l.Delay, c.Delay)
	if c.AddDelay != nil {
		l.Delay += *c.AddDelay
	}
	set(&l.Jitter, c.Jitter)
	set(&l.JitterModel, c.JitterModel)
	if c.Loss != nil {
		l.Loss, l.GE, l.Trace = c.Loss.Share, c.Loss.GE, c.Loss.Trace
	}
	set(&l.Rate, c.Rate)
	set(&l.Queue, c.Queue)
	set(&l.MTU, c.MTU)
	set(&l.Reorder, c.Reorder)
	set(&l.ReorderDelay, c.ReorderDelay)
	set(&l.Duplicate, c.Duplicate)
	set(&l.Corrupt, c.Corrupted)
	l.Down = l.Down || c.Down
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}
