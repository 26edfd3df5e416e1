package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/link"
)

// joinPage joins JOINS times and reports how long each took, from fetch, which sends a preflight and the POST, to the first
// frame shown. The pauses differ, so that joins do not fall in step with the clip's own keyframes.
const joinPage = browserCalls + `<script>
(async () => {
  for (let n = 0; n < JOINS; n++) {
    await new Promise(r => setTimeout(r, 500 + 1000 * Math.random()));
    const pc = new RTCPeerConnection(), media = new MediaStream();
    const video = Object.assign(document.createElement('video'), {autoplay: true, muted: true, playsInline: true, srcObject: media});
    document.body.append(video);
    const shown = new Promise(r => video.requestVideoFrameCallback(() => r(performance.now())));
    pc.ontrack = e => media.addTrack(e.track);
    for (const kind of ['video', 'audio']) pc.addTransceiver(kind, {direction: 'recvonly'});
    const {posted, location} = await join(pc, WHEP + '?n=' + n, TOKEN); // a URL of its own: the preflight is not remembered
    const ms = await shown - posted;
    await fetch(location, {method: 'DELETE'});
    pc.close();
    video.remove();
    await report({ms});
  }
})().catch(e => report({error: String(e)}));
</script>`

// joinDelay is the way between the browser and the node, each way.
const joinDelay = 25 * time.Millisecond

// afar is the node's address behind an emulated link of joinDelay each way. HTTP, which sim/link does not delay, takes a round trip a
// request, and a preflight two more: a viewer who comes for the first time opens a connection for it, TCP and then TLS 1.3.
func (w *world) afar() string {
	w.t.Helper()
	slow := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		trips := time.Duration(1)
		if r.Method == http.MethodOptions {
			trips = 3
		}
		time.Sleep(trips * 2 * joinDelay) // all of it ahead of the answer: an ICE-lite node does nothing between its answer and the first check
		w.a.Handler().ServeHTTP(rw, r)
	}))
	w.t.Cleanup(slow.Close)
	upstream, err := url.Parse(slow.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	way := sim.Link{Delay: joinDelay}
	l, err := link.New(link.Config{Out: way, Back: way, HTTP: "127.0.0.1:0", Upstream: upstream})
	if err != nil {
		w.t.Fatal(err)
	}
	at := make(chan string, 1)
	runInBackground(w.t, w.t.Context(), func(ctx context.Context) error {
		return l.Run(ctx, func(_ netip.AddrPort, http string) { at <- "http://" + http })
	})
	return <-at
}

// BenchmarkChromiumJoin watches b.N times, one after the other, in Chromium, over a round trip of 50 ms, a publisher that
// answers requests for keyframes: go test -run '^$' -bench ChromiumJoin -benchtime 40x ./node/access
func BenchmarkChromiumJoin(b *testing.B) {
	w := newWorld(b, nil)
	video, err1 := os.ReadFile("../../sim/demo/clip/video.ivf")
	audio, err2 := os.ReadFile("../../sim/demo/clip/audio.ogg")
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	clip, err := client.NewClip(bytes.NewReader(video), bytes.NewReader(audio))
	if err != nil {
		b.Fatal(err)
	}
	w.publish("/whip/demo/room", w.publisherToken("room"), clip)
	reports := browse(b, strings.NewReplacer("JOINS", fmt.Sprint(b.N), "WHEP", `"`+w.afar()+`/whep/demo/room"`, "TOKEN", `"`+w.viewerToken("room")+`"`).Replace(joinPage))
	var took []float64
	for range b.N {
		var one struct {
			Error string
			MS    float64
		}
		if w.heard(reports, &one); one.Error != "" {
			b.Fatalf("the browser says %s\nlog:\n%s", one.Error, w.log)
		}
		took = append(took, one.MS)
	}
	slices.Sort(took)
	for _, q := range []int{50, 95} {
		b.ReportMetric(took[len(took)*q/100], fmt.Sprintf("join-p%d-ms", q))
	}
	b.ReportMetric(took[len(took)-1], "join-max-ms")
}
