//go:build !linux

package ebpf

import "fmt"

// kernel never exists on systems without XDP; the methods are there for Filter to compile.
type kernel struct{}

func openKernel(*Table) (*kernel, error) {
	return nil, fmt.Errorf("%w on this operating system", ErrUnsupported)
}

func (*kernel) close() error                                  { return nil }
func (*kernel) replace(*Table) error                          { return nil }
func (*kernel) count(int) uint64                              { return 0 }
func (*kernel) attach([]string) []Attachment                  { return nil }
func (*kernel) reattach(now []Attachment) ([]Attachment, int) { return now, 0 }
func expand(names []string) ([]string, error)                 { return names, nil }
func judgeXDP(t *Table, packet []byte) (Verdict, error) {
	_, err := openKernel(t)
	return Verdict{}, err
}
