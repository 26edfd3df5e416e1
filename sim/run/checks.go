package run

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh/identity"
)

// Checkers, as reports name them. They hold for every scenario; none of them knows what a scenario does.
const (
	CheckFence        = "no fence crossed"
	CheckDuplicates   = "no duplicate to a viewer"
	CheckUnauthorised = "no unauthorised delivery"
	CheckIntact       = "packets intact"
	CheckPolicy       = "policy linear"
	CheckNodes        = "no node ended by itself"
	CheckLive         = "live after faults"
)

// maxNotes bounds the remarks of a report.
const maxNotes = 100

// maxViolations bounds what is told of one checker.
const maxViolations = 5

// checkers watch a run. Safety first (everything but CheckLive), then liveness.
type checkers struct {
	mesh    *mesh
	regions map[string]string          // of nodes
	ids     map[string]uint32          // of nodes
	fences  map[uint32]map[string]bool // regions by fence; a fence's id is a hash of them, so it never changes
	copies  *copyCounter

	mu       sync.Mutex // guards everything below
	broken   map[string][]string
	count    map[string]int
	digests  map[uint64][32]byte // of policies by version
	versions map[string]uint64   // newest policy seen at a node's present incarnation
	starts   map[string]int
	acked    uint64 // newest policy version that a node confirmed
	notes    []string
}

func newCheckers(m *mesh) *checkers {
	c := &checkers{
		mesh: m, regions: make(map[string]string), ids: make(map[string]uint32), fences: make(map[uint32]map[string]bool),
		broken: make(map[string][]string), count: make(map[string]int), digests: make(map[uint64][32]byte),
		versions: make(map[string]uint64), starts: make(map[string]int), copies: newCopyCounter(),
	}
	for _, one := range m.members {
		c.regions[one.Name] = one.Region
		c.ids[one.Name] = identity.NodeID(meshName, one.Name)
	}
	for _, p := range m.ground.parsed {
		for _, a := range p.Apps {
			regions := p.FenceRegions(a)
			set := make(map[string]bool)
			for _, r := range regions {
				set[r] = true
			}
			c.fences[uint32(braid.FenceOf(regions))] = set
		}
	}
	return c
}

// fail notes a violation.
func (c *checkers) fail(check, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[check]++; len(c.broken[check]) < maxViolations {
		c.broken[check] = append(c.broken[check], fmt.Sprintf("at %v: ", c.mesh.clock.now().Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

// Path frames, as far as the checkers look into them.
const (
	pathClass       = 5
	pathKindMedia   = 2
	pathFenceOffset = 12
	pathHeaderBytes = 24
)

// tap sees every packet on the emulated network. Frames of a fence may go only between nodes in its regions.
func (c *checkers) tap(from, to string, payload []byte) {
	if len(payload) < pathHeaderBytes || payload[0] != pathClass {
		return
	}
	here, ours := c.regions[from]
	there, theirs := c.regions[to]
	if !ours || !theirs {
		return // from or to a host outside the mesh: not sent by a node as a path frame
	}
	fence := binary.BigEndian.Uint32(payload[pathFenceOffset:])
	if fence == 0 {
		return // link probes carry nobody's media
	}
	set, known := c.fences[fence]
	switch {
	case !known:
		c.fail(CheckFence, "%s sent %s a frame of fence %08x, which no policy has", from, to, fence)
	case !set[here] || !set[there]:
		c.fail(CheckFence, "a frame of fence %08x went from %s (%s) to %s (%s), which are not both inside", fence, from, here, to, there)
	}
	if payload[3]&0x0f == pathKindMedia && binary.BigEndian.Uint32(payload[16:]) == c.ids[from] {
		c.copies.add(payload)
	}
}

// observe looks at the policy of every living node.
func (c *checkers) observe() {
	for _, one := range c.mesh.members {
		n, _ := one.living()
		if n == nil {
			continue
		}
		one.mu.Lock()
		starts := one.starts
		one.mu.Unlock()
		c.policySeen(one.Name, starts, n.Policy())
	}
}

// policySeen holds one node's policy against its earlier ones and against those of other nodes.
func (c *checkers) policySeen(node string, starts int, p control.Policy) {
	doc, err := json.Marshal(p)
	if err != nil {
		c.fail(CheckPolicy, "%s: %v", node, err)
		return
	}
	digest := sha256.Sum256(doc)
	c.mu.Lock()
	known, seen := c.digests[p.Version]
	c.digests[p.Version] = digest
	last := c.versions[node]
	if c.starts[node] != starts {
		last = 0 // a restarted node may have to catch up
	}
	c.versions[node], c.starts[node] = p.Version, starts
	c.mu.Unlock()
	if seen && known != digest {
		c.fail(CheckPolicy, "%s holds another version %d than an earlier observation", node, p.Version)
	}
	if p.Version < last {
		c.fail(CheckPolicy, "%s went back from version %d to %d", node, last, p.Version)
	}
}

// applied notes the outcome of a policy change through a node.
func (c *checkers) applied(node string, version uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.notes = append(c.notes, fmt.Sprintf("at %v: %s did not take the policy: %v", c.mesh.clock.now().Round(time.Millisecond), node, err))
		return
	}
	c.notes = append(c.notes, fmt.Sprintf("at %v: policy version %d confirmed through %s", c.mesh.clock.now().Round(time.Millisecond), version, node))
	c.acked = max(c.acked, version)
}

// note adds a remark to the report.
func (c *checkers) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.notes) < maxNotes {
		c.notes = append(c.notes, fmt.Sprintf(format, args...))
	}
}

// behind names a living node that does not have the newest confirmed policy yet; "" if none.
func (c *checkers) behind() string {
	c.mu.Lock()
	acked := c.acked
	c.mu.Unlock()
	for _, one := range c.mesh.members {
		if n, _ := one.living(); n != nil && n.Policy().Version < acked {
			return fmt.Sprintf("%s has policy %d, version %d was confirmed", one.Name, n.Policy().Version, acked)
		}
	}
	return ""
}

// Check is the verdict of one checker.
type Check struct {
	Name       string   `json:"name"`
	OK         bool     `json:"ok"`
	Violations int      `json:"violations"`
	First      []string `json:"first,omitempty"` // the first few
}

func (c *checkers) verdicts() (out []Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range []string{CheckFence, CheckDuplicates, CheckUnauthorised, CheckIntact, CheckPolicy, CheckNodes, CheckLive} {
		out = append(out, Check{Name: name, OK: c.count[name] == 0, Violations: c.count[name], First: c.broken[name]})
	}
	return out
}

func udpAddr(a netip.AddrPort) net.Addr { return net.UDPAddrFromAddrPort(a) }
