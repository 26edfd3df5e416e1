package access

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/ternmesh/tern/ebpf"
)

// passed counts what the filter let through, or dropped, by class and reason.
func (w *world) passed(c ebpf.Class, r ebpf.Reason) uint64 {
	for _, n := range w.filter.Stats().Go {
		if n.Class == c && n.Reason == r {
			return n.Packets
		}
	}
	return 0
}

// check sends the Binding request of a client whose NAT gave it the address of conn, and waits for the answer.
func check(t *testing.T, conn net.Conn, ufrag, pwd, remote string) bool {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag+":"+remote),
		stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)},
		stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{1, 2, 3, 4}},
		stun.NewShortTermIntegrity(pwd), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(m.Raw); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	buf := make([]byte, 1500)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return false
		}
		if n > 1 && buf[0] == 1 && buf[1] == 1 {
			return true
		}
	}
}

func TestFilterAdmitsWhomICEHasChecked(t *testing.T) {
	w := newWorld(t, nil)
	pc, res := w.joined(t)
	ufrag, pwd := attribute(res.body, "ice-ufrag"), attribute(res.body, "ice-pwd")
	if len(ufrag) != ebpf.Ufrag {
		t.Fatalf("ufrag %q is not the filter's", ufrag)
	}
	port := int(w.a.cfg.UDPAdvertise[0].Port())
	own := attribute(pc.LocalDescription().SDP, "ice-ufrag")
	rebound, forged := dialUDP(t, port), dialUDP(t, port)
	media := rtpBytes(t, 96, 1, []byte("x"))

	_, _ = rebound.Write(media)
	w.until("media from a new address is dropped before its check", func() bool {
		return w.passed(ebpf.ClassRTP, ebpf.ReasonNotAdmitted) == 1
	})
	if check(t, forged, ufrag, "not-the-password-of-this-session", own) {
		t.Error("a check with another password was answered")
	}
	_, _ = forged.Write(media)
	w.until("media after a failed check is dropped", func() bool {
		return w.passed(ebpf.ClassRTP, ebpf.ReasonNotAdmitted) == 2
	})
	before := w.passed(ebpf.ClassRTP, ebpf.ReasonOK)
	if !check(t, rebound, ufrag, pwd, own) {
		t.Fatal("the check from the new address got no answer")
	}
	_, _ = rebound.Write(media)
	w.until("media passes as soon as the answer is there", func() bool {
		return w.passed(ebpf.ClassRTP, ebpf.ReasonOK) > before
	})
	if w.passed(ebpf.ClassSTUN, ebpf.ReasonUfrag) == 0 {
		t.Error("no check passed by its ufrag")
	}
	if res := w.do("DELETE", res.header.Get("Location"), ""); res.code != 200 {
		t.Fatalf("DELETE: %d", res.code)
	}
	w.until("nothing stays admitted", func() bool { return w.filter.LiveStats().Flows == 0 })
	if v := w.filter.AllowPacket(netip.MustParseAddrPort(rebound.LocalAddr().String()), uint16(port), media); v.Reason != ebpf.ReasonNotAdmitted {
		t.Errorf("after the session: %v", v)
	}
}
