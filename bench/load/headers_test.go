package load

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"github.com/ternmesh/tern/bench/fanout"
	"github.com/ternmesh/tern/node/udp"
)

func TestViewersThatReadHeadersAloneCountAllTheSame(t *testing.T) {
	url := server(t)
	r, err := Run(context.Background(), Config{
		Publishers: 2, Viewers: 3, WHIP: url + "/whip/s{n}", WHEP: url + "/whep/s{n}", Size: 200, Rate: 50, Burst: 2, Audio: 20, For: time.Second, Headers: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent == 0 || r.Delivered == 0 || r.Delivered > r.Sent || r.LostSessions != 0 || r.Foreign != 0 || r.Latency.P50 <= 0 {
		t.Errorf("%+v: want about 210 sent to viewers, and no more delivered", r)
	}
}

func TestTheFloorIsMeasuredLikeAServer(t *testing.T) {
	conn, err := udp.Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- fanout.ServeRaw(conn) }()
	at := "udp://" + conn.LocalAddr().String()
	r, err := Run(context.Background(), Config{Publishers: 1, Viewers: 3, WHIP: at, WHEP: at, Size: 200, Rate: 50, Burst: 2, Audio: 20, Warmup: 100 * time.Millisecond, For: time.Second, Headers: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent == 0 || r.Delivered == 0 || r.Delivered > r.Sent || r.Foreign != 0 {
		t.Errorf("%+v: want about 210 sent to viewers, and no more delivered", r)
	}
	_ = conn.Close()
	if err := <-ended; err != nil {
		t.Errorf("a server that was closed says %v", err)
	}
}

func TestHeadingsAreThoseOfRTPAlone(t *testing.T) {
	rtp := []byte{0x80, 0x80 | opusPayload, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9}
	if h, ok := headingOf(rtp); !ok || h != (heading{opusPayload, 0x102, 9}) || !h.audio() {
		t.Errorf("%+v %v", h, ok)
	}
	for name, b := range map[string][]byte{
		"short": rtp[:11], "STUN": {0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "DTLS": {22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"RTCP": {0x80, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		if _, ok := headingOf(b); ok {
			t.Errorf("%s is taken for RTP", name)
		}
	}
}

func TestReportsOfHeadersSayWhatWasLost(t *testing.T) {
	b := newBooks(1)
	b.headers()
	g := &glance{books: b}
	for _, seq := range []uint16{65534, 65535, 1, 2} { // 0 is lost
		g.heard(heading{payload: 96, seq: seq, ssrc: 5}, time.Now())
	}
	g.heard(heading{payload: 97, seq: 9, ssrc: 6}, time.Now()) // RTX
	got := g.reports()
	if want := (rtcp.ReceptionReport{SSRC: 5, FractionLost: 256 / 5, TotalLost: 1, LastSequenceNumber: 1<<16 + 2}); len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := g.reports(); got[0].FractionLost != 0 || got[0].TotalLost != 1 {
		t.Errorf("later: %+v, want nothing new lost", got)
	}
}
