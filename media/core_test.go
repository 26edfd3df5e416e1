package media

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Law: whatever is asked when, two sendings of one track are an interval apart, and every request is followed by a
// sending within an interval.
func TestKeygateNeitherHurriesNorForgets(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var g keygate
		now := time.Unix(1000, 0)
		var lastSent time.Time
		var waitingSince time.Time
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(rt, "ms")) * time.Millisecond)
			if rapid.Bool().Draw(rt, "ask") {
				g.request(1 << 3)
				if waitingSince.IsZero() {
					waitingSince = now
				}
			}
			if !waitingSince.IsZero() {
				if wait, ok := g.next(now); !ok || wait > keyframeInterval {
					rt.Fatalf("a request waits, next says %s, %v", wait, ok)
				}
			}
			switch g.due(now) {
			case 0:
				if !waitingSince.IsZero() && now.Sub(waitingSince) >= keyframeInterval {
					rt.Fatalf("a request waits since %s", now.Sub(waitingSince))
				}
			case 1 << 3:
				if !lastSent.IsZero() && now.Sub(lastSent) < keyframeInterval {
					rt.Fatalf("sent again after %s", now.Sub(lastSent))
				}
				if waitingSince.IsZero() {
					rt.Fatal("sent without a request")
				}
				lastSent, waitingSince = now, time.Time{}
			default:
				rt.Fatal("sent for another track")
			}
		}
	})
}

func TestAskerStopsWhenTheTrackFlowsOrNobodyAnswers(t *testing.T) {
	now := time.Unix(1000, 0)
	var a asker
	a.expect(now, 1)
	sent := 0
	for range 100 {
		send, wait, again := a.step(now, 0, 0)
		if send != 0 {
			sent++
		}
		if !again {
			break
		}
		now = now.Add(max(wait, time.Millisecond))
	}
	if sent != keyframeTries {
		t.Errorf("%d repeats into silence, want %d", sent, keyframeTries)
	}
	a.expect(now, 1)
	if send, _, again := a.step(now.Add(time.Hour), 0, 1); send != 0 || again {
		t.Errorf("asks (%b) although the track flows", send)
	}
	if send, _, _ := a.step(now.Add(time.Hour), 1, 1); send != 1 {
		t.Error("a viewer's request is not sent because the track flows")
	}
}

func TestTracksMatchByMedia(t *testing.T) {
	v, o := av[0], av[1]
	h264 := Track{Kind: KindVideo, Mime: "video/H264", ClockRate: 90000}
	low := Track{Kind: KindVideo, Mime: "video/VP8", ClockRate: 90000, RID: "l"}
	upper := v
	upper.Mime, upper.Fmtp, upper.ID = "VIDEO/vp8", "x=1", "other"
	for _, c := range []struct {
		name            string
		viewers, source []Track
		want            []int8 // nil: no match
	}{
		{"same", []Track{v, o}, []Track{v, o}, []int8{0, 1}},
		{"swapped", []Track{v, o}, []Track{o, v}, []int8{1, 0}},
		{"one more", []Track{o}, []Track{v, o}, []int8{-1, 0}},
		{"two alike", []Track{v, v}, []Track{v, v}, []int8{0, 1}},
		{"one of two alike is gone", []Track{v, v}, []Track{v, o}, nil},
		{"other codec", []Track{v}, []Track{h264}, nil},
		{"other encoding", []Track{v}, []Track{low}, nil},
		{"case, fmtp and id do not matter", []Track{v}, []Track{upper}, []int8{0}},
	} {
		got, ok := matchTracks(c.viewers, c.source)
		if ok != (c.want != nil) || ok && string(bytesOf(got)) != string(bytesOf(c.want)) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, ok, c.want)
		}
	}
}

func bytesOf(in []int8) (out []byte) {
	for _, v := range in {
		out = append(out, byte(v))
	}
	return out
}

func TestBadNamesAndTracksAreRefusedWithAReason(t *testing.T) {
	for _, c := range []struct {
		want string
		err  error
	}{
		{"app is empty", checkKey(Key{"", "c", "s"})},
		{"channel has 129 bytes", checkKey(Key{"a", strings.Repeat("x", 129), "s"})},
		{"stream holds control", checkKey(Key{"a", "c", "s\n"})},
		{"stream holds control characters or is not UTF-8", checkKey(Key{"a", "c", "\xff"})},
		{"0 tracks", checkTracks(nil)},
		{"17 tracks", checkTracks(make([]Track, 17))},
		{`kind "smell"`, checkTracks([]Track{{Kind: "smell", Mime: "x"}})},
		{"mime is empty", checkTracks([]Track{{Kind: KindAudio}})},
		{"oversized", checkTracks([]Track{{Kind: KindAudio, Mime: "x", Fmtp: strings.Repeat("x", 513)}})},
		{"", checkKey(Key{"a", "c/d", "Bär"})},
		{"", checkTracks(av)},
	} {
		if c.want == "" && c.err != nil || c.want != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.want)) {
			t.Errorf("got %v, want %q", c.err, c.want)
		}
	}
	if _, err := New(Config{Self: "a"}); err == nil || !strings.Contains(err.Error(), "Config.Braid is missing") {
		t.Errorf("New without a braid: %v", err)
	}
}

func TestPacketIDsGoRoundAndAreNeverShared(t *testing.T) {
	pl := &peerLink{usedIDs: map[uint16]struct{}{}}
	first := pl.allocate()
	pl.release([]uint16{first})
	if again := pl.allocate(); again == first {
		t.Fatalf("id %d was given out again at once", again)
	}
	pl.nextID = 65535 - 2
	seen := map[uint16]bool{}
	for range maxIDsPerLink {
		id := pl.allocate()
		if seen[id] {
			t.Fatalf("id %d twice", id)
		}
		seen[id] = true
	}
}
