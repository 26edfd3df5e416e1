package scenario

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ternmesh/tern/control/document"
	"github.com/ternmesh/tern/sim"
)

// links settles every direction: the matrix gives delays, the default what nothing else states, pairs override both.
func (p *reader) links() {
	s, f := p.s, &p.file.Links
	s.Links, s.Risks = make(map[Pair]sim.Link), make(map[string][]Pair)
	base := sim.Link{}
	stated := make(map[Pair]bool) // has a delay
	if f.Default != nil {
		p.change("links.default", *f.Default, sim.Link{}).Apply(&base)
	}
	for _, a := range p.names {
		for _, b := range p.names {
			if a != b {
				s.Links[Pair{a, b}] = base
			}
		}
	}
	known := f.Matrix == "" || p.matrix(f.Matrix, stated)
	for i, pair := range f.Pairs {
		p.pair(fmt.Sprintf("links.pairs[%d]", i), pair, stated)
	}
	if known && (f.Default == nil || f.Default.Delay == "") {
		p.unstated(stated)
	}
	p.nodeRisks()
}

// unstated reports directions without any delay: a forgotten link would be one of no delay.
func (p *reader) unstated(stated map[Pair]bool) {
	var missing []string
	for _, a := range p.names {
		for _, b := range p.names {
			if a != b && !stated[Pair{a, b}] {
				missing = append(missing, a+" to "+b)
			}
		}
	}
	if n := len(missing); n > 0 {
		p.add("links", "nothing states the delay of %d directions (%s%s): add links.default.delay, a matrix or pairs",
			n, strings.Join(missing[:min(n, 4)], ", "), map[bool]string{true: ", ..."}[n > 4])
	}
}

func (p *reader) pair(path string, f pairFile, stated map[Pair]bool) {
	if !p.node(path+".from", f.From) || !p.node(path+".to", f.To) {
		p.change(path, f.Settings, sim.Link{}) // its own faults
		return
	}
	if f.From == f.To {
		p.add(path, "a link joins two nodes, not %q with itself", f.From)
		return
	}
	pairs := []Pair{{f.From, f.To}}
	if f.Both {
		pairs = append(pairs, Pair{f.To, f.From})
	}
	for i, one := range pairs {
		l := p.s.Links[one]
		if i == 0 {
			p.change(path, f.Settings, l).Apply(&l)
		} else { // the faults have been reported
			(&reader{collector: &collector{}, open: p.open}).change(path, f.Settings, l).Apply(&l)
		}
		p.s.Links[one] = l
		stated[one] = stated[one] || f.Settings.Delay != ""
		for _, risk := range f.SharedRisk {
			p.s.Risks[risk] = append(p.s.Risks[risk], one)
		}
	}
}

// nodeRisks makes all links of a node depend on the risks and on the provider of the node.
func (p *reader) nodeRisks() {
	for _, n := range p.s.Nodes {
		risks := slices.Clone(n.SharedRisk)
		if n.Provider != "" {
			risks = append(risks, n.Provider)
		}
		for _, risk := range risks {
			for _, other := range p.names {
				for _, pair := range []Pair{{n.Name, other}, {other, n.Name}} {
					if other != n.Name && !slices.Contains(p.s.Risks[risk], pair) {
						p.s.Risks[risk] = append(p.s.Risks[risk], pair)
					}
				}
			}
		}
	}
}

