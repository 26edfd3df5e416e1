package access

import (
	"strings"
	"testing"
)

func TestCandidatesLeaveARefusedSection(t *testing.T) {
	head := "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 1\r\n"
	lines := "a=candidate:1 1 udp 2130706431 10.0.0.1 8081 typ host\r\na=end-of-candidates\r\n"
	refused, audio := "m=video 0 UDP/TLS/RTP/SAVPF 0\r\n", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n"
	got, err := candidatesWhereTheyCount(head + refused + lines + audio)
	if err != nil {
		t.Fatal(err)
	}
	video, rest, _ := strings.Cut(got, "m=audio")
	if strings.Contains(video, "candidate") || !strings.Contains(rest, "a=candidate:1 1 udp") || !strings.Contains(rest, "end-of-candidates") {
		t.Errorf("got\n%s", got)
	}
	for name, same := range map[string]string{"accepted first": head + audio + lines + refused, "all refused": head + refused + lines} {
		if got, err := candidatesWhereTheyCount(same); err != nil || got != same {
			t.Errorf("%s: %v, changed to\n%s", name, err, got)
		}
	}
	if _, err := candidatesWhereTheyCount("nonsense"); err == nil {
		t.Error("nonsense was taken for a description")
	}
}
