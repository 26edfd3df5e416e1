package scenario

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/sim"
)

// minimum is the format that every version of this package reads.
const minimum = `
name: transpacific-brownout
duration: 60s
warmup: 2s
seed: 7
nodes:
  fra: {region: eu, city: Frankfurt}
  lhr: {region: eu}
  iad: {region: us-east, shared_risk: [pacific-cable]}
  sin: {region: ap, city: Singapore}
  syd: {region: ap}
links:
  matrix: rtt.csv
  default: {delay: 40ms, jitter: 2ms, loss: 0.1%}
  pairs:
    - {from: fra, to: sin, delay: 80ms, jitter: 3ms, loss: {ge: {p: 0.004, r: 0.2}}, rate: 50Mbit, queue: 100ms, both: true}
policy: policy.yaml
streams:
  - {name: cam, from: fra, to: [sin], packets_per_second: 200, size: 1150, app: demo, redundancy: full}
events:
  - {at: 20s, for: 10s, link: fra-sin, loss: 5%}
  - {at: 30s, node: iad, action: kill}
  - {at: 40s, partition: [[fra, lhr], [sin, syd]], for: 5s}
  - {at: 50s, shared_risk: pacific-cable, action: down, for: 3s}
`

func files(name string) ([]byte, error) {
	switch name {
	case "rtt.csv":
		return []byte("from,to,rtt_ms\nFrankfurt,Singapore,150\nfra,lhr,12.5\nlhr,fra,13\nMars,fra,40000\n"), nil
	case "policy.yaml":
		return []byte("regions: [{id: eu}, {id: us-east}, {id: ap}]\napps:\n  - {id: demo, auth: app_id}\n"), nil
	case "trace.csv":
		return []byte("ms,loss_pct\n1000,0\n500,20\n"), nil
	}
	return nil, fmt.Errorf("no file %s", name)
}

func TestTheMinimumFormatMeansWhatItSays(t *testing.T) {
	s, err := Parse([]byte(minimum), files)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "transpacific-brownout" || s.Duration != time.Minute || s.Warmup != 2*time.Second || s.Seed != 7 || len(s.Nodes) != 5 {
		t.Errorf("head: %+v", s)
	}
	want := sim.Link{
		Delay: 80 * time.Millisecond, Jitter: 3 * time.Millisecond, GE: sim.GilbertElliott{P: 0.004, R: 0.2},
		Rate: 50_000_000, Queue: 625_000,
	}
	for _, p := range []Pair{{"fra", "sin"}, {"sin", "fra"}} {
		if got := fmt.Sprintf("%+v", s.Links[p]); got != fmt.Sprintf("%+v", want) {
			t.Errorf("%v: %s\nwant %+v: a pair overrides matrix and default", p, got, want)
		}
	}
	for p, delay := range map[Pair]time.Duration{
		{"fra", "lhr"}: 6250 * time.Microsecond, {"lhr", "fra"}: 6500 * time.Microsecond, {"iad", "syd"}: 40 * time.Millisecond,
	} {
		if got := s.Links[p]; got.Delay != delay || got.Loss != 0.001 || got.Jitter != 2*time.Millisecond {
			t.Errorf("%v: %+v, want a delay of %v (half the matrix's round trip), and the default's loss and jitter", p, got, delay)
		}
	}
	if n := len(s.Risks["pacific-cable"]); n != 8 {
		t.Errorf("%d directions depend on the risk of iad, want its 8", n)
	}
	if e := s.Events[0]; len(e.Pairs) != 2 || e.Change.Loss == nil || e.Change.Loss.Share != 0.05 || e.For != 10*time.Second {
		t.Errorf("the loss event: %+v", e)
	}
	link := want
	s.Events[0].Change.Apply(&link)
	if link.Loss != 0.05 || link.GE.P != 0 || link.Delay != want.Delay {
		t.Errorf("loss: 5%% made %+v: it replaces the loss model and nothing else", link)
	}
	if s.Events[1].Action != Kill || s.Events[3].Risk != "pacific-cable" || len(s.Events[2].Partition) != 2 {
		t.Errorf("events: %+v", s.Events[1:])
	}
}

