package access

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCandidatesLeaveARefusedSection(t *testing.T) {
	head := "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 1\r\n"
	lines := "a=candidate:1 1 udp 2130706431 10.0.0.1 8081 typ host\r\na=end-of-candidates\r\n"
	refused, audio := "m=video 0 UDP/TLS/RTP/SAVPF 0\r\n", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n"
	got, err := candidatesWhereTheyCount(head+refused+lines+audio, nil)
	if err != nil {
		t.Fatal(err)
	}
	video, rest, _ := strings.Cut(got, "m=audio")
	if strings.Contains(video, "candidate") || !strings.Contains(rest, "a=candidate:1 1 udp") || !strings.Contains(rest, "end-of-candidates") {
		t.Errorf("got\n%s", got)
	}
	for name, same := range map[string]string{"accepted first": head + audio + lines + refused, "all refused": head + refused + lines} {
		if got, err := candidatesWhereTheyCount(same, nil); err != nil || got != same {
			t.Errorf("%s: %v, changed to\n%s", name, err, got)
		}
	}
	if _, err := candidatesWhereTheyCount("nonsense", nil); err == nil {
		t.Error("nonsense was taken for a description")
	}
}

func TestTCPCandidatesNameTheAddressOutside(t *testing.T) {
	const head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n"
	udp := "a=candidate:1 1 udp 2130706431 198.51.100.1 8081 typ host\r\n"
	tcp := func(address string) string {
		return "a=candidate:2 1 tcp 1671430143 " + address + " 8443 typ host tcptype passive\r\n"
	}
	advertise := []netip.AddrPort{netip.MustParseAddrPort("198.51.100.1:8081"), netip.MustParseAddrPort("[2001:db8::1]:8081")}
	for _, c := range []struct{ name, old, want string }{
		{"inside", udp + tcp("10.0.0.5"), udp + tcp("198.51.100.1")},
		{"two insides", udp + tcp("10.0.0.5") + tcp("172.17.0.1"), udp + tcp("198.51.100.1")},
		{"of either family", tcp("10.0.0.5") + tcp("fd00::5"), tcp("198.51.100.1") + tcp("2001:db8::1")},
		{"advertised itself", udp + tcp("198.51.100.1"), udp + tcp("198.51.100.1")},
	} {
		got, err := candidatesWhereTheyCount(head+c.old, advertise)
		if err != nil || got != head+c.want {
			t.Errorf("%s: %v\n%s", c.name, err, got)
		}
	}
	if got, err := candidatesWhereTheyCount(head+udp+tcp("fd00::5"), advertise[:1]); err != nil || got != head+udp {
		t.Errorf("an address without a way in from outside: %v\n%s", err, got)
	}
}
