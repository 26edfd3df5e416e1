package node

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// usable are the states of a neighbour whose hardware address the system itself would send to.
const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT

// nextHop asks the system how it would send to an IPv4 address: over which interface, from which of its addresses, and to whose
// hardware address. False where it does not know yet, and for what is no Ethernet.
func nextHop(to netip.Addr) (h hop, ok bool) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 || !to.Is4() {
		return h, false
	}
	r := routes[0]
	from, okFrom := netip.AddrFromSlice(r.Src)
	link, err := net.InterfaceByIndex(r.LinkIndex)
	if err != nil || !okFrom || len(link.HardwareAddr) != len(h.local) {
		return h, false
	}
	gate := r.Gw
	if gate == nil {
		gate = to.AsSlice()
	}
	neighbors, err := netlink.NeighList(r.LinkIndex, netlink.FAMILY_V4)
	if err != nil {
		return h, false
	}
	h.index, h.from, h.local = r.LinkIndex, from.Unmap(), [6]byte(link.HardwareAddr)
	for _, n := range neighbors {
		if n.IP.Equal(gate) && n.State&usable != 0 && len(n.HardwareAddr) == len(h.neighbor) {
			h.neighbor = [6]byte(n.HardwareAddr)
			return h, true
		}
	}
	return h, false
}

// dropped is how many frames an interface did not send.
func dropped(index int) (uint64, bool) {
	link, err := netlink.LinkByIndex(index)
	if err != nil || link.Attrs().Statistics == nil {
		return 0, false
	}
	return link.Attrs().Statistics.TxDropped, true
}