func TestEveryFaultIsReportedAtOnceWithItsLine(t *testing.T) {
	doc := `name: Bad Name
duration: 60
nodes:
  fra: {region: eu}
  sin: {regoin: ap}
links:
  default: {delay: 40, jitter: 2ms, loss: 0.1}
  pairs:
    - {from: fra, to: sni, delay: 80ms}
    - {from: fra, to: sin, loss: {ge: {p: 2, r: 0.2}}, rate: 50, queue: 100ms}
streams:
  - {name: cam, from: fra, to: [xyz], packets_per_second: 0}
events:
  - {at: 20s, for: 10s, link: fra-xyz, loss: 5%}
  - {at: 90s, node: fra, action: kill}
  - {at: 10s, node: fra, action: explode}
  - {at: 10s, link: fra-sin}
  - {at: 10s, loss: 5%}
  - {at: 10s, shared_risk: cable, action: down}
  - {at: 10s, node: sin, action: kill}
  - {at: 12s, node: sin, action: kill}
`
	_, err := Parse([]byte(doc), files)
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{
		`line 1: name: "Bad Name" must be`,
		`line 2: duration: 60 has no unit: write 60ms or 60s`,
		`line 5: unknown key "nodes.regoin", did you mean "region"?`,
		`line 5: nodes.sin: a node needs a region`,
		`line 7: links.default.delay: 40 has no unit`,
		`line 7: links.default.loss: 0.1 has no unit: write 0.1%, or 10%`,
		`line 9: links.pairs[0].to: there is no node "sni", did you mean "sin"?`,
		`line 10: links.pairs[1].loss.ge.p: 2 is not a probability`,
		`line 10: links.pairs[1].rate: 50 has no unit: write 50Mbit`,
		`line 12: streams[0].packets_per_second: 0 is not between`,
		`line 12: streams[0].to[0]: there is no node "xyz"`,
		`line 14: events[0].link: "fra-xyz" names no two nodes`,
		`line 16: events[2].action: "explode" is not one of kill`,
		`line 17: events[3]: nothing changes`,
		`line 18: events[4]: an event has one of link`,
		`line 19: events[5].shared_risk: nothing shares the risk "cable"`,
		`line 21: events[7]: kill of sin at 12s: it is already dead`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Logf("got:\n%v", err)
	}
}

func TestAnEventAfterTheEndIsRefused(t *testing.T) {
	_, err := Parse([]byte(strings.Replace(minimum, "at: 50s", "at: 60s", 1)), files)
	if err == nil || !strings.Contains(err.Error(), "events[3].at: 1m0s is not before the end at 1m0s") {
		t.Errorf("%v", err)
	}
}

func TestValuesNeedTheirUnits(t *testing.T) {
	for _, c := range []struct{ kind, in, want string }{
		{"time", "40ms", "40ms"}, {"time", "1d", "24h0m0s"}, {"time", "0s", "0s"}, {"time", "40", "! no unit"}, {"time", "-1s", "! negative"}, {"time", "x", "! not a time"},
		{"share", "5%", "0.05"}, {"share", "0.05", "! 5%"}, {"share", "101%", "! not between"}, {"share", "5ms", "! only unit"},
		{"rate", "50Mbit", "50000000"}, {"rate", "1.5Gbit/s", "1500000000"}, {"rate", "64kbps", "64000"}, {"rate", "50", "! no unit"}, {"rate", "50MB", "! units are"}, {"rate", "-1bit", "! not between"},
		{"queue", "100ms", "100000"}, {"queue", "64kB", "64000"}, {"queue", "5", "! no unit"}, {"queue", "5%", "! not a time"},
	} {
		var got any
		var err error
		switch c.kind {
		case "time":
			got, err = parseDuration(c.in)
		case "share":
			got, err = parseShare(c.in)
		case "rate":
			got, err = parseRate(c.in)
		case "queue":
			got, err = parseQueue(c.in, 8_000_000)
		}
		if reason, bad := strings.CutPrefix(c.want, "! "); bad {
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s %q: %v, want an error with %q", c.kind, c.in, err, reason)
			}
		} else if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s %q: %v, %v, want %s", c.kind, c.in, got, err, c.want)
		}
	}
}

func TestRepetitionsAreWrittenOut(t *testing.T) {
	doc := strings.Replace(minimum, "events:\n", "events:\n  - {at: 1s, for: 1s, every: 3s, times: 4, link: [iad, syd], one_way: true, action: down}\n  - {at: 5s, for: 2s, link: lhr-iad, loss: {trace: trace.csv}, jitter: {mean: 9ms, model: pareto}}\n", 1)
	s, err := Parse([]byte(doc), files)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Events) != 9 || s.Events[0].At != time.Second || s.Events[1].At != 4*time.Second || len(s.Events[0].Pairs) != 1 {
		t.Errorf("%d events: %+v", len(s.Events), s.Events)
	}
	for _, e := range s.Events {
		if e.At == 5*time.Second && (len(e.Change.Loss.Trace) != 2 || *e.Change.JitterModel != sim.Pareto) {
			t.Errorf("%+v", e.Change)
		}
	}
}

