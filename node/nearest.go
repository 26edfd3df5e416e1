package node

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/routing"
)

const (
	nearestDefault, nearestMost = 5, 100
	maxHints                    = 256             // round trips that a client may supply
	maxHintMS                   = 60_000.0        // more is no round trip
	loadCost                    = 20.0            // ms for load/(1-load): what a busy node must be nearer by
	fullCost                    = 100_000.0       // ms; full nodes come last
	farAway                     = 500.0           // ms between regions that nobody measured
	nearestFresh                = 1 * time.Second // how old the distances between regions may be
)

// NearestAnswer is GET /v1/nearest: nodes for a client, best first. Every node gives the same answer, as far as gossip has
// reached it.
type NearestAnswer struct {
	App           string        `json:"app,omitempty"`
	Region        string        `json:"region,omitempty"` // the client's, if it is known
	PolicyVersion uint64        `json:"policy_version"`
	Nodes         []NearestNode `json:"nodes"`
}

// NearestNode is one node of the answer. ScoreMS is what it is ranked by: expected one-way milliseconds to it, as far as they
// are known, and what its load costs.
type NearestNode struct {
	Node    string  `json:"node"`
	Region  string  `json:"region"`
	URL     string  `json:"url"`
	ScoreMS float64 `json:"score_ms"`
	Load    float64 `json:"load"`
	Full    bool    `json:"full,omitempty"`
}

// nearestQuery is what a client asks with.
type nearestQuery struct {
	app    string
	region string             // the client's; "" if not known
	rtt    map[string]float64 // round trips in ms that it measured, by node or region
	limit  int
}

// parseNearest reads ?app=ID&region=ID&rtt=NAME:MS,NAME:MS&limit=N; all of it may be left out. All errors at once.
func parseNearest(v url.Values) (q nearestQuery, err error) {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for key := range v {
		if !slices.Contains([]string{"app", "region", "rtt", "limit"}, key) {
			fail("%.40q is not a parameter; there are app, region, rtt and limit", key)
		}
	}
	q = nearestQuery{app: v.Get("app"), region: v.Get("region"), rtt: make(map[string]float64), limit: nearestDefault}
	if s := v.Get("limit"); s != "" {
		if q.limit, err = strconv.Atoi(s); err != nil || q.limit < 1 || q.limit > nearestMost {
			fail("limit %.20q is not a number from 1 to %d", s, nearestMost)
		}
	}
	hints := strings.FieldsFunc(strings.Join(v["rtt"], ","), func(r rune) bool { return r == ',' })
	if len(hints) > maxHints {
		fail("%d round trips; at most %d", len(hints), maxHints)
		hints = nil
	}
	for _, hint := range hints {
		name, s, ok := strings.Cut(hint, ":")
		ms, err := strconv.ParseFloat(s, 64)
		if !ok || name == "" || err != nil || !(ms >= 0 && ms <= maxHintMS) {
			fail("rtt %.60q is not NAME:MILLISECONDS (a node or region, 0 to %g)", hint, maxHintMS)
			continue
		}
		q.rtt[name] = ms
	}
	return q, errors.Join(errs...)
}

// rankNearest is pure: who is there, how far regions are apart, what the policy says, and what the client asks.
func rankNearest(members []mesh.Member, apart func(a, b string) float64, admits func(region string) bool, states map[string]control.NodeState, q nearestQuery) []NearestNode {
	out := []NearestNode{}
	for _, m := range members {
		if !m.Alive || m.Health.State != mesh.StateServing || m.Health.AccessURL == "" || !admits(m.Region) || states[m.Node].State != "" {
			continue
		}
		load := m.Health.Load
		n := NearestNode{Node: m.Node, Region: m.Region, URL: m.Health.AccessURL, Load: load, Full: load >= 1}
		n.ScoreMS = fullCost
		if !n.Full {
			n.ScoreMS = loadCost * load / (1 - load)
		}
		n.ScoreMS = math.Round(10*(n.ScoreMS+q.distance(m, apart))) / 10
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b NearestNode) int {
		return cmp.Or(cmp.Compare(a.ScoreMS, b.ScoreMS), cmp.Compare(a.Node, b.Node))
	})
	return out[:min(len(out), q.limit)]
}

