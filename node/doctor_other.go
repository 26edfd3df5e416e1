//go:build !linux

package node

import "errors"

// freeBytes is not asked for here.
func freeBytes(string) (uint64, error) { return 0, errors.ErrUnsupported }

// examineHost has nothing to look at here: the kernel's settings that matter are Linux's.
func (d *doctor) examineHost() {
	d.ok("host", "the kernel's settings are examined on Linux alone; here the Go twin filters")
}
