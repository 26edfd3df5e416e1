package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim/demo/clip"
	"github.com/ternmesh/tern/sim/demo/page"
)

// patience is for what never comes, not for what a busy machine delays.
const patience = time.Minute

// outside is the node that the fence keeps out: the best relay between the two cities.
const (
	outside       = "singapore"
	outsideRegion = "ap-southeast"
)

// watchSoon joins as soon as the directory knows the stream.
func watchSoon(t *testing.T, c *cluster, url, token string, packet func(string, *rtp.Packet)) (s session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := c.wait(ctx, func() (bool, string) {
		var err error
		if s, err = (realClients{}).Watch(ctx, url, token, packet); err != nil {
			return false, err.Error()
		}
		return true, ""
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// metricOf reads one counter of a node's /metrics, by its name with labels as written there; 0 if it is not listed.
func metricOf(t *testing.T, n meshNode, name string) float64 {
	t.Helper()
	answer := ask(t, http.MethodGet, n.AdminURL()+"/metrics", "", "")
	if answer.code != http.StatusOK {
		t.Fatalf("/metrics answered %d", answer.code)
	}
	for line := range strings.Lines(answer.body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// touched is how many of a stream's frames a node had in hands: relayed, or taken as their egress.
func touched(t *testing.T, n meshNode) (sum float64) {
	t.Helper()
	for _, result := range []string{"relayed", "media", "quic", "copies"} {
		sum += metricOf(t, n, `tern_braid_frames_total{result="`+result+`"}`)
	}
	return sum
}

// paths of the app's media between the two cities, as both ends list them.
func (c *cluster) mediaPaths() (out []string) {
	for _, s := range c.statuses() {
		for _, b := range s.Braids {
			for _, p := range slices.Concat(b.Out, b.In) {
				out = append(out, route(p.Hops))
			}
		}
	}
	return out
}

// fenced is a stream from one city to another inside a fence, and what the test knows of it.
type fenced struct {
	*stage
	arrived atomic.Int64 // packets at the viewer
	token   string
}

func newFenced(t *testing.T) *fenced {
	t.Helper()
	var inside []string
	for _, c := range cities {
		if c.region != outsideRegion {
			inside = append(inside, c.region)
		}
	}
	s, _ := realStage(t, inside)
	entry, err := s.Session()
	if err != nil {
		t.Fatal(err)
	}
	f := &fenced{stage: s, token: entry.Token}
	act(t, s, page.Action{Do: page.TestStart, City: publishAt})
	base, err := s.cluster.accessURL(watchAt)
	if err != nil {
		t.Fatal(err)
	}
	viewer := watchSoon(t, s.cluster, whep(base, testChannel), f.token, func(string, *rtp.Packet) { f.arrived.Add(1) })
	t.Cleanup(func() { closing(s.cluster.log, "viewer", viewer) })
	return f
}

// until waits for a condition and fails the test if it never holds.
func (f *fenced) until(t *testing.T, what string, condition func() (bool, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	if err := f.cluster.wait(ctx, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s after %.1f s", what, time.Since(began).Seconds())
}

// flowing waits for that many more packets at the viewer.
func (f *fenced) flowing(t *testing.T, packets int64) {
	t.Helper()
	from := f.arrived.Load()
	f.until(t, "packets at the viewer", func() (bool, string) {
		n := f.arrived.Load() - from
		return n >= packets, strconv.FormatInt(n, 10) + " arrived"
	})
}

// outsider is the node that must not see the stream.
func (f *fenced) outsider() meshNode { return f.cluster.living()[outside] }

// untouched checks that not one frame of the stream was at the outsider, nor on a path through it.
func (f *fenced) untouched(t *testing.T, when string) {
	t.Helper()
	if n := touched(t, f.outsider()); n != 0 {
		t.Errorf("%s: %v frames touched %s, which is outside of the fence", when, n, outside)
	}
	if sent := f.outsider().Status().Braids; len(sent) != 0 {
		t.Errorf("%s: %s has braids: %+v", when, outside, sent)
	}
	for _, p := range f.cluster.mediaPaths() {
		if strings.Contains(p, outside) {
			t.Errorf("%s: a path leaves the fence: %s", when, p)
		}
	}
}

// A fence keeps media out of a region although the best relay is there, and although no other way is left.
func TestEndToEndAFenceHoldsAgainstTheBestRelayAndTheOnlyOne(t *testing.T) {
	unraced(t)
	f := newFenced(t)
	f.flowing(t, 300)
	f.untouched(t, "while all is well")
	f.othersRelay(t)
	f.refusesClients(t)

	for _, c := range cities {
		if c.node != publishAt && c.node != watchAt && c.node != outside {
			if err := f.cluster.kill(c.node); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.mu.Lock()
	f.cut[[2]string{publishAt, watchAt}], f.cut[[2]string{watchAt, publishAt}] = true, true
	f.shape()
	f.mu.Unlock()
	f.silence(t)
	f.untouched(t, "with no way left inside the fence")
	f.openWay(t)

	// The proof that the fence alone kept the stream back: without it the stream goes by way of the outsider.
	f.cluster.ground.fence = nil
	if err := f.cluster.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.flowing(t, 300)
	if touched(t, f.outsider()) == 0 {
		t.Errorf("without the fence packets arrive, but not by way of %s: %v", outside, f.cluster.mediaPaths())
	}
}

// othersRelay checks that relays inside the fence do their work, and so that the counters that are zero outside mean something.
func (f *fenced) othersRelay(t *testing.T) {
	t.Helper()
	relayed := 0.0
	for name, n := range f.cluster.living() {
		if name != publishAt && name != watchAt {
			relayed += metricOf(t, n, `tern_braid_frames_total{result="relayed"}`)
		}
	}
	if relayed == 0 || touched(t, f.cluster.living()[watchAt]) == 0 {
		t.Errorf("the relays inside the fence relayed %v frames; the counters do not count", relayed)
	}
}

// refusesClients checks that nobody can publish or watch at the outsider, in any of the ways in: it cannot even judge a token,
// because the app's certificate is not sealed to it.
func (f *fenced) refusesClients(t *testing.T) {
	t.Helper()
	base := f.outsider().AccessURL()
	_, watching := realClients{}.Watch(t.Context(), whep(base, testChannel), f.token, func(string, *rtp.Packet) {})
	_, publishing := realClients{}.Publish(t.Context(), whip(base, testChannel), f.token, &testStream{clip: &clip.Clip{}})
	for what, err := range map[string]error{"WHEP": watching, "WHIP": publishing} {
		var refused *client.StatusError
		if !errors.As(err, &refused) || refused.Code != http.StatusUnauthorized {
			t.Errorf("%s at %s: %v, want status 401", what, outside, err)
		}
	}
	room := base + "/v1/apps/" + appID + "/channels/" + testChannel
	if a := ask(t, http.MethodPost, room+"/rtp", f.token, ""); a.code != http.StatusUnauthorized {
		t.Errorf("RTP ingest at %s: %d %s, want status 401", outside, a.code, a.body)
	}
	if a := ask(t, http.MethodGet, room, f.token, ""); a.code != http.StatusUnauthorized {
		t.Errorf("the list of streams at %s: %d %s, want status 401", outside, a.code, a.body)
	}
}

// silence waits until packets stop, and stays longer than the mesh takes to find a new path.
func (f *fenced) silence(t *testing.T) {
	t.Helper()
	const quietPolls = int(4 * time.Second / pollInterval)
	last, polls := f.arrived.Load(), 0
	f.until(t, "silence at the viewer", func() (bool, string) {
		if n := f.arrived.Load(); n != last {
			last, polls = n, 0
			return false, "packets still arrive"
		}
		polls++
		return polls > quietPolls, "not silent for long enough"
	})
}

// openWay checks that there is a way outside of the fence, and that the node that would take it knows.
func (f *fenced) openWay(t *testing.T) {
	t.Helper()
	if l := f.cluster.net.Link(publishAt, outside); l.Down {
		t.Error("the link to the outsider is down")
	}
	ingress, ok := f.cluster.living()[publishAt].(*node.Node)
	if !ok {
		t.Fatal("the ingress is not a real node")
	}
	for app, want := range map[string]int{"": 1, appID: 0} {
		f.until(t, "the node at the ingress knows which ways are left", func() (bool, string) {
			r, err := ingress.PathsBetween(publishAt, watchAt, app)
			return err == nil && len(r.Paths) == want, fmt.Sprintf("app %q has the paths %+v (%v), want %d", app, r.Paths, err, want)
		})
	}
}
