package scenario

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ternmesh/tern/sim"
)

func (p *reader) events() {
	for i, f := range p.file.Events {
		path := fmt.Sprintf("events[%d]", i)
		e, ok := p.event(path, f)
		if !ok {
			continue
		}
		p.repeat(path, f, e)
		if len(p.s.Events) > MaxEvents {
			p.add(path, "more than %d events with all repetitions", MaxEvents)
			return
		}
	}
	p.lives()
	slices.SortStableFunc(p.s.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
}

// repeat writes an event and its repetitions out, each within the scenario.
func (p *reader) repeat(path string, f eventFile, e Event) {
	every := p.duration(path+".every", f.Every, 0)
	lasts := e.Policy == nil && e.Action != Rebind && e.Action != Handover && e.Action != Restart // the others are over at once
	switch {
	case every == 0 && f.Times != 0:
		p.add(path+".times", "without every")
		return
	case every > 0 && e.For >= every:
		p.add(path+".every", "%v is not longer than for: %v", every, e.For)
		return
	case every > 0 && e.For == 0 && lasts:
		p.add(path+".every", "what repeats must end: set for")
		return
	case f.Times < 0:
		p.add(path+".times", "%d is negative", f.Times)
		return
	}
	for n := 0; n == 0 || every > 0 && e.At < p.s.Duration && (f.Times == 0 || n < f.Times) && n <= MaxEvents; n++ {
		p.s.Events = append(p.s.Events, e)
		p.written = append(p.written, path)
		e.At += every
	}
}

// event reads one; false if it cannot be made sense of (which has been reported).
func (p *reader) event(path string, f eventFile) (Event, bool) {
	before := len(p.problems)
	e := Event{For: p.duration(path+".for", f.For, 0)}
	if f.At == "" {
		p.add(path, "an event needs at")
	}
	e.At = p.duration(path+".at", f.At, 0)
	if e.At >= p.s.Duration && f.At != "" {
		p.add(path+".at", "%v is not before the end at %v", e.At, p.s.Duration)
	}
	if f.For != "" && e.For == 0 && len(p.problems) == before {
		p.add(path+".for", "an event that lasts no time does nothing: leave for out to make it last to the end")
	}
	p.target(path, f, &e)
	return e, len(p.problems) == before
}

// target decides what kind of event it is.
func (p *reader) target(path string, f eventFile, e *Event) {
	kinds := map[string]bool{
		"link": f.Link != nil, "node": f.Node != "", "region": f.Region != "", "shared_risk": f.SharedRisk != "",
		"partition": f.Partition != nil, "last_mile": f.LastMile != "",
	}
	var set []string
	for _, k := range []string{"link", "node", "region", "shared_risk", "partition", "last_mile"} {
		if kinds[k] {
			set = append(set, k)
		}
	}
	if len(set) != 1 {
		p.add(path, "an event has one of link, node, region, shared_risk, partition and last_mile; this one has %s", or(strings.Join(set, " and "), "none"))
		return
	}
	p.company(path, set[0], f)
	switch set[0] {
	case "last_mile":
		p.lastMileEvent(path, f, e)
	case "link":
		p.linkEvent(path, f, e)
	case "node":
		p.nodeEvent(path, f, e)
	case "region":
		p.regionEvent(path, f, e)
	case "shared_risk":
		p.riskEvent(path, f, e)
	case "partition":
		p.partition(path, f, e)
	}
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func (p *reader) linkEvent(path string, f eventFile, e *Event) {
	a, b, ok := p.linkName(path+".link", f.Link)
	if !ok {
		return
	}
	e.Pairs = []Pair{{a, b}}
	arrow := " > "
	if !f.OneWay {
		e.Pairs = append(e.Pairs, Pair{b, a})
		arrow = "-"
	}
	if f.Action != "" && f.Action != Down {
		p.add(path+".action", "%q is not something a link does: only down", f.Action)
	}
	p.linkChange(path, f, e)
	e.Label = a + arrow + b + " " + describe(f)
}

// linkChange reads what happens to the links of an event.
func (p *reader) linkChange(path string, f eventFile, e *Event) {
	var on sim.Link
	if len(e.Pairs) > 0 {
		on = p.s.Links[e.Pairs[0]]
	}
	e.Change = p.change(path, f.Settings, on)
	e.Change.AddDelay = p.optional(path+".add_delay", f.AddDelay)
	e.Change.Down = e.Change.Down || f.Action == Down
	if e.Change == (Change{}) {
		p.add(path, "nothing changes: set delay, add_delay, jitter, loss, rate, queue, mtu, reorder, duplicate, corrupt or action: down")
	}
}

// describe is a change in few words, as it was written.
func describe(f eventFile) string {
	var words []string
	add := func(name string, v any) {
		if s := fmt.Sprint(v); v != nil && s != "" {
			words = append(words, name+" "+s)
		}
	}
	if f.Settings.Down || f.Action == Down {
		words = append(words, "down")
	}
	add("delay", f.Settings.Delay)
	add("delay +", f.AddDelay)
	add("jitter", f.Settings.Jitter)
	add("loss", f.Settings.Loss)
	add("rate", f.Settings.Rate)
	add("reorder", f.Settings.Reorder)
	add("duplicate", f.Settings.Duplicate)
	add("corrupt", f.Settings.Corrupt)
	return strings.Join(words, ", ")
}

// linkName reads a-b, if exactly one split names two nodes, or [a, b].
func (p *reader) linkName(path string, v any) (a, b string, ok bool) {
	switch v := v.(type) {
	case []any:
		if len(v) != 2 {
			p.add(path, "a link has two ends, not %d", len(v))
			return "", "", false
		}
		a, b = fmt.Sprint(v[0]), fmt.Sprint(v[1])
		first, second := p.node(path, a), p.node(path, b)
		ok = first && second
	case string:
		var found [][2]string
		for i, r := range v {
			if _, left := p.file.Nodes[v[:i]]; r == '-' && left {
				if _, right := p.file.Nodes[v[i+1:]]; right {
					found = append(found, [2]string{v[:i], v[i+1:]})
				}
			}
		}
		if len(found) != 1 {
			p.add(path, "%q names %s: write a-b or [a, b], with names of nodes (%s)", v,
				map[bool]string{true: "no two nodes", false: "two nodes in several ways"}[len(found) == 0], strings.Join(p.names[:min(8, len(p.names))], ", "))
			return "", "", false
		}
		a, b, ok = found[0][0], found[0][1], true
	default:
		p.add(path, "write a-b or [a, b]")
		return "", "", false
	}
	if ok && a == b {
		p.add(path, "a link joins two nodes, not %q with itself", a)
		return "", "", false
	}
	return a, b, ok
}

func (p *reader) nodeEvent(path string, f eventFile, e *Event) {
	if !p.node(path+".node", f.Node) {
		return
	}
	e.Node, e.Action = f.Node, f.Action
	e.Label = f.Node + " " + f.Action
	switch {
	case f.Policy != "":
		e.Policy = p.policyFile(path+".policy", f.Policy)
		e.Label = "policy " + f.Policy
	case f.Flood != nil:
		e.Flood = &Flood{To: f.Node, PacketsPerSecond: f.Flood.PacketsPerSecond, Size: f.Flood.Size}
		e.Label = fmt.Sprintf("%s flooded with %d packets/s", f.Node, f.Flood.PacketsPerSecond)
		if e.Flood.Size == 0 {
			e.Flood.Size = 512
		}
		if e.Flood.PacketsPerSecond < 1 || e.Flood.PacketsPerSecond > MaxPacketsPerSecond || e.Flood.Size < 1 || e.Flood.Size > 1400 {
			p.add(path+".flood", "want packets_per_second of 1 to %d and a size of 1 to 1400 bytes", MaxPacketsPerSecond)
		}
	case f.JointLoss != "":
		e.JointLoss = p.share(path+".joint_loss", f.JointLoss)
		e.Label = f.Node + " joint loss " + f.JointLoss
	case f.Action == Skew:
		p.skewEvent(path, f, e)
	case f.Action == "" || f.Action == Down:
		// Not the process, its links: slow, lossy or unreachable as others see it.
		e.Pairs = p.linksOf(func(n string) bool { return n == f.Node })
		e.Node, e.Action = "", ""
		p.linkChange(path, f, e)
		e.Label = f.Node + " " + describe(f)
	case f.Action != Kill && f.Action != Stop && f.Action != Restart:
		p.add(path+".action", "%q is not one of kill, stop, restart, down, skew", f.Action)
	}
}

// skewEvent sets a node's wall clock.
func (p *reader) skewEvent(path string, f eventFile, e *Event) {
	by := p.skew(path+".by", f.By)
	e.Skew, e.Action = &by, ""
	e.Label = "clock of " + f.Node + " off by " + f.By
	if f.By == "" {
		p.add(path, "skew needs by: how far the clock is set ahead (2s) or back (-2s)")
	}
}

// lastMileEvent is about all clients of a stream: their links change, or their translators lose what they know.
func (p *reader) lastMileEvent(path string, f eventFile, e *Event) {
	i := slices.IndexFunc(p.s.Streams, func(s Stream) bool { return s.Name == f.LastMile })
	if i < 0 || !p.s.Streams[i].WebRTC {
		p.add(path+".last_mile", "no stream with webrtc: true is called %q", f.LastMile)
		return
	}
	e.Stream, e.Label = f.LastMile, "last mile of "+f.LastMile+" "+describe(f)
	switch f.Action {
	case Rebind, Handover:
		e.Action = f.Action
		e.Label = map[string]string{Rebind: "translators of " + f.LastMile + " forget", Handover: f.LastMile + " changes networks"}[f.Action]
		if f.Action == Rebind && p.s.Streams[i].NAT == 0 {
			p.add(path+".action", "rebind needs a translator in front of the clients: set nat in the stream")
		}
	case "", Down:
		p.linkChange(path, f, e)
	default:
		p.add(path+".action", "%q is not something a last mile does: down, rebind or handover", f.Action)
	}
}

// linksOf are the directions that join the inside of a set of nodes with its outside.
func (p *reader) linksOf(in func(string) bool) (out []Pair) {
	for _, a := range p.names {
		for _, b := range p.names {
			if in(a) != in(b) {
				out = append(out, Pair{a, b})
			}
		}
	}
	return out
}

func (p *reader) regionEvent(path string, f eventFile, e *Event) {
	inside := make(map[string]bool)
	for _, n := range p.s.Nodes {
		if n.Region == f.Region {
			inside[n.Name] = true
		}
	}
	if len(inside) == 0 {
		p.add(path+".region", "no node is in region %q", f.Region)
		return
	}
	if f.Action != Down && f.Action != "" {
		p.add(path+".action", "%q is not something a region does: only down", f.Action)
	}
	// Every link that touches the region, those inside it too.
	for _, a := range p.names {
		for _, b := range p.names {
			if a != b && (inside[a] || inside[b]) {
				e.Pairs = append(e.Pairs, Pair{a, b})
			}
		}
	}
	p.linkChange(path, f, e)
	e.Label = "region " + f.Region + " " + describe(f)
}

func (p *reader) riskEvent(path string, f eventFile, e *Event) {
	pairs := p.s.Risks[f.SharedRisk]
	if len(pairs) == 0 {
		p.add(path+".shared_risk", "nothing shares the risk %q: name it in shared_risk or provider of a node, or in shared_risk of a pair", f.SharedRisk)
		return
	}
	e.Label = f.SharedRisk + " " + describe(f)
	if f.Action == Down {
		e.Risk = f.SharedRisk
		return
	}
	if f.Action != "" {
		p.add(path+".action", "%q is not something a shared risk does: only down", f.Action)
	}
	e.Pairs = pairs
	p.linkChange(path, f, e)
}

func (p *reader) partition(path string, f eventFile, e *Event) {
	seen := make(map[string]bool)
	var label []string
	for i, group := range f.Partition {
		if len(group) == 0 {
			p.add(fmt.Sprintf("%s.partition[%d]", path, i), "a group has at least one node")
		}
		for j, n := range group {
			at := fmt.Sprintf("%s.partition[%d][%d]", path, i, j)
			if p.node(at, n) && seen[n] {
				p.add(at, "%q is in the partition twice", n)
			}
			seen[n] = true
		}
		label = append(label, strings.Join(group, " "))
	}
	if len(f.Partition) < 2 {
		p.add(path+".partition", "a partition has at least two groups of nodes")
	}
	e.Partition, e.Label = f.Partition, "partition "+strings.Join(label, " | ")
}

// lives refuses what no node can do: dying while dead; and two partitions at once, of which the second would replace the
// first.
func (p *reader) lives() {
	order := make([]int, len(p.s.Events))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.s.Events[a].At, p.s.Events[b].At) })
	dead := make(map[string]time.Duration) // until when
	var parted time.Duration
	for _, i := range order {
		e, path := p.s.Events[i], p.written[i]
		end := e.At + e.For
		if e.For == 0 {
			end = p.s.Duration
		}
		switch {
		case e.Policy != nil:
			if until := dead[e.Node]; e.At < until {
				p.add(path, "a policy through %s at %v: that node is dead (until %v)", e.Node, e.At, until)
			}
		case e.Partition != nil:
			if e.At < parted {
				p.add(path, "the partition at %v comes while another one lasts (until %v)", e.At, parted)
			}
			parted = end
		case e.Action == Kill || e.Action == Stop || e.Action == Restart:
			if until := dead[e.Node]; e.At < until && e.Action != Restart {
				p.add(path, "%s of %s at %v: it is already dead (until %v)", e.Action, e.Node, e.At, until)
			}
			dead[e.Node] = end
			if e.Action == Restart {
				dead[e.Node] = e.At + e.For
			}
		}
	}
}