func TestALinkNameMustBeUnambiguous(t *testing.T) {
	doc := "name: x\nnodes:\n  a: {region: r}\n  a-b: {region: r}\n  b-c: {region: r}\n  c: {region: r}\nlinks: {default: {delay: 1ms}}\nevents:\n  - {at: 1s, link: a-b-c, action: down}\n"
	if _, err := Parse([]byte(doc), nil); err == nil || !strings.Contains(err.Error(), "two nodes in several ways") {
		t.Errorf("%v", err)
	}
	if _, err := Parse([]byte(strings.Replace(doc, "a-b-c", "[a-b, c]", 1)), nil); err != nil {
		t.Errorf("%v", err)
	}
}

func TestALinkNobodyStatesIsAFault(t *testing.T) {
	doc := "name: x\nnodes:\n  a: {region: r}\n  b: {region: r}\nlinks:\n  pairs:\n    - {from: a, to: b, delay: 5ms}\n"
	if _, err := Parse([]byte(doc), nil); err == nil || !strings.Contains(err.Error(), "nothing states the delay of 1 directions (b to a)") {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimum))
	f.Add([]byte("name: x\nnodes: {a: {region: r}, b: {region: r}}\nlinks: {default: {delay: 1ms, loss: {ge: [1]}, jitter: {mean: 1}}}\nevents: [{at: 1s, every: 1ms, for: 1us, link: [a, b, c]}]\n"))
	f.Add([]byte("a: &x [*x]\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		s, err := Parse(data, files)
		if (s == nil) == (err == nil) {
			t.Errorf("%v and %v", s, err)
		}
	})
}

