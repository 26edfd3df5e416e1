package node

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/node/access"
)

func TestChannelsArePutTogetherFromAllNodes(t *testing.T) {
	held := func(channel, stream, source string, published bool, viewers int) media.Held {
		return media.Held{App: "demo", Channel: channel, Stream: stream, Source: source, Published: published, Viewers: viewers, SinceMS: 1000}
	}
	parts := []inventory{
		{Node: "fra", Held: []media.Held{held("stage", "a", "fra", true, 1), held("quiet", "b", "fra", true, 0)}},
		{Node: "sin", Held: []media.Held{held("stage", "a", "fra", false, 5), held("far", "c", "gru", false, 2)}, Braids: []BraidStatus{
			{Peer: "fra", Fence: "1", PacketsDelivered: 10, In: []PathStatus{{Hops: []string{"fra", "sin"}}}},
			{Peer: "fra", Fence: "2", PacketsDelivered: 90, Undelivered: 3, Repaired: 4, In: []PathStatus{{Hops: []string{"fra", "iad", "sin"}, Rescued: 7}}},
		}},
	}
	parts[1].Watched = []access.Watched{{App: "demo", Channel: "stage", Stream: "a", Freezes: 2, Frozen: 1500 * time.Millisecond, FrozenViewers: 1, KeyframeAsks: 4, Trip: 30 * time.Millisecond}}
	got := assembleChannels(parts, 2)
	if len(got.Channels) != 2 || got.More != 1 {
		t.Fatalf("%d channels, %d more", len(got.Channels), got.More)
	}
	stage := got.Channels[0]
	if stage.Channel != "stage" || stage.Viewers != 6 || len(stage.Streams) != 1 {
		t.Fatalf("the channel with most viewers is %+v", stage)
	}
	s := stage.Streams[0]
	if s.Origin != "fra" || !s.Since.Equal(time.UnixMilli(1000)) || len(s.At) != 2 || s.At[0].Node != "fra" || s.At[1].Node != "sin" {
		t.Fatalf("the stream is %+v", s)
	}
	at := s.At[1]
	if at.Viewers != 5 || at.Source != "fra" || at.Delivered != 90 || at.Undelivered != 3 || at.Repaired != 4 || len(at.Paths) != 1 || at.Paths[0].Rescued != 7 {
		t.Errorf("at sin: %+v, not the braid that carries most", at)
	}
	if at.Freezes != 2 || at.FrozenSeconds != 1.5 || at.FrozenViewers != 1 || at.KeyframeAsks != 4 || at.TripMS != 30 {
		t.Errorf("viewers at sin fare like %+v", at)
	}
	if s.At[0].Paths != nil || s.At[0].Freezes != 0 {
		t.Errorf("viewers at the ingress have paths: %+v", s.At[0])
	}
	if far := got.Channels[1]; far.Channel != "far" || far.Streams[0].Origin != "" {
		t.Errorf("a stream whose ingress did not answer: %+v", far)
	}
}

// wide is a status of a mesh of n nodes in which each measures its links to as many others.
func wide(n, neighbours int) Status {
	s := Status{Node: "n000", PolicyVersion: 1}
	for i := range n {
		s.Members = append(s.Members, MemberStatus{Node: fmt.Sprintf("n%03d", i), Region: "eu", Alive: true, PolicyVersion: 1, State: StateServing})
		for d := range neighbours {
			if j := (i + 1 + d) % n; i != j {
				s.Links = append(s.Links, LinkStatus{From: fmt.Sprintf("n%03d", i), To: fmt.Sprintf("n%03d", j), LatencyMS: float64(1 + (i*7+j*7)%90)})
			}
		}
	}
	return s
}

func TestTheConsoleGetsTheFastestLinksAndThoseOfPaths(t *testing.T) {
	s := wide(12, 11)
	s.Braids = []BraidStatus{{Peer: "n011", Out: []PathStatus{{Hops: []string{"n000", "n005", "n011"}}}}}
	got := consoleState(s, time.Unix(1, 0)).Links
	if len(got) > 12*layoutLinks+2 {
		t.Errorf("%d links for 12 nodes", len(got))
	}
	for _, want := range [][2]int{{0, 5}, {5, 11}} {
		found := false
		for _, l := range got {
			found = found || l.A == want[0] && l.B == want[1]
		}
		if !found {
			t.Errorf("the path's link %v is missing", want)
		}
	}
	if again := consoleState(s, time.Unix(1, 0)).Links; !reflect.DeepEqual(got, again) {
		t.Error("two looks at one status differ")
	}
}

// BenchmarkConsole is what one look of the console takes of the node, and how much it sends: 200 nodes, 1,000 channels.
func BenchmarkConsole(b *testing.B) {
	s := wide(200, 32)
	b.Run("state", func(b *testing.B) {
		var doc []byte
		for b.Loop() {
			doc, _ = json.Marshal(consoleState(s, time.Unix(1, 0)))
		}
		b.ReportMetric(float64(len(doc)), "bytes")
	})
	b.Run("channels", func(b *testing.B) {
		var parts []inventory
		for i := range 200 {
			p := inventory{Node: fmt.Sprintf("n%03d", i)}
			for j := range 20 {
				c := (i*5 + j) % 1000
				p.Held = append(p.Held, media.Held{App: "demo", Channel: fmt.Sprintf("c%03d", c), Stream: "s", Source: "n000", Published: j == 0, Viewers: 1})
			}
			parts = append(parts, p)
		}
		var c Channels
		for b.Loop() {
			c = assembleChannels(parts, maxChannels)
		}
		doc, _ := json.Marshal(c.Channels[:100])
		b.ReportMetric(float64(len(doc)), "bytes")
	})
}

func TestHistoryKeepsAnHourOfRates(t *testing.T) {
	var h history
	at := time.Unix(1000, 0)
	for i := range historyKept + 5 {
		h.observe(at.Add(time.Duration(i)*historyEvery), Sample{Sessions: i}, totals{in: uint64(i) * 100})
	}
	all := h.since(0)
	if len(all) != historyKept || all[0].Sessions != 5 || all[len(all)-1].PacketsIn != 10 {
		t.Errorf("%d samples, first %+v, last %+v", len(all), all[0], all[len(all)-1])
	}
	if late := h.since(all[len(all)-3].At); len(late) != 2 {
		t.Errorf("%d samples after the third last", len(late))
	}
	h.observe(at.Add(2*time.Hour), Sample{}, totals{in: 3}) // the counter began anew
	if last := h.since(0); last[len(last)-1].PacketsIn != 0 {
		t.Errorf("a counter that began anew gives the rate %v", last[len(last)-1].PacketsIn)
	}
}
