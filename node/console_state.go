package node

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// layoutLinks is how many links of each node the console draws the map by: its fastest.
const layoutLinks = 4

// ConsoleState is what the console shows every two seconds: small enough for a mesh of hundreds of nodes. Links name nodes by
// their place in Members.
type ConsoleState struct {
	Now           int64          `json:"now"` // Unix milliseconds of this node's clock
	Node          string         `json:"node"`
	Mesh          string         `json:"mesh"`
	Region        string         `json:"region"`
	Version       string         `json:"version"`
	State         string         `json:"state"`
	UptimeSeconds float64        `json:"uptime_seconds"`
	PolicyVersion uint64         `json:"policy_version"`
	Leader        string         `json:"leader"`
	Filter        string         `json:"filter"`
	Findings      []Finding      `json:"findings"`
	Members       []MemberStatus `json:"members"`
	Links         []ConsoleLink  `json:"links"`
	Braids        []BraidStatus  `json:"braids"`
	Access        AccessStatus   `json:"access"`
	Drops         []ConsoleDrop  `json:"drops"`
}

// ConsoleLink is a link between two members, both ways as one: the faster direction's latency, the worse loss.
type ConsoleLink struct {
	A         int     `json:"a"`
	B         int     `json:"b"`
	LatencyMS float64 `json:"ms"`
	Loss      float64 `json:"loss"`
	Down      bool    `json:"down,omitempty"`
}

// ConsoleDrop is what the filter dropped for one reason since start, wherever it did.
type ConsoleDrop struct {
	Class   string `json:"class"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// consoleState takes what the console needs of a status; pure.
func consoleState(s Status, now time.Time) ConsoleState {
	return ConsoleState{
		Now: now.UnixMilli(), Node: s.Node, Mesh: s.Mesh, Region: s.Region, Version: s.Version, State: s.State, UptimeSeconds: s.UptimeSeconds,
		PolicyVersion: s.PolicyVersion, Leader: s.Control.Leader, Filter: s.Filter, Findings: orEmpty(s.Findings), Members: orEmpty(s.Members),
		Links: consoleLinks(s), Braids: orEmpty(s.Braids), Access: s.Access, Drops: []ConsoleDrop{},
	}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// consoleLinks keeps each node's fastest links, and those that paths of this node's braids use.
func consoleLinks(s Status) []ConsoleLink {
	place := make(map[string]int, len(s.Members))
	for i, m := range s.Members {
		place[m.Node] = i
	}
	pairs := make(map[[2]int]ConsoleLink)
	for _, l := range s.Links {
		a, okA := place[l.From]
		b, okB := place[l.To]
		if !okA || !okB {
			continue
		}
		k := [2]int{min(a, b), max(a, b)}
		both, seen := pairs[k]
		if !seen {
			both = ConsoleLink{A: k[0], B: k[1], LatencyMS: l.LatencyMS}
		}
		both.LatencyMS, both.Loss, both.Down = min(both.LatencyMS, l.LatencyMS), max(both.Loss, l.Loss), both.Down || l.Down
		pairs[k] = both
	}
	keep := pathLinks(s, place)
	byNode := make([][]ConsoleLink, len(s.Members))
	for _, l := range pairs {
		byNode[l.A], byNode[l.B] = append(byNode[l.A], l), append(byNode[l.B], l)
	}
	for _, links := range byNode {
		slices.SortFunc(links, func(a, b ConsoleLink) int { return cmp.Compare(a.LatencyMS, b.LatencyMS) })
		for _, l := range links[:min(layoutLinks, len(links))] {
			keep[[2]int{l.A, l.B}] = true
		}
	}
	out := []ConsoleLink{}
	for k := range keep {
		if l, ok := pairs[k]; ok {
			l.LatencyMS = float64(int(l.LatencyMS*10)) / 10
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b ConsoleLink) int { return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B)) })
	return out
}

func pathLinks(s Status, place map[string]int) map[[2]int]bool {
	keep := make(map[[2]int]bool)
	for _, b := range s.Braids {
		for _, p := range slices.Concat(b.Out, b.In) {
			for i := 1; i < len(p.Hops); i++ {
				x, y := place[p.Hops[i-1]], place[p.Hops[i]]
				keep[[2]int{min(x, y), max(x, y)}] = true
			}
		}
	}
	return keep
}

func (n *Node) serveConsole(w http.ResponseWriter, _ *http.Request) {
	state := consoleState(n.Status(), time.Now())
	sums := make(map[[2]string]uint64)
	for _, c := range n.filter.Report().Counts {
		if c.Verdict == "drop" {
			sums[[2]string{c.Class, c.Reason}] += c.Packets
		}
	}
	for k, packets := range sums {
		state.Drops = append(state.Drops, ConsoleDrop{k[0], k[1], packets})
	}
	slices.SortFunc(state.Drops, func(a, b ConsoleDrop) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Class+a.Reason, b.Class+b.Reason))
	})
	writeJSON(w, http.StatusOK, state)
}

// serveSamples answers with the node's own history after ?since=, Unix milliseconds.
func (n *Node) serveSamples(w http.ResponseWriter, r *http.Request) {
	since, _ := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64) // none: all
	writeJSON(w, http.StatusOK, n.history.since(since))
}

// serveChannels answers with what the mesh carries; ?q= keeps channels whose app or name contains it, ?limit= the first so many.
func (n *Node) serveChannels(w http.ResponseWriter, r *http.Request) {
	all := n.Channels(r.Context())
	q := strings.ToLower(r.URL.Query().Get("q"))
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit < 0 {
		limit = maxChannels
	}
	found := Channels{Channels: []Channel{}, More: all.More, Silent: all.Silent}
	for _, c := range all.Channels {
		switch {
		case !strings.Contains(strings.ToLower(c.App+" "+c.Channel), q):
		case len(found.Channels) == limit:
			found.More++
		default:
			found.Channels = append(found.Channels, c)
		}
	}
	writeJSON(w, http.StatusOK, found)
}
