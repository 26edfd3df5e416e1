package ebpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf/link"
)

// held is a link to one interface. The kernel detaches when its descriptor closes, so a crash leaves nothing behind.
type held struct {
	link link.Link
	mode string
}

// attach tries every interface; the answers stand in the order of names.
func (k *kernel) attach(names []string) []Attachment {
	out := make([]Attachment, 0, len(names))
	for _, name := range names {
		out = append(out, k.attachOne(name))
	}
	return out
}

func (k *kernel) attachOne(name string) Attachment {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return Attachment{Interface: name, Why: "no such interface"}
	}
	// A tunnel hands over packets without an Ethernet header, which the program would take for one.
	if iface.Flags&net.FlagLoopback == 0 && len(iface.HardwareAddr) != 6 {
		return Attachment{Interface: name, Why: "not an Ethernet interface"}
	}
	l, driverErr := k.linkTo(iface.Index, link.XDPDriverMode)
	if driverErr == nil {
		k.links[name] = held{l, ModeDriver}
		return Attachment{Interface: name, Mode: ModeDriver}
	}
	l, err = k.linkTo(iface.Index, link.XDPGenericMode)
	if err == nil {
		k.links[name] = held{l, ModeGeneric}
		return Attachment{Interface: name, Mode: ModeGeneric, Why: fmt.Sprintf("driver mode: %v", driverErr)}
	}
	return Attachment{Interface: name, Why: fmt.Sprintf("driver mode: %v; generic mode: %v", driverErr, err)}
}

func (k *kernel) linkTo(index int, mode link.XDPAttachFlags) (link.Link, error) {
	return link.AttachXDP(link.XDPOptions{Program: k.objs.TernFilter, Interface: index, Flags: mode})
}

// reattach tries the interfaces that do not carry the program (again), and counts those that lost it.
func (k *kernel) reattach(now []Attachment) (next []Attachment, lost int) {
	for _, a := range now {
		if a.Mode != "" && !k.carried(a.Interface) {
			lost++
			k.links[a.Interface].link.Close()
			delete(k.links, a.Interface)
			a.Mode = ""
		}
		if a.Mode == "" {
			a = k.attachOne(a.Interface)
		}
		next = append(next, a)
	}
	return next, lost
}

// carried says whether the kernel still has our link on a living interface: a deleted interface leaves it without one.
func (k *kernel) carried(name string) bool {
	info, err := k.links[name].link.Info()
	if err != nil {
		return false
	}
	xdp := info.XDP()
	return xdp != nil && xdp.Ifindex != 0
}

func (k *kernel) detach() error {
	var errs []error
	for name, h := range k.links {
		if err := h.link.Close(); err != nil {
			errs = append(errs, fmt.Errorf("detach from %s: %w", name, err))
		}
	}
	clear(k.links)
	return errors.Join(errs...)
}

// expand replaces AutoInterfaces by the interfaces with a default route, and drops repetitions.
func expand(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		found := []string{name}
		if name == AutoInterfaces {
			if found = defaultRoutes(); len(found) == 0 {
				return nil, errors.New("no interface has a default route")
			}
		}
		for _, n := range found {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out, nil
}

// defaultRoutes reads the tables of the thread's own network namespace.
func defaultRoutes() []string {
	var out []string
	for file, parse := range map[string]func(io.Reader) []string{
		"/proc/thread-self/net/route": routes4, "/proc/thread-self/net/ipv6_route": routes6,
	} {
		f, err := os.Open(file)
		if err != nil {
			continue // a host without this family
		}
		out = append(out, parse(f)...)
		f.Close()
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// routes4 wants fields 1 (destination) and 7 (mask) to be zero; field 0 names the interface.
func routes4(r io.Reader) []string {
	return defaults(r, func(f []string) (string, bool) {
		return f[0], len(f) >= 8 && f[1] == "00000000" && f[7] == "00000000"
	})
}

// routes6 wants field 1 (prefix length) to be zero; field 9 names the interface. The kernel's reject route stands on lo.
func routes6(r io.Reader) []string {
	return defaults(r, func(f []string) (string, bool) {
		if len(f) < 10 {
			return "", false
		}
		return f[9], f[1] == "00" && f[9] != "lo"
	})
}

func defaults(r io.Reader, pick func(fields []string) (name string, isDefault bool)) []string {
	var out []string
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if name, ok := pick(fields); ok {
			out = append(out, name)
		}
	}
	return out
}
