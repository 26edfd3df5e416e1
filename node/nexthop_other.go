//go:build !linux

package node

import "net/netip"

// nextHop is asked only where a kernel may relay.
func nextHop(netip.Addr) (hop, bool) { return hop{}, false }

// dropped likewise.
func dropped(int) (uint64, bool) { return 0, false }
