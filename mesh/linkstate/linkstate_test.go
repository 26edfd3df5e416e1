package linkstate

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func sampleRow(rng *rand.Rand, links int) Row {
	r := Row{Vitals: Vitals{Load: 0.25, PolicyVersion: 9, Sessions: 12}, Links: make(map[uint32]Link)}
	for range links {
		to := rng.Uint32N(200)
		r.Links[to] = Link{To: to, Latency: QuantDelay(time.Duration(rng.Int64N(2e8))), LossOut: uint8(rng.IntN(256)), Down: rng.IntN(9) == 0}
	}
	return r
}

var testSignature = bytes.Repeat([]byte{1}, MaxSignature)

func sealed(t testing.TB, body []byte) Item {
	t.Helper()
	var certificate []byte
	if Kind(body[1]) == Card {
		certificate = []byte("certificate")
	}
	it, err := Seal(body, certificate, testSignature)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// Whatever a writer says, a reader that got the last full row and the newest delta knows the row: deltas are cumulative.
func TestDeltasAddUpWhicheverArrive(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var w Writer
		var full, got Row
		var base uint32
		row := sampleRow(rng, 20)
		deltas := 0
		for i := range uint32(30) {
			v := Version{7, i + 1}
			it := sealed(t, w.Write(5, v, row))
			if it.Origin != 5 || it.Version != v {
				t.Fatalf("the item says %+v", it.Head)
			}
			change, err := DecodeChange(it.Kind, it.Content)
			if err != nil {
				t.Fatal(err)
			}
			if it.Kind == Full || it.Base == base {
				got = change.Apply(it.Kind, full)
			}
			if it.Kind == Full {
				full, base = got, it.Counter
			} else if deltas++; it.Base != base {
				t.Fatalf("a delta on %d, the last full row is %d", it.Base, base)
			}
			if !reflect.DeepEqual(got, row) {
				t.Fatalf("seed %d, step %d: read %+v, written %+v", seed, i, got, row)
			}
			next := Row{Vitals: row.Vitals, Links: make(map[uint32]Link)}
			for id, l := range row.Links {
				if rng.IntN(20) > 0 {
					next.Links[id] = l
				}
			}
			for id, l := range sampleRow(rng, rng.IntN(3)).Links {
				next.Links[id] = l
			}
			row = next
		}
		if deltas == 0 {
			t.Fatal("nothing but full rows; the test has lost its point")
		}
	}
}

func TestTheLargestRowFits(t *testing.T) {
	row := Row{Vitals: Vitals{Load: MaxLoad, PolicyVersion: math.MaxUint64, Sessions: MaxSessions}, Links: make(map[uint32]Link)}
	for i := range uint32(200) {
		row.Links[i<<20] = Link{To: i << 20, Latency: MaxDelay, Jitter: MaxDelay, LossOut: 255, LossIn: 255, Down: true}
	}
	var w Writer
	it := sealed(t, w.Write(1, Version{1, 1}, row))
	change, err := DecodeChange(it.Kind, it.Content)
	if err != nil || len(change.Set) < 56 {
		t.Fatalf("%d bytes, %d links, %v; want all neighbours of a node, 56", len(it.Sealed), len(change.Set), err)
	}
}

func TestRowsRefuseTheAbsurd(t *testing.T) {
	change := func(edit func(b []byte) []byte) []byte {
		var w Writer
		row := Row{Links: map[uint32]Link{7: {To: 7, Latency: time.Millisecond}}}
		return edit(bytes.Clone(sealed(t, w.Write(1, Version{1, 1}, row)).Content))
	}
	// content: load 2, policy 1, sessions 1, count 1, id 4, latency 1, jitter 1, loss 2, flags 1
	for story, c := range map[string]struct {
		content []byte
		want    error
	}{
		"load":            {change(func(b []byte) []byte { b[0] = 0xff; return b }), ErrAbsurd},
		"a link too many": {change(func(b []byte) []byte { b[4] = 2; return b }), ErrAbsurd},
		"a thousand":      {change(func(b []byte) []byte { b[4] = 255; return b }), ErrAbsurd},
		"flags":           {change(func(b []byte) []byte { b[len(b)-1] = 4; return b }), ErrAbsurd},
		"gone in a full":  {change(func(b []byte) []byte { b[len(b)-1] = flagGone; return b }), ErrAbsurd},
		"latency 1e9 ms": {change(func(b []byte) []byte {
			return append(append(bytes.Clone(b[:9]), 0x80, 0xa0, 0x94, 0xa5, 0x8d, 0x1d), b[10:]...)
		}), ErrAbsurd},
		"cut":        {change(func(b []byte) []byte { return b[:len(b)-1] }), ErrForm},
		"bytes more": {change(func(b []byte) []byte { return append(b, 0) }), ErrForm},
		"ids fall": {change(func(b []byte) []byte {
			b[4] = 2
			return append(b, b[5:]...)
		}), ErrAbsurd},
	} {
		if _, err := DecodeChange(Full, c.content); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", story, err, c.want)
		}
	}
}

