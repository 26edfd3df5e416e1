package control

import (
	"fmt"
	"net/netip"

	"github.com/goccy/go-yaml/ast"
)

// ClientPlace says that users with these addresses are near a region. Of all places, the longest prefix counts. It serves
// /v1/nearest alone: nobody is admitted or refused by it.
type ClientPlace struct {
	Region string         `json:"region"`
	From   []netip.Prefix `json:"from"`
}

func (r *reader) clients(path string, n ast.Node) (out ClientPlace) {
	out.From = []netip.Prefix{}
	r.fields(path, n, map[string]func(string, ast.Node){
		"region": r.text(&out.Region),
		"from": func(path string, n ast.Node) {
			r.list(path, n, MaxClientPrefixes, func(path string, n ast.Node) { out.From = r.prefix(path, n, out.From) })
		},
	})
	return out
}

// clients checks places: known regions, sane prefixes, none of them twice.
func (v *validator) clients(list []ClientPlace, regions map[string]int) {
	v.count("clients", len(list), MaxRegions)
	owners := make(map[netip.Prefix]string)
	for i, c := range list {
		path := fmt.Sprintf("clients[%d]", i)
		if _, known := regions[c.Region]; !known {
			v.add(path+".region", "region %q is not in regions%s", c.Region, didYouMean(c.Region, keysOf(regions)))
		}
		v.count(path+".from", len(c.From), MaxClientPrefixes)
		for j, p := range c.From {
			where := fmt.Sprintf("%s.from[%d]", path, j)
			if reason := badPrefix(p); reason != "" && p.Bits() != 0 { // all addresses may well be near one region
				v.add(where, "%s", reason)
			} else if first, twice := owners[p]; twice {
				v.add(where, "%s is already at %s", p, first)
			} else {
				owners[p] = where
			}
		}
	}
}
