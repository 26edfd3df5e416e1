package node

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/node/access"
	"github.com/ternmesh/tern/node/direct"
	"github.com/ternmesh/tern/routing"
)

// Status is what a node knows of itself and of the mesh; GET /v1/status of the admin listener.
type Status struct {
	Node          string       `json:"node"`
	Mesh          string       `json:"mesh"`
	Region        string       `json:"region"`
	ID            uint32       `json:"id"`
	Incarnation   uint32       `json:"incarnation"`
	Version       string       `json:"version,omitempty"`
	State         string       `json:"state"`
	Drain         *DrainStatus `json:"drain,omitempty"` // where the policy drains or cordons this node
	UptimeSeconds float64      `json:"uptime_seconds"`
	AccessURL     string       `json:"access_url"`
	PolicyVersion uint64       `json:"policy_version"`
	Trouble       string       `json:"trouble,omitempty"` // what keeps the policy from being enforced wholly
	Filter        string       `json:"filter"`
	// FilterWhy says why the kernel does not filter although the configuration asks for it; empty otherwise.
	FilterWhy string `json:"filter_why,omitempty"`
	// FilterFull says that something found a table of the filter full within the last ten minutes.
	FilterFull bool `json:"filter_full,omitempty"`
	// The node's certificate is good from CertificateBegins to CertificateExpires.
	CertificateBegins  time.Time `json:"certificate_begins"`
	CertificateExpires time.Time `json:"certificate_expires"`
	// Lease is the node's right to be in the mesh; nil without authorities.
	Lease *LeaseStatus `json:"lease,omitempty"`
	// Joins is how many addresses mesh.join names.
	Joins int `json:"joins"`
	// Clocks are those of a few other nodes, asked in turn.
	Clocks []ClockStatus `json:"clocks,omitempty"`
	// Findings is what is not as it should be, the worst first; empty if all is well.
	Findings []Finding      `json:"findings"`
	Control  control.Status `json:"control"`
	Members  []MemberStatus `json:"members"`
	Links    []LinkStatus   `json:"links"`
	Braids   []BraidStatus  `json:"braids"`
	Access   AccessStatus   `json:"access"`
	Media    media.Stats    `json:"media"`
	// Load is how busy this node is; the highest share is what the others are told.
	Load LoadStatus `json:"load"`
	// Direct counts streams between voters that a third node carries.
	Direct direct.Stats `json:"direct"`

	alarms control.Alarms // of the policy
}

// DrainStatus is how far a drain has come. A node in state drained has no sessions left and forwards nothing, or its
// deadline has passed.
type DrainStatus struct {
	Wanted       string    `json:"wanted"` // control.NodeDrained or control.NodeCordoned
	Deadline     time.Time `json:"deadline,omitzero"`
	Sessions     int       `json:"sessions"`
	QuietSeconds float64   `json:"quiet_seconds"` // since this node last forwarded a frame of others; at most its uptime
}

// AccessStatus is the edge towards clients: sessions open now by kind, and RTP packets since start.
type AccessStatus struct {
	Sessions   map[string]int `json:"sessions"`
	PacketsIn  uint64         `json:"packets_in"`
	PacketsOut uint64         `json:"packets_out"`
	Dropped    uint64         `json:"dropped"`
}

// MemberStatus is one node as gossip sees it, or saw it within the last hour if it is dead.
type MemberStatus struct {
	Node          string  `json:"node"`
	Region        string  `json:"region"`
	Alive         bool    `json:"alive"`
	State         string  `json:"state"`
	Mesh          string  `json:"mesh"`
	AccessURL     string  `json:"access_url"`
	PolicyVersion uint64  `json:"policy_version"`
	Voter         bool    `json:"voter"`
	Sessions      int     `json:"sessions"`
	Load          float64 `json:"load"`
}

// LinkStatus is one directed link as measured; latency and jitter are one-way milliseconds, loss a share.
type LinkStatus struct {
	From      string  `json:"from"`
	To        string  `json:"to"`
	LatencyMS float64 `json:"latency_ms"`
	JitterMS  float64 `json:"jitter_ms"`
	Loss      float64 `json:"loss"`
	Down      bool    `json:"down"`
}

