package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/media/braid"
)

// knownFile, in the data directory, is where the node keeps the mesh addresses of the members that it knew last. After a
// restart the filter lets them in before gossip has found them again.
const knownFile = "known-members.json"

// maxKnown bounds the addresses that are kept, as the filter's table is.
const maxKnown = 8192

func (n *Node) buildFilter(context.Context) error {
	meshAddr := netip.MustParseAddrPort(n.cfg.Mesh.Listen)
	accessAddr := netip.MustParseAddrPort(n.cfg.Access.UDP)
	n.quarantine = newQuarantineShare(n)
	n.relay = newKernelRelay(n)
	relay := uint32(0)
	if n.relay.asks != nil {
		relay = n.id.ID()
	}
	f, err := ebpf.New(ebpf.Config{
		Relay: relay, RelayRate: braid.DefaultRelayRate, RelayTime: func() uint64 { return n.braid.UnixMS() },
		Interfaces: n.cfg.Filter.Interfaces,
		Mode:       n.cfg.Filter.Mode,
		MeshPort:   meshAddr.Port(),
		AccessPort: accessAddr.Port(),
		GuardMesh:  true, GuardAccess: true,
		Logger:       n.log,
		OnQuarantine: n.quarantine.tell,
	})
	if err != nil {
		return err
	}
	n.filter = f
	n.enforcer.filter = f.Update
	for _, a := range recallKnown(filepath.Join(n.cfg.DataDir, knownFile)) {
		f.Peer(a)
	}
	return nil
}

// showMembers tells the filter whose path frames pass: those of all members, the ones that are not well included, and
// of the joiners that the configuration names by address (one named otherwise is known once it is dialed).
func (n *Node) showMembers() {
	var addrs []netip.Addr
	for _, m := range n.mesh.Members() {
		if m.Health.Mesh.IsValid() {
			addrs = append(addrs, m.Health.Mesh.Addr())
		}
	}
	if err := n.known.keep(filepath.Join(n.cfg.DataDir, knownFile), addrs); err != nil {
		n.log.Warn("the members' addresses are not kept for a restart", "err", err)
	}
	for _, j := range n.cfg.Mesh.Join {
		if a, err := netip.ParseAddrPort(j); err == nil {
			addrs = append(addrs, a.Addr())
		}
	}
	n.filter.SetMembers(addrs)
}

// known is what knownFile holds. showMembers' caller guards it.
type known struct{ addrs []netip.Addr }

// keep writes addresses to a file if they are others than the last time, and more than one: alone, a node that has just
// started has not found the others yet. It writes beside the file and then renames, so
// that a crash leaves the old file or the new one.
func (k *known) keep(file string, addrs []netip.Addr) error {
	addrs = slices.Clone(addrs[:min(len(addrs), maxKnown)])
	slices.SortFunc(addrs, netip.Addr.Compare)
	if addrs = slices.Compact(addrs); len(addrs) < 2 || slices.Equal(addrs, k.addrs) {
		return nil
	}
	k.addrs = addrs
	text, err := json.Marshal(addrs)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// recallKnown reads what keep wrote. A file that is missing or damaged is none: gossip finds the members again.
func recallKnown(file string) []netip.Addr {
	text, err := os.ReadFile(file)
	var addrs []netip.Addr
	if errors.Is(err, fs.ErrNotExist) || json.Unmarshal(text, &addrs) != nil {
		return nil
	}
	return addrs[:min(len(addrs), maxKnown)]
}

func (n *Node) filterMode() string { return n.filter.Mode() }

// accessSocket is the clients' port: the filter's twin stands before what is read, runs leave directly.
type accessSocket struct {
	net.PacketConn
	runs
}

// runs is what a socket may offer beyond net.PacketConn.
type runs interface {
	WriteRun(run []byte, segment int, to netip.AddrPort) error
}

// filteredAccess puts the filter before the clients' socket, whose port the system may have chosen.
func (n *Node) filteredAccess() (net.PacketConn, error) {
	port := uint16(n.accessUDP.LocalAddr().(*net.UDPAddr).Port)
	if err := n.filter.SetPorts(netip.MustParseAddrPort(n.cfg.Mesh.Listen).Port(), port); err != nil {
		return nil, fmt.Errorf("access.udp: %w", err)
	}
	filtered := n.filter.WrapPacketConn(n.accessUDP, port)
	if wire, ok := n.accessUDP.(runs); ok {
		return accessSocket{PacketConn: filtered, runs: wire}, nil
	}
	return filtered, nil
}

// filterRoutes is the filter's part of the admin API.
func (n *Node) filterRoutes(mux *adminRoutes) {
	mux.HandleFunc("GET /v1/filter", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, n.filter.Report()) })
	mux.HandleFunc("GET /v1/filter/drops", n.serveDrops)
	mux.HandleFunc("GET /v1/filter/quarantine", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, n.filter.Quarantine()) })
	mux.HandleFunc("DELETE /v1/filter/quarantine/{source}", n.releaseSource)
}

