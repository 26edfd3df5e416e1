package control

import (
	"fmt"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/ternmesh/tern/routing"
)

// MaxBounds is how many bounds a policy may have; every one is held against every link.
const MaxBounds = 256

// RouteBound is one of the operator's bounds on routes: links by From and To, or relays by Relay. A place is a node's
// name or region:ID; a link's end that is not given is any.
type RouteBound struct {
	From    string  `json:"from,omitempty"`
	To      string  `json:"to,omitempty"`
	Relay   string  `json:"relay,omitempty"`
	Use     string  `json:"use,omitempty"`      // prefer, avoid or forbid; may be left out where there is a price
	PriceMS float64 `json:"price_ms,omitempty"` // milliseconds of delay that the use must save, 0-10,000
}

// RouteBounds is the policy's bounds as routing takes them. The caller owns the result.
func (p Policy) RouteBounds() []routing.Bound {
	var out []routing.Bound
	for _, b := range p.Routes {
		out = append(out, routing.Bound{
			From: b.From, To: b.To, Relay: b.Relay, Use: b.Use,
			Price: time.Duration(b.PriceMS * float64(time.Millisecond)),
		})
	}
	return out
}

func (r *reader) routeBound(path string, n ast.Node) (out RouteBound) {
	r.fields(path, n, map[string]func(string, ast.Node){
		"from":  r.text(&out.From),
		"to":    r.text(&out.To),
		"relay": r.text(&out.Relay),
		"use":   r.text(&out.Use),
		"price_ms": func(path string, n ast.Node) {
			var s string
			r.text(&s)(path, n)
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				r.add(path, n, "%.32q is not a number of milliseconds", s)
				return
			}
			out.PriceMS = v
		},
	})
	return out
}

// routes checks bounds. Nodes are not checked against members: a policy outlives them.
func (v *validator) routes(list []RouteBound, regions map[string]int) {
	v.count("routes", len(list), MaxBounds)
	for i, b := range list {
		path := fmt.Sprintf("routes[%d]", i)
		switch {
		case b.Relay != "" && (b.From != "" || b.To != ""):
			v.add(path, "names a relay and a link's ends: make two bounds of it")
		case b.Relay == "" && b.From == "" && b.To == "":
			v.add(path, "names no place: give relay, or from, to or both (a node's name or region:ID)")
		case b.Use == "" && b.PriceMS == 0:
			v.add(path, "does nothing: give use (prefer, avoid or forbid) or price_ms")
		}
		for key, place := range map[string]string{"from": b.From, "to": b.To, "relay": b.Relay} {
			v.place(path+"."+key, place, regions)
		}
		if b.Use != "" {
			v.mode(path+".use", b.Use, routing.UsePrefer, routing.UseAvoid, routing.UseForbid)
		}
		most := float64(routing.MaxPrice / time.Millisecond)
		if !(b.PriceMS >= 0 && b.PriceMS <= most) { // fails for what is no number, too
			v.add(path+".price_ms", "%g is out of range, 0 to %g ms are allowed (a ban is use: forbid)", b.PriceMS, most)
		}
	}
}

// place checks a node's name or region:ID; none is fine.
func (v *validator) place(path, place string, regions map[string]int) {
	if place == "" {
		return
	}
	region, isRegion := routing.RegionOf(place)
	if !isRegion {
		if reason := badID(place); reason != "" {
			v.add(path, "%s", reason)
		}
		return
	}
	if _, known := regions[region]; !known {
		v.add(path, "region %q is not in regions%s", region, didYouMean(region, keysOf(regions)))
	}
}
