package routing

import (
	"strings"
	"time"
)

// What a Bound asks for.
const (
	UsePrefer = "prefer" // counts preferWorth less
	UseAvoid  = "avoid"  // a last resort: counts avoidPrice more
	UseForbid = "forbid" // never
)

const (
	// preferWorth is how much dearer a way may be for the operator's preference.
	preferWorth = 10 * time.Millisecond
	// avoidPrice is more than any sane path costs, so that what is to be avoided is taken only where nothing else is left.
	avoidPrice = time.Second
	// MaxPrice bounds a price; more would be a ban, for which there is a word.
	MaxPrice = 10 * time.Second

	regionPrefix = "region:"
)

// Bound is one wish or order of the operator about links (From, To) or about relaying (Relay). A place is a node's name, or
// "region:NAME"; an empty From or To is any place. All bounds that fit add up.
type Bound struct {
	From, To string        // links that start and end there; both empty if Relay is given
	Relay    string        // nodes as relays of others' paths
	Use      string        // UsePrefer, UseAvoid, UseForbid, or "" for a price alone
	Price    time.Duration // what the use costs, as milliseconds of delay that it must save: 0 to MaxPrice
}

// worth is what the bound adds to a cost; negative for a preference.
func (b Bound) worth() time.Duration {
	switch b.Use {
	case UsePrefer:
		return b.Price - preferWorth
	case UseAvoid:
		return b.Price + avoidPrice
	}
	return b.Price
}

// RegionOf returns the region that a place of a Bound names, if it names one.
func RegionOf(place string) (region string, ok bool) { return strings.CutPrefix(place, regionPrefix) }

// at tells whether a node is meant by a place of a bound.
func (n *Node) at(place string) bool {
	region, isRegion := RegionOf(place)
	return place == "" || place == n.Name || isRegion && region == n.Region
}

// Under returns the graph as it is under the operator's bounds: what is forbidden carries no path, what has a price costs
// more. Without bounds it is g itself.
func (g *Graph) Under(bounds []Bound) *Graph {
	if len(bounds) == 0 {
		return g
	}
	nodes, links := g.Nodes(), g.Links()
	for i := range nodes {
		for _, b := range bounds {
			if b.Relay == "" || !nodes[i].at(b.Relay) {
				continue
			}
			nodes[i].Price += b.worth()
			nodes[i].Avoid = nodes[i].Avoid || b.Use == UseForbid
		}
	}
	for i := range links {
		l := &links[i]
		from, to := &nodes[g.index[l.From]], &nodes[g.index[l.To]]
		for _, b := range bounds {
			if b.Relay != "" || !from.at(b.From) || !to.at(b.To) {
				continue
			}
			l.Price += b.worth()
			l.Forbidden = l.Forbidden || b.Use == UseForbid
		}
	}
	return NewGraph(nodes, links)
}
