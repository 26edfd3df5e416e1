package mesh

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// A name that resolves only later, and then to an address of the mesh, still leads there: it is asked again each time.
func TestJoinByNameResolvedAnew(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.add("first", 1, nil).start()
		ready := time.Now().Add(10 * time.Second)
		late := w.add("late", 2, func(c *Config) {
			c.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
				if host != "seeds.example" || time.Now().Before(ready) {
					return nil, errors.New("no such host")
				}
				return []netip.Addr{addrOfHost(2).Addr(), addrOfHost(1).Addr()}, nil // its own address is passed over
			}
		}).start("seeds.example:7000", "not-an-address", "10.0.0.99:0")
		took := within(t, 20*time.Second, "the late node is in", allSee([]*node{first, late}, 2))
		if took < 10*time.Second {
			t.Fatalf("in after %v, before the name resolved", took)
		}
	})
}
