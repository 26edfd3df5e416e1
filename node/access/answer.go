package access

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pion/sdp/v3"
)

// candidatesWhereTheyCount moves candidates out of refused media sections into the first accepted one. The library writes them
// into the first section even if that is refused, where a client ignores them (RFC 8829, 5.2.2): one behind an address translator
// could then not reach us at all. Those of TCP get the addresses that clients are told.
func candidatesWhereTheyCount(text string, advertise []netip.AddrPort) (string, error) {
	var desc sdp.SessionDescription
	if err := desc.UnmarshalString(text); err != nil {
		return "", fmt.Errorf("read our own description: %w", err)
	}
	changed := translated(&desc, advertise)
	accepted := slices.IndexFunc(desc.MediaDescriptions, func(m *sdp.MediaDescription) bool { return m.MediaName.Port.Value != 0 })
	if accepted < 0 && !changed {
		return text, nil
	}
	var moved []sdp.Attribute
	for _, m := range desc.MediaDescriptions[:max(accepted, 0)] {
		m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
			stray := a.Key == "candidate" || a.Key == "end-of-candidates"
			if stray {
				moved = append(moved, a)
			}
			return stray
		})
	}
	if len(moved) == 0 && !changed {
		return text, nil
	}
	if len(moved) > 0 {
		m := desc.MediaDescriptions[accepted]
		m.Attributes = append(m.Attributes, moved...)
	}
	out, err := desc.Marshal()
	return string(out), err
}

// translated gives TCP candidates the advertised addresses of their family: behind an address translator, connections
// arrive at an address that clients cannot reach. Each address and port is named once.
func translated(desc *sdp.SessionDescription, advertise []netip.AddrPort) (changed bool) {
	for _, m := range desc.MediaDescriptions {
		var out []sdp.Attribute
		seen := map[string]bool{}
		for _, a := range m.Attributes {
			fields := strings.Fields(a.Value)
			if a.Key != "candidate" || len(fields) < 8 || !strings.EqualFold(fields[2], "tcp") {
				out = append(out, a)
				continue
			}
			for _, to := range outside(fields[4], advertise) {
				fields := slices.Clone(fields)
				fields[4] = to
				if place := strings.Join([]string{fields[1], to, fields[5]}, " "); !seen[place] {
					seen[place] = true
					out = append(out, sdp.Attribute{Key: a.Key, Value: strings.Join(fields, " ")})
				}
			}
		}
		changed = changed || !slices.Equal(out, m.Attributes)
		m.Attributes = out
	}
	return changed
}

// outside are the addresses by which clients reach one of ours: itself if it is advertised, else all of its family.
func outside(address string, advertise []netip.AddrPort) (out []string) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return nil
	}
	for _, a := range advertise {
		switch to := a.Addr().Unmap(); {
		case to == addr.Unmap():
			return []string{to.String()}
		case to.Is4() == addr.Unmap().Is4():
			out = append(out, to.String())
		}
	}
	return out
}