// BraidStatus is one session between this node and a peer. Paths name nodes from sender to receiver.
type BraidStatus struct {
	Peer             string            `json:"peer"`
	Fence            string            `json:"fence"`
	Out              []PathStatus      `json:"out"`
	In               []PathStatus      `json:"in"`
	OutPairs         []PairStatus      `json:"out_pairs"`
	InPairs          []PairStatus      `json:"in_pairs"`
	PacketsSent      uint64            `json:"packets_sent"`
	PacketsDelivered uint64            `json:"packets_delivered"`
	Dropped          map[string]uint64 `json:"dropped"` // packets that did not leave for the peer, by reason
	Duplicates       uint64            `json:"duplicates_dropped"`
	Undelivered      uint64            `json:"undelivered"`
	Repaired         uint64            `json:"repaired"`
	Budget           BudgetStatus      `json:"budget"`
}

// BudgetStatus is what a node may send to a peer under one fence, and what it makes of that.
type BudgetStatus struct {
	Copies     float64 `json:"copies"`      // of a media frame, over the last half second of media
	Withheld   uint64  `json:"withheld"`    // copies of frames that redundancy asked for and a budget refused
	DemandKbps float64 `json:"demand_kbps"` // one copy of the media
	LimitKbps  float64 `json:"limit_kbps"`  // what may be sent at all; 0: nothing limits it
	LimitedBy  string  `json:"limited_by"`  // none, path, link (a first hop), peer (all paths to it), node (all that this node sends)
}

func budgetStatus(st braid.SessionStats) BudgetStatus {
	return BudgetStatus{
		Copies: st.Copies, Withheld: st.Withheld, DemandKbps: st.Demand * 8 / 1000, LimitKbps: st.Limit * 8 / 1000, LimitedBy: st.LimitedBy,
	}
}

// PathStatus is one path of a session in one direction; counters are media frames since the path began.
type PathStatus struct {
	ID           uint8    `json:"id"` // of the session's path, given anew to each; tells two spells of the same hops apart
	Hops         []string `json:"hops"`
	Active       bool     `json:"active"`
	Alive        bool     `json:"alive"`
	Sent         uint64   `json:"sent"`
	Received     uint64   `json:"received"`
	Lost         uint64   `json:"lost"`
	Corrupt      uint64   `json:"corrupt"`   // among the lost: arrived, but changed on the way
	Congested    uint64   `json:"congested"` // of those that arrived: marked on the way as having waited
	First        uint64   `json:"first"`
	FirstShare   float64  `json:"first_share"` // of the media frames that any path brought first, this path's part
	Rescued      uint64   `json:"rescued"`
	Bursts       uint64   `json:"bursts"`              // runs of media frames lost in a row
	MaxBytes     int      `json:"max_bytes,omitempty"` // the path drops larger UDP payloads silently
	LongestBurst uint64   `json:"longest_burst"`
	DelayMS      float64  `json:"delay_ms"`
	OverFloorMS  float64  `json:"over_floor_ms"` // delay above the lowest of the last half minute
	JitterMS     float64  `json:"jitter_ms"`
	BudgetKbps   float64  `json:"budget_kbps"` // of a path from here: the cap of its own, 0 if it has none
	QueueMS      float64  `json:"queue_ms"`    // of a path from here: delay above the floor, as budgets see it
	LossShare    float64  `json:"loss_share"`  // of the frames sent on it, those that did not arrive
}

// PairStatus is what two paths of a session (by id) did with the media frames that went out on both. Joint is the share that
// both lost; were their losses independent, it would be near Expected.
type PairStatus struct {
	A        uint8   `json:"a"`
	B        uint8   `json:"b"`
	Sent     uint64  `json:"sent"`
	LostA    uint64  `json:"lost_a"`
	LostB    uint64  `json:"lost_b"`
	LostBoth uint64  `json:"lost_both"`
	Joint    float64 `json:"joint"`
	Expected float64 `json:"expected"`
}

// Status is a snapshot; before Ready it says no more than who the node is.
func (n *Node) Status() Status {
	return n.status(func() []routing.Link { return n.mesh.Graph().Links() })
}

