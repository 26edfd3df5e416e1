//go:build !linux

package ebpf

import (
	"context"
	"fmt"
	"net/netip"
)

// kernel never exists on systems without XDP; the methods are there for Filter to compile.
type kernel struct{}

func openKernel(*Table, *guard, func() uint64) (*kernel, error) {
	return nil, fmt.Errorf("%w on this operating system", ErrUnsupported)
}

func (*kernel) close() error                                                    { return nil }
func (*kernel) replace(*Table) error                                            { return nil }
func (*kernel) count(int) uint64                                                { return 0 }
func (*kernel) attach([]string) []Attachment                                    { return nil }
func (*kernel) reattach(now []Attachment) ([]Attachment, int)                   { return now, 0 }
func expand(names []string) ([]string, error)                                   { return names, nil }
func (*kernel) putPeer(netip.Addr) error                                        { return nil }
func (*kernel) dropPeer(netip.Addr) error                                       { return nil }
func (*kernel) putFlow(netip.AddrPort) error                                    { return nil }
func (*kernel) dropFlow(netip.AddrPort) error                                   { return nil }
func (*kernel) putWall(netip.Prefix) error                                      { return nil }
func (*kernel) dropWall(netip.Prefix) error                                     { return nil }
func (*kernel) wallDrops(netip.Prefix) uint64                                   { return 0 }
func (*kernel) samplesLost() uint64                                             { return 0 }
func (*kernel) flowSeen(netip.AddrPort) uint64                                  { return 0 }
func (*kernel) readSamples(context.Context, func(uint32, []byte), func()) error { return nil }
func (*kernel) setRelaying(uint32, float64, uint64, uint64) error               { return nil }
func (*kernel) putOnward(Onward, uint32, uint64) error                          { return nil }
func (*kernel) dropOnward(OnwardKey) error                                      { return nil }
func (*kernel) onwardCount(uint32) (OnwardCount, error)                         { return OnwardCount{}, nil }
func judgeXDP(t *Table, g *guard, _ []byte, _ uint64) (Verdict, error) {
	_, err := openKernel(t, g, nil)
	return Verdict{}, err
}

// Bench measures the kernel program, so it needs a kernel that has one.
func Bench() (BenchReport, error) { return BenchReport{}, ErrUnsupported }