// matrix reads from,to,rtt_ms. Ends are node names, else cities; half the round trip is the delay. Rows about places
// that the scenario does not have are left out. A row in one direction serves both unless the other has its own.
func (p *reader) matrix(name string, stated map[Pair]bool) bool {
	data, err := p.open(name)
	if err != nil {
		p.add("links.matrix", "%v", err)
		return false
	}
	rows, err := csv.NewReader(strings.NewReader(string(data))).ReadAll()
	if err != nil || len(rows) < 2 || strings.Join(rows[0], ",") != "from,to,rtt_ms" {
		p.add("links.matrix", "%s is not CSV with the header from,to,rtt_ms and at least one row%s", name, because(err))
		return false
	}
	good := true
	own := make(map[Pair]bool)
	for i, row := range rows[1:] {
		rtt, err := strconv.ParseFloat(row[2], 64)
		if err != nil || !(rtt >= 0 && rtt <= 60_000) {
			p.add("links.matrix", "%s, line %d: %q is not a round trip in milliseconds", name, i+2, row[2])
			good = false
			continue
		}
		for _, a := range p.at(row[0]) {
			for _, b := range p.at(row[1]) {
				if a == b {
					continue
				}
				p.delay(Pair{a, b}, rtt, stated)
				own[Pair{a, b}] = true
				if !own[Pair{b, a}] {
					p.delay(Pair{b, a}, rtt, stated)
				}
			}
		}
	}
	return good
}

func (p *reader) delay(pair Pair, rttMS float64, stated map[Pair]bool) {
	l := p.s.Links[pair]
	l.Delay = time.Duration(rttMS / 2 * float64(time.Millisecond))
	p.s.Links[pair] = l
	stated[pair] = true
}

// at returns the node of that name, else the nodes in that city.
func (p *reader) at(place string) (out []string) {
	if _, ok := p.file.Nodes[place]; ok {
		return []string{place}
	}
	for _, n := range p.s.Nodes {
		if n.City == place {
			out = append(out, n.Name)
		}
	}
	return out
}

// change reads link settings; on is the link that they are for, whose rate gives a queue its meaning.
func (p *reader) change(path string, f linkFile, on sim.Link) (c Change) {
	c.Delay = p.optional(path+".delay", f.Delay)
	p.jitter(path+".jitter", f.Jitter, &c)
	c.Loss = p.loss(path+".loss", f.Loss)
	if f.Rate != "" {
		r, err := parseRate(f.Rate)
		p.check(path+".rate", err)
		c.Rate, on.Rate = &r, r
	}
	if f.Queue != "" {
		q, err := parseQueue(f.Queue, on.Rate)
		p.check(path+".queue", err)
		c.Queue = &q
	}
	if f.MTU != "" {
		m, err := parseBytes(f.MTU)
		p.check(path+".mtu", err)
		c.MTU = &m
	}
	c.Reorder = p.share(path+".reorder", f.Reorder)
	c.Duplicate = p.share(path+".duplicate", f.Duplicate)
	c.Corrupted = p.share(path+".corrupt", f.Corrupt)
	c.ReorderDelay = p.optional(path+".reorder_delay", f.ReorderDelay)
	c.Down = f.Down
	return c
}

func (p *reader) check(path string, err error) {
	if err != nil {
		p.add(path, "%v", err)
	}
}

func (p *reader) optional(path, s string) *time.Duration {
	if s == "" {
		return nil
	}
	d := p.duration(path, s, 0)
	return &d
}

func (p *reader) share(path, s string) *float64 {
	if s == "" {
		return nil
	}
	v, err := parseShare(s)
	p.check(path, err)
	return &v
}

func (p *reader) jitter(path string, v any, c *Change) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		p.known(path, v, "mean", "model")
		mean := p.duration(path+".mean", fmt.Sprint(v["mean"]), 0)
		c.Jitter = &mean
		name, _ := v["model"].(string)
		m, ok := sim.JitterModels[name]
		if !ok {
			p.add(path+".model", "%q is not one of %s", name, strings.Join(slices.Sorted(maps.Keys(sim.JitterModels)), ", "))
		}
		c.JitterModel = &m
	default:
		c.Jitter = p.optional(path, fmt.Sprint(v))
	}
}

// known reports keys of a mapping that may be of several shapes.
func (p *reader) known(path string, v map[string]any, keys ...string) {
	for _, k := range slices.Sorted(maps.Keys(v)) {
		if !slices.Contains(keys, k) {
			hint := ""
			if near := document.Nearest(k, keys); near != "" {
				hint = fmt.Sprintf(", did you mean %q?", near)
			}
			p.add(path+"."+k, "unknown key%s", hint)
		}
	}
}