// status is Status with the links that the caller wants: those of everybody cost a large mesh more than all the rest.
func (n *Node) status(links func() []routing.Link) Status {
	s := Status{Node: n.cfg.Node, Mesh: n.id.Mesh, Region: n.id.Region, ID: n.id.ID(), Version: n.opts.Version, State: "starting"}
	select {
	case <-n.ready:
	default:
		return s
	}
	s.Incarnation = n.incarnation
	s.State, s.Drain = n.stateName(), n.drainStatus()
	s.UptimeSeconds = time.Since(n.started).Seconds()
	s.AccessURL = n.AccessURL()
	s.PolicyVersion = n.enforcer.version()
	s.Filter = n.filterMode()
	s.FilterFull = n.filter.Overflowed(10 * time.Minute)
	if len(n.cfg.Filter.Interfaces) > 0 {
		s.FilterWhy = n.filter.Status().Why
	}
	s.CertificateBegins, s.CertificateExpires = n.id.Cert().Leaf.NotBefore, n.id.Cert().Leaf.NotAfter
	s.Lease = n.leaseStatus(n.now())
	s.Joins = len(n.cfg.Mesh.Join)
	s.Control = n.control.Status()
	members := n.mesh.Members()
	s.Members = membersStatus(append(members, n.memory.gone(members)...))
	s.Links = linksStatus(links())
	s.Braids = n.braidStatus()
	s.Access = accessStatus(n.access.Stats())
	s.Media = n.hub.Stats()
	s.Load, s.Direct = n.loadStatus(), n.direct.Stats()
	s.Trouble, s.alarms = n.control.Enforcement().Trouble, n.control.Policy().Alarms
	s.Clocks = n.clocks.status(time.Now())
	s.Findings = findings(s, n.now())
	return s
}

func (n *Node) drainStatus() *DrainStatus {
	wanted := n.enforcer.nodeState(n.cfg.Node)
	if wanted.State == "" {
		return nil
	}
	return &DrainStatus{Wanted: wanted.State, Deadline: wanted.Deadline, Sessions: n.sessions(), QuietSeconds: n.drain.idle(time.Now()).Seconds()}
}

func accessStatus(a access.Stats) AccessStatus {
	return AccessStatus{
		Sessions: a.Sessions, PacketsIn: a.PacketsIn, PacketsOut: a.PacketsOut,
		Dropped: a.DropsQueue + a.DropsEarly + a.DropsSize + a.DropsIngest + a.DropsWrite + a.DropsStale + a.DropsBlocked,
	}
}

func membersStatus(members []mesh.Member) []MemberStatus {
	out := make([]MemberStatus, 0, len(members))
	for _, m := range members {
		out = append(out, MemberStatus{
			Node: m.Node, Region: m.Region, Alive: m.Alive, State: m.Health.State, Mesh: m.Health.Mesh.String(),
			AccessURL: m.Health.AccessURL, PolicyVersion: m.Health.PolicyVersion, Voter: m.Health.Voter,
			Sessions: m.Health.Sessions, Load: m.Health.Load,
		})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Node < out[j].Node })
	return out
}

func linksStatus(links []routing.Link) []LinkStatus {
	var out []LinkStatus
	for _, l := range links {
		out = append(out, LinkStatus{
			From: l.From, To: l.To, LatencyMS: ms(l.Latency), JitterMS: ms(l.Jitter), Loss: l.Loss, Down: l.Down,
		})
	}
	return out
}

// Braids lists the sessions with peers, once Ready; it is the part of Status that is cheap in a large mesh.
func (n *Node) Braids() []BraidStatus { return n.braidStatus() }

func (n *Node) braidStatus() []BraidStatus {
	var out []BraidStatus
	for _, s := range n.braid.Sessions() {
		st := s.Stats()
		self, peer := n.cfg.Node, n.nameOf(s.Peer())
		out = append(out, BraidStatus{
			Peer: peer, Fence: fmt.Sprintf("%08x", uint32(s.Fence())),
			Out:         n.pathStatus(self, peer, st.Out),
			In:          n.pathStatus(peer, self, st.In),
			OutPairs:    pairStatus(st.OutPairs),
			InPairs:     pairStatus(st.InPairs),
			PacketsSent: st.PacketsSent, PacketsDelivered: st.PacketsReceived,
			Dropped: st.Drops, Duplicates: st.Duplicates, Undelivered: st.Undelivered, Repaired: st.Repaired,
			Budget: budgetStatus(st),
		})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Peer+out[i].Fence < out[j].Peer+out[j].Fence })
	return out
}

