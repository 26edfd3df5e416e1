package link

import (
	"net/netip"
	"strconv"
	"strings"
)

// withoutCandidates drops the candidates of a client, so that the server can answer only where checks come from.
func withoutCandidates(sdp string) string {
	return rewrite(sdp, func(netip.AddrPort) (netip.AddrPort, bool) { return netip.AddrPort{}, false })
}

// rewrite maps the address of every UDP candidate of a description or fragment; candidates that translate refuses, that are not UDP, or
// whose address is a name are dropped. Everything else stays as it is.
func rewrite(sdp string, translate func(netip.AddrPort) (netip.AddrPort, bool)) string {
	var out strings.Builder
	for line := range strings.Lines(sdp) {
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "a=candidate:") {
			out.WriteString(line)
			continue
		}
		// foundation component transport priority address port typ ...
		if len(fields) < 8 || !strings.EqualFold(fields[2], "udp") {
			continue
		}
		addr, err := netip.ParseAddr(fields[4])
		port, portErr := strconv.ParseUint(fields[5], 10, 16)
		if err != nil || portErr != nil {
			continue
		}
		to, ok := translate(netip.AddrPortFrom(addr, uint16(port)))
		if !ok {
			continue
		}
		fields[4], fields[5] = to.Addr().String(), strconv.Itoa(int(to.Port()))
		out.WriteString(strings.Join(fields, " ") + "\r\n")
	}
	return out.String()
}