func TestQuantisation(t *testing.T) {
	for _, p := range []float64{0, 1e-5, 0.001, 0.01, 0.3, 1, 2, math.NaN(), -1} {
		got, want := LossOf(QuantLoss(p)), min(max(p, 0), 1)
		if math.IsNaN(p) {
			want = 0
		}
		if got < want || got > want+0.01 {
			t.Errorf("loss %v travels as %v", p, got)
		}
	}
	for _, d := range []time.Duration{0, time.Microsecond, time.Millisecond, 33333 * time.Microsecond, 2 * time.Second, time.Hour, -1} {
		got, want := QuantDelay(d), min(max(d, 0), MaxDelay)
		if diff := (got - want).Abs(); diff > want/25+DelayUnit || got%DelayUnit != 0 && got != MaxDelay {
			t.Errorf("%v travels as %v", d, got)
		}
	}
	for _, v := range []float64{math.NaN(), -1, math.Inf(1), 0.5, 1e9} {
		if got := (Vitals{Load: v}).Rounded().Load; !(got >= 0 && got <= MaxLoad) {
			t.Errorf("load %v travels as %v", v, got)
		}
	}
}

func cardItem(t testing.TB, origin uint32, v Version) Item {
	return sealed(t, append(AppendHead(nil, Head{Kind: Card, Origin: origin, Version: v}), "content"...))
}

func rowItem(t testing.TB, origin uint32, v Version, base uint32) Item {
	h := Head{Kind: Full, Origin: origin, Version: v, Base: base}
	if base > 0 {
		h.Kind = Delta
	}
	return sealed(t, append(appendVitals(AppendHead(nil, h), Vitals{}), 0))
}

func TestJudgement(t *testing.T) {
	c := NewCore(1)
	for _, s := range []struct {
		story string
		it    Item
		want  Verdict
	}{
		{"a row before its card", rowItem(t, 2, Version{5, 2}, 0), Unknown},
		{"a card", cardItem(t, 2, Version{5, 1}), Fresh},
		{"again", cardItem(t, 2, Version{5, 1}), Duplicate},
		{"a delta before its full row", rowItem(t, 2, Version{5, 3}, 2), Gap},
		{"a full row", rowItem(t, 2, Version{5, 2}, 0), Fresh},
		{"its delta", rowItem(t, 2, Version{5, 4}, 2), Fresh},
		{"an earlier delta", rowItem(t, 2, Version{5, 3}, 2), Stale},
		{"a row of the next run", rowItem(t, 2, Version{6, 6}, 0), Unknown},
		{"the card of the next run", cardItem(t, 2, Version{6, 5}), Fresh},
		{"a row of the run before", rowItem(t, 2, Version{5, 9}, 0), Stale},
		{"the row of the next run", rowItem(t, 2, Version{6, 6}, 0), Fresh},
		{"a card of the run before", cardItem(t, 2, Version{5, 99}), Stale},
	} {
		if got := c.Judge(s.it.Head); got != s.want {
			t.Fatalf("%s: %v, want %v", s.story, got, s.want)
		}
		if c.Put(s.it, true) != (s.want == Fresh) {
			t.Fatalf("%s: Put disagrees with Judge", s.story)
		}
	}
	c.Drop(2)
	if c.Judge(cardItem(t, 2, Version{6, 4}).Head) != Stale || c.Judge(cardItem(t, 2, Version{6, 5}).Head) != Fresh {
		t.Error("of a departed node its last card counts, an older one does not")
	}
}

// Whatever is not an item is refused; whatever is one is taken apart the same way again.
func FuzzOpen(f *testing.F) {
	f.Add(cardItem(f, 1, Version{1, 1}).Sealed)
	f.Add(rowItem(f, 1, Version{1, 2}, 1).Sealed)
	f.Fuzz(func(t *testing.T, in []byte) {
		it, err := Open(in)
		if err != nil {
			return
		}
		again, err := Seal(it.Body, it.Certificate, it.Signature)
		if err != nil || !bytes.Equal(again.Sealed, in) {
			t.Fatalf("%x came back as %x, %v", in, again.Sealed, err)
		}
		if it.Kind == Card {
			return
		}
		ch, err := DecodeChange(it.Kind, it.Content)
		if err != nil {
			return
		}
		for _, l := range ch.Set {
			if l.Latency < 0 || l.Latency > MaxDelay || l.Jitter < 0 || l.Jitter > MaxDelay {
				t.Fatalf("absurd link accepted: %+v", l)
			}
		}
	})
}

// No message of a peer, however odd, breaks a core, makes it send more than it may, or is believed without Put.
func FuzzHandle(f *testing.F) {
	c := NewCore(1)
	for i := range uint32(30) {
		c.Put(cardItem(f, i+1, Version{1, 1}), true)
		c.Put(rowItem(f, i+1, Version{1, 2}, 0), true)
	}
	f.Add(c.digest())
	f.Add(appendSummary(header(kindWant, 2), summary{origin: 3}))
	f.Add(c.fresh()[0])
	f.Fuzz(func(t *testing.T, in []byte) {
		held := len(c.All())
		_, answer, _ := c.Handle(in)
		if len(answer) > answerMost+1 || len(c.All()) != held {
			t.Fatalf("%d packets in answer, %d items held of %d", len(answer), len(c.All()), held)
		}
		for _, p := range answer {
			if len(p.Message) > MaxMessage {
				t.Fatalf("an answer of %d bytes", len(p.Message))
			}
		}
	})
}