func (n *Node) pathStatus(from, to string, paths []braid.PathStats) []PathStatus {
	out := make([]PathStatus, 0, len(paths))
	var first uint64
	for _, p := range paths {
		first += p.First
	}
	for _, p := range paths {
		hops := []string{from}
		for _, r := range p.Relays {
			hops = append(hops, n.nameOf(r))
		}
		out = append(out, PathStatus{
			ID: p.ID, Hops: append(hops, to), Active: p.Active, Alive: p.Alive, Sent: p.Sent, Received: p.Received, Lost: p.Lost, Corrupt: p.Corrupt, First: p.First,
			Rescued: p.Rescued, DelayMS: ms(p.Delay), JitterMS: ms(p.Jitter), OverFloorMS: ms(p.OverFloor),
			Congested: p.Congested, MaxBytes: p.MaxBytes, Bursts: p.Bursts, LongestBurst: p.LongestBurst, FirstShare: share(p.First, first),
			BudgetKbps: p.Budget * 8 / 1000, QueueMS: ms(p.Queue), LossShare: share(p.Lost, p.Received+p.Lost),
		})
	}
	return out
}

func pairStatus(pairs []braid.PairStats) []PairStatus {
	out := make([]PairStatus, 0, len(pairs))
	for _, p := range pairs {
		out = append(out, PairStatus{
			A: p.A, B: p.B, Sent: p.Sent, LostA: p.LostA, LostB: p.LostB, LostBoth: p.Both,
			Joint: share(p.Both, p.Sent), Expected: share(p.LostA, p.Sent) * share(p.LostB, p.Sent),
		})
	}
	return out
}

func share(part, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return float64(part) / float64(of)
}

// nameOf a node, also of one that has left since.
func (n *Node) nameOf(id braid.NodeID) string {
	if m, ok := n.mesh.ByID(uint32(id)); ok {
		return m.Node
	}
	return n.memory.name(id)
}

// PathsReport is the path set between two nodes; costs are expected one-way milliseconds.
type PathsReport struct {
	From     string         `json:"from"`
	To       string         `json:"to"`
	App      string         `json:"app,omitempty"`
	Fence    []string       `json:"fence,omitempty"`
	Paths    []routing.Path `json:"paths"`
	Disjoint bool           `json:"disjoint"`
	Shared   []string       `json:"shared"`
	// Braids are the sessions over such paths, one for each fence, if the node that answers is one of the ends: what each path did.
	Braids []BraidStatus `json:"braids,omitempty"`
}

// PathsBetween computes the path set that this node sees between two members now: inside the fence of app,
// or anywhere if app is "".
func (n *Node) PathsBetween(from, to, app string) (PathsReport, error) {
	c := routing.Constraints{MaxPaths: maxPaths, MaxRelays: maxRelays, AnyRegion: app == ""}
	if app != "" {
		id, ok := n.enforcer.fenceOf(app)
		if !ok {
			return PathsReport{}, fmt.Errorf("the policy (version %d) has no app %q", n.enforcer.version(), app)
		}
		c.Regions = n.enforcer.regions(id)
	}
	for _, name := range []string{from, to} {
		if _, ok := n.mesh.Lookup(name); !ok {
			return PathsReport{}, fmt.Errorf("node %q is %w", name, errNoMember)
		}
	}
	set := n.routes.graph().PathSet(from, to, n.enforcer.constrain(c))
	r := PathsReport{From: from, To: to, App: app, Fence: c.Regions, Paths: set.Paths, Disjoint: set.Disjoint, Shared: set.Shared}
	if r.Paths == nil {
		r.Paths = []routing.Path{}
	}
	r.Braids = n.braidsBetween(from, to, app)
	return r, nil
}

// braidsBetween are this node's sessions with the other end, under the fence of app or under all.
func (n *Node) braidsBetween(from, to, app string) (out []BraidStatus) {
	var fence string
	if id, ok := n.enforcer.fenceOf(app); ok {
		fence = fmt.Sprintf("%08x", uint32(id))
	}
	for _, b := range n.braidStatus() {
		with := from == n.cfg.Node && to == b.Peer || to == n.cfg.Node && from == b.Peer
		if with && (app == "" || b.Fence == fence) {
			out = append(out, b)
		}
	}
	return out
}

// sessions of clients at this node.
func (n *Node) sessions() (sum int) {
	for _, k := range n.access.Stats().Sessions {
		sum += k
	}
	return sum
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// ApplyPolicy replaces the policy through this node, as PUT /v1/policy does; who goes into the history.
func (n *Node) ApplyPolicy(ctx context.Context, doc []byte, who string) error {
	_, err := n.control.Propose(ctx, control.Proposal{Document: doc, Who: who, Force: true})
	return err
}