func TestWhatLastMilesTranslatorsAndJointLossTake(t *testing.T) {
	head := "name: x\nnodes: {a: {region: r, joint_loss: 1%}, b: {region: r}}\nlinks: {default: {delay: 1ms}}\nstreams:\n" +
		"  - {name: phone, from: a, to: [b], webrtc: true, nat: symmetric}\n  - {name: desk, from: a, to: [b]}\nevents:\n"
	s, err := Parse([]byte(head+"  - {at: 1s, last_mile: phone, action: rebind}\n  - {at: 2s, for: 1s, last_mile: phone, loss: 5%}\n  - {at: 3s, node: a, joint_loss: 2%}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Nodes[0].JointLoss != 0.01 || s.Streams[0].NAT != sim.Symmetric || s.Events[0].Action != Rebind || s.Events[1].Change.Loss.Share != 0.05 || *s.Events[2].JointLoss != 0.02 {
		t.Errorf("%+v", s)
	}
	if !s.Nodes[0].Voter || s.Nodes[1].Voter {
		t.Errorf("two nodes have the voters %v and %v, want one", s.Nodes[0].Voter, s.Nodes[1].Voter)
	}
	_, err = Parse([]byte(head+`  - {at: 1s, last_mile: desk, loss: 5%}
  - {at: 1s, last_mile: phone, action: kill}
  - {at: 1s, for: 2s, last_mile: phone, action: handover}
  - {at: 1s, link: a-b, joint_loss: 2%}
  - {at: 1s, node: a, joint_loss: 2%, loss: 5%}
`), nil)
	for _, want := range []string{
		`line 8: events[0].last_mile: no stream with webrtc: true is called "desk"`, `line 9: events[1].action: "kill" is not something a last mile does`,
		`line 10: events[2].for: does not go with action: handover`, `line 11: events[3].joint_loss: does not go with link: it goes with a node`, `line 12: events[4].loss: does not go with joint_loss: give another event`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestALinkByItself(t *testing.T) {
	l, err := ParseLink("{delay: 40ms, jitter: 2ms, loss: {profile: wifi}, rate: 5Mbit, queue: 100ms}")
	if err != nil || l.Delay != 40*time.Millisecond || l.GE != Profiles["wifi"].GE || l.Rate != 5_000_000 || l.Queue != 62_500 {
		t.Errorf("%+v (%v)", l, err)
	}
	_, err = ParseLink("{delay: 40, los: 1%, rate: 5}")
	for _, want := range []string{`unknown key "los", did you mean "loss"?`, "line 1: delay: 40 has no unit", "line 1: rate: 5 has no unit"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestWrongShapesDoNotHideOtherFaults(t *testing.T) {
	_, err := Parse([]byte(`name: shapes
duration: 60
nodes:
  fra: {region: eu}
  sin: {regoin: ap}
  abc: [1, 2]
links: {default: {delay: 40ms, los: 1%}}
streams:
  - {name: cam, from: fra, to: sin, packets_per_second: many, webrtc: yes}
events:
  - {at: 40s, node: fra, action: kill} # what is wrong with the duration is said once
`), nil)
	for _, want := range []string{
		"line 2: duration: 60 has no unit", `line 5: unknown key "nodes.regoin"`, "line 6: nodes.abc: this is a list, want a mapping of keys to values",
		`line 7: unknown key "links.default.los"`, "line 9: streams[0].to: this is text, want a list", "line 9: streams[0].packets_per_second: this is text, want a whole number",
		"line 9: streams[0].webrtc: this is text, want true or false",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "line 11") {
		t.Errorf("an event is blamed for a duration that could not be read:\n%v", err)
	}
}

func TestClocks(t *testing.T) {
	s, err := Parse([]byte(`name: clocks
nodes:
  fra: {region: eu, clock: -3s}
  sin: {region: ap}
links: {default: {delay: 40ms}}
events:
  - {at: 5s, for: 1s, node: sin, action: skew, by: 2h}
`), nil)
	if err != nil || s.Nodes[0].Clock != -3*time.Second || s.Events[0].Skew == nil || *s.Events[0].Skew != 2*time.Hour {
		t.Errorf("%+v (%v)", s, err)
	}
	_, err = Parse([]byte(`name: clocks
nodes:
  fra: {region: eu, clock: 3}
  sin: {region: ap, clock: 99999h}
links: {default: {delay: 40ms}}
events:
  - {at: 1s, node: sin, action: skew}
  - {at: 1s, node: sin, action: kill, by: 2s}
  - {at: 1s, node: sin, action: skew, by: 2s, loss: 1%}
`), nil)
	for _, want := range []string{"line 3: nodes.fra.clock: 3 has no unit", "line 4: nodes.sin.clock: 99999h0m0s is more than", "line 7: events[0]: skew needs by", "line 8: events[1].by: does not go with action: kill: it is how far", "line 9: events[2].loss: does not go with action: skew"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestWhatIsOverAtOnceRepeatsWithoutFor(t *testing.T) {
	s, err := Parse([]byte(`name: x
duration: 60s
nodes:
  fra: {region: eu}
  sin: {region: ap}
links: {default: {delay: 40ms}}
streams:
  - {name: phone, from: fra, to: [sin], webrtc: true, nat: cone}
events:
  - {at: 2s, last_mile: phone, action: handover, every: 20s}
  - {at: 3s, node: sin, action: restart, every: 30s}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Events) != 5 {
		t.Errorf("%d events, want handovers at 2, 22 and 42 s, restarts at 3 and 33 s", len(s.Events))
	}
}

func TestAKeyThatIsThereTwiceIsToldOfBesideWrongShapes(t *testing.T) {
	_, err := Parse([]byte("name: x\nname: y\nnodes:\n  sin: [a]\n"), nil)
	for _, want := range []string{`line 2: the key "name" is there already, at line 1`, "line 4: nodes.sin: this is a list"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestWhatMeansNothingIsNotLeftOutWithoutAWord(t *testing.T) {
	_, err := Parse([]byte(`name: x
nodes:
  fra: {region: EU, provider: "", shared_risk: [a, b, c, d, e]}
  sin: {region: ap, nat: symmetric}
  iad: {region: us, nat: static}
links:
  default: {delay: 40ms, loss: {gee: {p: 1}}}
  pairs:
    - {to: sin, delay: 3ms, loss: {profile: }}
streams:
  - {name: cam, from: fra, to: [sin], app: a b}
events:
  - {at: 2s, node: fra, action: kill, loss: 5%}
  - {at: 1s, node: iad, action: stop, for: 5s}
  - {at: 3s, node: iad, policy: policy.yaml}
  - {at: 2s, shared_risk: a, action: down, loss: 5%}
  - {at: 2s, partition: [[fra], []], for: 1s, action: down}
  - {at: 2s, node: sin, flood: {packets_per_second: 5}, delay: 3ms}
  - {at: 2s, link: fra-sin, loss: 5, one_way: true}
name: y
`), files)
	for _, want := range []string{
		`line 3: nodes.fra.region: "EU" must be`, "line 3: nodes.fra.shared_risk: 5 risks", `line 4: nodes.sin.nat: "symmetric": others must reach`,
		`line 7: links.default.loss.gee: unknown key, did you mean "ge"?`, "line 9: links.pairs[0].from: is missing: name a node", `line 9: links.pairs[0].loss.profile: "" is not one of`, `line 11: streams[0].app: "a b" holds a character`,
		"line 13: events[0].loss: does not go with action: kill: give another event for it", "line 15: events[2]: a policy through iad at 3s: that node is dead (until 6s)",
		"line 16: events[3].loss: does not go with action: down", "line 17: events[4].action: does not go with partition", "line 17: events[4].partition[1]: a group has at least one node",
		"line 18: events[5].delay: does not go with flood", "line 19: events[6].loss: 5 has no unit: write 5%", `line 20: the key "name" is there already, at line 1`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if err != nil && (strings.Contains(err.Error(), "one_way") || strings.Contains(err.Error(), "nodes.iad") || strings.Contains(err.Error(), "nil")) {
		t.Errorf("what is right is blamed too:\n%v", err)
	}
}
