package ebpf

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
)

// Table is a set of rules made ready for lookups. It never changes, so any number of goroutines may use it.
type Table struct {
	rules Rules
	v4    steps
	v6    steps
}

// Compile validates rules and makes them ready. It copies the blocklist.
func Compile(r Rules) (*Table, error) {
	if _, err := r.Validate(); err != nil {
		return nil, err
	}
	return compile(r), nil
}

// Rules returns the rules that the table was made of. The blocklist must not be changed.
func (t *Table) Rules() Rules { return t.rules }

// Blocked returns the longest entry of the blocklist that holds src, if there is one. It allocates nothing.
func (t *Table) Blocked(src netip.Addr) (netip.Prefix, bool) {
	rule := noRule
	switch {
	case src.Is4():
		a := src.As4()
		rule = t.v4.find(wide{hi: uint64(binary.BigEndian.Uint32(a[:]))})
	case src.Is6():
		a := src.As16()
		rule = t.v6.find(wide{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])})
	}
	if rule == noRule {
		return netip.Prefix{}, false
	}
	return t.rules.Blocklist[rule], true
}

// step is one cut of the address space; rule holds from here on.
type step struct {
	at   wide
	rule int32
}

func compile(r Rules) *Table {
	r.Blocklist, r.Allowlist = slices.Clone(r.Blocklist), slices.Clone(r.Allowlist)
	t := &Table{rules: r}
	four := cut(r.Allowlist, r.Blocklist, true)
	t.v4.grow(len(four))
	for _, s := range four {
		if s.at.lo > math.MaxUint32 {
			break // the step behind 255.255.255.255
		}
		t.v4.add(wide{hi: s.at.lo}, s.rule)
	}
	t.v4.index()
	six := cut(r.Allowlist, r.Blocklist, false)
	t.v6.grow(len(six))
	for _, s := range six {
		t.v6.add(s.at, s.rule)
	}
	t.v6.index()
	return t
}

// open is a range whose end the sweep in cut has not reached.
type open struct {
	last wide
	rule int32
}

// cut turns nested prefixes of one family into disjoint steps in which the longest prefix wins, and among equal
// ones the first. A range of allow is a step without a rule.
func cut(allow, block []netip.Prefix, v4 bool) []step {
	rules := block
	if len(allow) > 0 {
		rules = slices.Concat(allow, block)
	}
	order := make([]int32, 0, len(rules))
	for i, p := range rules {
		if p.Addr().Is4() == v4 {
			order = append(order, int32(i))
		}
	}
	if len(order) == 0 {
		return nil
	}
	slices.SortStableFunc(order, func(a, b int32) int { return rules[a].Compare(rules[b]) })
	order = slices.CompactFunc(order, func(a, b int32) bool { return rules[a] == rules[b] })
	steps := append(make([]step, 0, 1+2*len(order)), step{rule: noRule}) // a rule begins a step, and may end one
	var stack []open
	for _, i := range order {
		first, last := span(rules[i])
		steps, stack = closeBefore(steps, stack, &first)
		rule := max(i-int32(len(allow)), noRule)
		steps = put(steps, step{first, rule})
		stack = append(stack, open{last, rule})
	}
	steps, _ = closeBefore(steps, stack, nil)
	return steps
}

// closeBefore ends the open ranges that lie wholly before at (nil: all of them).
func closeBefore(steps []step, stack []open, at *wide) ([]step, []open) {
	for len(stack) > 0 {
		top := stack[len(stack)-1]
		if at != nil && !top.last.less(*at) {
			break
		}
		stack = stack[:len(stack)-1]
		below := noRule
		if len(stack) > 0 {
			below = stack[len(stack)-1].rule
		}
		if next, ok := after(top.last); ok {
			steps = put(steps, step{next, below})
		}
	}
	return steps, stack
}

// put appends a step, or changes the last one when it stands at the same place.
func put(steps []step, s step) []step {
	if n := len(steps); steps[n-1].at == s.at {
		steps[n-1] = s
		return steps
	}
	return append(steps, s)
}

// span returns the first and the last address of a masked prefix.
func span(p netip.Prefix) (first, last wide) {
	free := p.Addr().BitLen() - p.Bits() // bits that vary
	if p.Addr().Is4() {
		a := p.Addr().As4()
		first.lo = uint64(binary.BigEndian.Uint32(a[:]))
		return first, wide{0, first.lo | (1<<free - 1)}
	}
	a := p.Addr().As16()
	first = wide{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
	if free >= 64 {
		return first, wide{first.hi | (1<<(free-64) - 1), math.MaxUint64}
	}
	return first, wide{first.hi, first.lo | (1<<free - 1)}
}

// after returns the address behind a, unless a is the last one.
func after(a wide) (wide, bool) {
	if a.lo++; a.lo == 0 {
		a.hi++
	}
	return a, a != wide{}
}