// serveDrops answers with the sampled drops whose numbers are above ?after=N.
func (n *Node) serveDrops(w http.ResponseWriter, r *http.Request) {
	after := uint64(0)
	if s := r.URL.Query().Get("after"); s != "" {
		var err error
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			writeError(w, http.StatusBadRequest, fmt.Errorf("after is %q, not the number of a drop", s))
			return
		}
	}
	writeJSON(w, http.StatusOK, n.filter.Recent(after))
}

func (n *Node) releaseSource(w http.ResponseWriter, r *http.Request) {
	a, err := netip.ParseAddr(r.PathValue("source"))
	if err != nil {
		writeError(w, http.StatusBadRequest, fmt.Errorf("%q is not an address (an IPv6 address stands for its /64)", r.PathValue("source")))
		return
	}
	q, found := n.inQuarantine(a)
	if !n.filter.Release(a) {
		writeError(w, http.StatusNotFound, fmt.Errorf("%v is not in quarantine at %s", a, n.cfg.Node))
		return
	}
	if found && q.From == "" {
		n.quarantine.recant(q.Source)
	}
	writeJSON(w, http.StatusOK, q)
}

func (n *Node) inQuarantine(a netip.Addr) (ebpf.Quarantined, bool) {
	list := n.filter.Quarantine()
	i := slices.IndexFunc(list, func(q ebpf.Quarantined) bool { return q.Source.Contains(a.Unmap()) })
	if i < 0 {
		return ebpf.Quarantined{}, false
	}
	return list[i], true
}

// lockoutError refuses a blocklist that shuts out every member or the operator.
type lockoutError struct{ why error }

func (e *lockoutError) Error() string {
	return "refused, because of whom it would lock out (force it with --force if that is meant):\n" + e.why.Error()
}

// checkLockout holds a blocklist against the members' addresses and the operator's: where the request came from, and what
// it names.
func (n *Node) checkLockout(blocklist []netip.Prefix, from string, own []string) error {
	if len(blocklist) == 0 {
		return nil
	}
	var members, operators []netip.Addr
	for _, m := range n.mesh.Members() {
		if m.Health.Mesh.IsValid() {
			members = append(members, m.Health.Mesh.Addr())
		}
	}
	if ap, err := netip.ParseAddrPort(from); err == nil {
		operators = append(operators, ap.Addr())
	}
	for _, text := range own {
		if a, err := netip.ParseAddr(text); err == nil {
			operators = append(operators, a)
		}
	}
	return lockedOut(blocklist, members, operators)
}

// lockedOut is pure. A loopback address is nobody's in particular, and never met by the filter's blocklist on a wire.
func lockedOut(blocklist []netip.Prefix, members, operators []netip.Addr) error {
	operators = slices.DeleteFunc(slices.Clone(operators), func(a netip.Addr) bool { return a.Unmap().IsLoopback() })
	if err := (ebpf.Rules{Blocklist: blocklist}).CheckLockout(members, operators); err != nil {
		return &lockoutError{err}
	}
	return nil
}