// distance is the client's one-way delay to a node: by its own measurement, of the node or of its region; else from the client's
// region; else by the measured place that makes it shortest; else nothing is known, which is the same for all.
func (q *nearestQuery) distance(m mesh.Member, apart func(a, b string) float64) float64 {
	if rtt, ok := q.rtt[m.Node]; ok {
		return rtt / 2
	}
	if rtt, ok := q.rtt[m.Region]; ok {
		return rtt / 2
	}
	if q.region != "" {
		return apart(q.region, m.Region)
	}
	if len(q.rtt) == 0 {
		return 0
	}
	best := farAway
	for _, place := range slices.Sorted(maps.Keys(q.rtt)) {
		best = min(best, q.rtt[place]/2+apart(place, m.Region))
	}
	return best
}

// distances are the shortest measured ways between regions, in ms; names of nodes stand for their region.
type distances struct {
	mu     sync.Mutex
	at     time.Time                     // guarded by mu
	apart  map[string]map[string]float64 // guarded by mu: replaced, never written
	region map[string]string             // guarded by mu: of nodes; replaced, never written
}

// between returns the function that rankNearest asks, drawn from the graph if what there is is too old.
func (d *distances) between(now time.Time, graph func() *routing.Graph) func(a, b string) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.apart == nil || now.Sub(d.at) > nearestFresh {
		d.at = now
		d.apart, d.region = regionDistances(graph())
	}
	apart, region := d.apart, d.region
	return func(a, b string) float64 {
		if r, ok := region[a]; ok {
			a = r
		}
		if a == b {
			return 0
		}
		if ms, ok := apart[a][b]; ok {
			return ms
		}
		return farAway
	}
}

// regionDistances takes the shortest link between two regions, or the shortest pair of links by way of a third. Pure.
func regionDistances(g *routing.Graph) (apart map[string]map[string]float64, region map[string]string) {
	direct := make(map[string]map[string]float64)
	region = make(map[string]string)
	for _, n := range g.Nodes() {
		region[n.Name] = n.Region
		if direct[n.Region] == nil {
			direct[n.Region] = make(map[string]float64)
		}
	}
	for _, l := range g.Links() {
		a, b, latency := region[l.From], region[l.To], ms(l.Latency)
		if old, ok := direct[a][b]; !l.Down && a != b && (!ok || latency < old) {
			direct[a][b] = latency
		}
	}
	apart = make(map[string]map[string]float64)
	for a := range direct {
		apart[a] = maps.Clone(direct[a])
		for via, first := range direct[a] {
			for b, second := range direct[via] {
				if old, ok := apart[a][b]; b != a && (!ok || first+second < old) {
					apart[a][b] = first + second
				}
			}
		}
	}
	return apart, region
}

// serveNearest answers clients and operators.
func (n *Node) serveNearest(w http.ResponseWriter, r *http.Request) {
	q, err := parseNearest(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	p := n.enforcer.current.Load()
	admits := func(region string) bool { return p.regions[region] }
	if q.app != "" {
		id, ok := n.enforcer.fenceOf(q.app)
		if !ok {
			writeError(w, http.StatusNotFound, errors.New("no such app"))
			return
		}
		admits = func(region string) bool { return p.fences[id].set[region] }
	}
	if q.region != "" && !p.regions[q.region] {
		writeError(w, http.StatusBadRequest, fmt.Errorf("region %.64q is none of this mesh's", q.region))
		return
	}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && q.region == "" {
		q.region = p.places.find(from.Addr().Unmap().WithZone(""))
	}
	writeJSON(w, http.StatusOK, NearestAnswer{
		App: q.app, Region: q.region, PolicyVersion: p.version,
		Nodes: rankNearest(n.mesh.Published(), n.distances.between(time.Now(), n.mesh.Graph), admits, p.nodes, q),
	})
}

// places finds the region of a client by its address.
type places map[int]map[netip.Prefix]string // by length: prefix to region

// find returns the region of the longest prefix that holds an address, "" if none does.
func (p places) find(addr netip.Addr) string {
	for bits := addr.BitLen(); bits >= 0; bits-- {
		if len(p[bits]) == 0 {
			continue
		}
		if prefix, err := addr.Prefix(bits); err == nil {
			if region, ok := p[bits][prefix]; ok {
				return region
			}
		}
	}
	return ""
}

func placesOf(list []control.ClientPlace) places {
	out := make(places)
	for _, c := range list {
		for _, prefix := range c.From {
			if out[prefix.Bits()] == nil {
				out[prefix.Bits()] = make(map[netip.Prefix]string)
			}
			out[prefix.Bits()][prefix] = c.Region
		}
	}
	return out
}
