// Package ebpf is the packet filter.
package ebpf
