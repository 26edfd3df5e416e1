package node

import (
	"math"
	"runtime"
	"sync"
	"time"
)

const (
	// busySessions is how many clients make a node count as full.
	busySessions = 1000
	// busyProcessor is the share of the processors that may be used at which a node counts as full: above it packets wait.
	busyProcessor = 0.85
	// loadEvery is between two looks at what grows with time, loadMemory how long what was seen counts.
	loadEvery  = time.Second
	loadMemory = 5 * time.Second
)

// LoadStatus is how busy a node is, each as a share of what makes it full; what is highest is its load for the others.
type LoadStatus struct {
	Clients   float64 `json:"clients"`   // sessions of clients
	Processor float64 `json:"processor"` // this process's time, of the processors that it may use
	Relaying  float64 `json:"relaying"`  // what it forwards for others, of mesh.relay_mbps; 0 without that
}

// Load is the highest of them.
func (l LoadStatus) Load() float64 { return max(l.Clients, l.Processor, l.Relaying) }

// loadSample is what was used up until now.
type loadSample struct {
	processor time.Duration
	relayed   uint64 // bytes
}

// loadMeter turns what was used up into shares of what there is. Pure.
type loadMeter struct {
	cores float64 // processors that may be used; 0: the processor is not looked at
	relay float64 // bytes a second that make the node full; 0: not looked at

	at     time.Time
	last   loadSample
	status LoadStatus // Clients is not its own
}

// due tells whether it is time for another sample.
func (m *loadMeter) due(now time.Time) bool { return m.at.IsZero() || now.Sub(m.at) >= loadEvery }

// take adds a sample: averages over about loadMemory.
func (m *loadMeter) take(now time.Time, s loadSample) {
	since := now.Sub(m.at)
	first := m.at.IsZero()
	before := m.last
	m.at, m.last = now, s
	if first || since <= 0 || s.relayed < before.relayed || s.processor < before.processor {
		return
	}
	weight := 1 - math.Exp(-since.Seconds()/loadMemory.Seconds())
	follow := func(average *float64, share float64) { *average += weight * (share - *average) }
	if m.cores > 0 {
		follow(&m.status.Processor, (s.processor-before.processor).Seconds()/since.Seconds()/m.cores/busyProcessor)
	}
	if m.relay > 0 {
		follow(&m.status.Relaying, float64(s.relayed-before.relayed)/since.Seconds()/m.relay)
	}
}

// loads is a node's meter.
type loads struct {
	mu    sync.Mutex
	meter loadMeter // guarded by mu
}

// newLoads makes the meter of a node; alone: the process is its own.
func newLoads(cfg MeshConfig, alone bool) *loads {
	l := &loads{meter: loadMeter{relay: float64(cfg.RelayMbps) * 1e6 / 8}}
	if _, err := processorTime(); alone && err == nil {
		l.meter.cores = float64(runtime.GOMAXPROCS(0))
	}
	return l
}

// loadStatus says how busy this node is, zero until it is ready.
func (n *Node) loadStatus() LoadStatus {
	select {
	case <-n.ready:
	default:
		return LoadStatus{}
	}
	l, now := n.busy, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.meter.due(now) {
		used, _ := processorTime()
		l.meter.take(now, loadSample{processor: used, relayed: n.braid.RelayedBytes()})
	}
	s := l.meter.status
	s.Clients = float64(n.sessions()) / busySessions
	return s
}

// load is how busy this node is, for routing, for the choice of a client's node and of a stream's source.
func (n *Node) load() float64 { return n.loadStatus().Load() }
