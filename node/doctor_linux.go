package node

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ternmesh/tern/node/udp"
)

// freeBytes that an ordinary user may still write below dir.
func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// examineHost looks at the kernel: clock, buffers, open files, and what XDP needs where the configuration asks for it.
func (d *doctor) examineHost() {
	d.examineClock()
	for _, key := range []string{"rmem_max", "wmem_max"} {
		d.examineBuffer(key)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < filesWanted {
		d.bad(SeverityWarning, "open files", fmt.Sprintf("limit %d", files.Cur), fmt.Sprintf("ulimit -n %d, or LimitNOFILE=%d in the unit", filesWanted, filesWanted))
	} else if err == nil {
		d.ok("open files", "limit %d", files.Cur)
	}
	if len(d.cfg.Filter.Interfaces) > 0 && d.cfg.Filter.Mode != "go" {
		d.examineXDP()
	} else {
		d.ok("filter", "the Go twin filters: filter.interfaces is empty or filter.mode is go")
	}
}

// examineClock asks the kernel whether anything keeps its clock right: relays refuse frames that look 10 s old.
func (d *doctor) examineClock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		d.bad(SeverityWarning, "clock", "the kernel does not say whether it is synchronised: "+err.Error(), "run an NTP client (chrony, systemd-timesyncd)")
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		d.bad(SeverityWarning, "clock", "not synchronised", "run an NTP client (chrony, systemd-timesyncd): clocks of all nodes must agree within 10 s")
	default:
		d.ok("clock", "synchronised, error at most %d ms", t.Maxerror/1000)
	}
}

func (d *doctor) examineBuffer(key string) {
	name := "net.core." + key
	text, err := os.ReadFile("/proc/sys/net/core/" + key)
	if err != nil {
		return // a network namespace of its own does not show it
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
	case n < udp.BufferBytes && !capable(unix.CAP_NET_ADMIN):
		d.bad(SeverityWarning, name, fmt.Sprintf("%d bytes: bursts overflow the socket", n), fmt.Sprintf("sysctl -w %s=%d", name, udp.BufferBytes))
	default:
		d.ok(name, "%d bytes", n)
	}
}

// examineXDP looks for what attaching needs; the node itself says at start what became of it.
func (d *doctor) examineXDP() {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		d.bad(SeverityWarning, "filter", "this kernel has no BTF (/sys/kernel/btf/vmlinux)", "use a kernel of 5.15 or later with CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF, or filter.mode: go")
	}
	var lacking []string
	for _, c := range []struct {
		number int
		name   string
	}{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_PERFMON, "CAP_PERFMON"}} {
		if !capable(c.number) {
			lacking = append(lacking, c.name)
		}
	}
	if len(lacking) > 0 {
		d.bad(SeverityWarning, "filter", "this user lacks "+strings.Join(lacking, ", "), "give them to the process (AmbientCapabilities= in the unit), or accept the Go twin with filter.mode: go")
	} else {
		d.ok("filter", "privileges for XDP are there")
	}
	for _, name := range slices.DeleteFunc(slices.Clone(d.cfg.Filter.Interfaces), func(s string) bool { return s == "auto" }) {
		if _, err := net.InterfaceByName(name); err != nil {
			d.bad(SeverityCritical, "filter.interfaces", name+": "+err.Error(), "`ip link` lists them")
		}
	}
}

// capable says whether this process holds a capability now.
func capable(number int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[number/32].Effective&(1<<(number%32)) != 0
}
