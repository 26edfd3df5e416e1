package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"
)

// page writes one Ogg page.
func page(segments []byte, data string) []byte {
	b := make([]byte, 26, 64)
	copy(b, "OggS")
	b = append(b, byte(len(segments)))
	return append(append(b, segments...), data...)
}

// oggFile has one page of two packets, and a packet of 260 bytes over two pages.
func oggFile() []byte {
	long := string(bytes.Repeat([]byte{0x78}, 260)) // config 15, one frame of 20 ms
	return bytes.Join([][]byte{
		page([]byte{12}, "OpusHead1234"), page([]byte{9}, "OpusTags1"),
		page([]byte{3, 2}, "\x78aa\x78b"), page([]byte{255}, long[:255]), page([]byte{5}, long[255:]),
	}, nil)
}

func TestOggPackets(t *testing.T) {
	got, err := oggPackets(oggFile())
	if err != nil || len(got) != 3 || string(got[0]) != "\x78aa" || string(got[1]) != "\x78b" || len(got[2]) != 260 {
		t.Fatalf("%d packets %q (%v)", len(got), got, err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "cut": oggFile()[:100], "rubbish": []byte("hello"), "no headers": page([]byte{1}, "a")} {
		if _, err := oggPackets(bad); !errors.Is(err, errOgg) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpusSamples(t *testing.T) {
	for _, tc := range []struct {
		packet []byte
		want   uint32
	}{{nil, 0}, {[]byte{0x78}, 960}, {[]byte{0x79}, 1920}, {[]byte{0x7b, 3}, 2880}, {[]byte{0x7b}, 0}, {[]byte{0x00}, 480}, {[]byte{0x18}, 2880}, {[]byte{0x80}, 120}} {
		if got := opusSamples(tc.packet); got != tc.want {
			t.Errorf("%x: %d ticks, want %d", tc.packet, got, tc.want)
		}
	}
}

// ivfFile has n frames at 30/s, every fifth a keyframe.
func ivfFile(n int) []byte {
	b := make([]byte, 32)
	copy(b, "DKIF\x00\x00\x20\x00VP80")
	binary.LittleEndian.PutUint32(b[16:], 30)
	binary.LittleEndian.PutUint32(b[20:], 1)
	for i := range n {
		frame := bytes.Repeat([]byte{byte(i)}, 1500)
		frame[0] = 1
		if i%5 == 0 {
			frame[0] = 0
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
		b = binary.LittleEndian.AppendUint64(b, uint64(i))
		b = append(b, frame...)
	}
	return b
}

func TestClipLoopsAndRewindsToAKeyframe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clip, err := NewClip(bytes.NewReader(ivfFile(10)), bytes.NewReader(oggFile()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		keyframe := make(chan struct{}, 1)
		frames, keys, audio := 0, 0, 0
		var lastTS uint32
		err = clip.Run(ctx, keyframe, func(track int, p *rtp.Packet) error {
			if track == 1 {
				audio++
				return nil
			}
			if p.Marker {
				frames++
				if frames == 8 {
					keyframe <- struct{}{}
				}
			}
			if p.Payload[0]&0x10 != 0 && p.Payload[len(p.Payload)-1]%5 == 0 {
				keys++
			}
			if p.Timestamp < lastTS {
				t.Errorf("timestamp %d after %d", p.Timestamp, lastTS)
			}
			lastTS = p.Timestamp
			return nil
		})
		if err != nil || frames < 59 || frames > 61 || audio < 99 || audio > 101 || keys != 13 {
			t.Errorf("in 2 s: %d frames, %d of them keyframes, %d audio packets (%v); want 60, 13 (one by request) and 100", frames, keys, audio, err)
		}
	})
}

func TestNewClipRefuses(t *testing.T) {
	if _, err := NewClip(nil, nil); err == nil {
		t.Error("a clip of nothing")
	}
	if _, err := NewClip(bytes.NewReader([]byte("x")), nil); !errors.Is(err, errIVF) {
		t.Error(err)
	}
}

func TestSyntheticKeepsRateShapeAndStamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start, next := time.Now(), [2]uint64{}
		at := map[time.Duration]int{}
		err := Synthetic{Size: 1150, PerSec: 200, Burst: 4, AudioHz: 50}.Run(ctx, nil, func(track int, p *rtp.Packet) error {
			number, sent, ok := Stamp(p.Payload)
			if !ok || number != next[track] || !sent.Equal(time.Now()) || p.SequenceNumber != uint16(number) {
				t.Fatalf("track %d: stamp %d %v %v, want %d", track, number, sent, ok, next[track])
			}
			next[track]++
			if track == 0 {
				at[time.Since(start)]++
			}
			return nil
		})
		if err != nil || next[0] < 1996 || next[0] > 2004 || next[1] < 499 || next[1] > 501 {
			t.Errorf("%v packets in 10 s (%v), want 2000 and 500", next, err)
		}
		for when, n := range at {
			if n != 4 || when%(20*time.Millisecond) != 0 {
				t.Errorf("%d packets at %s, want bursts of 4 every 20 ms", n, when)
			}
		}
	})
}

func TestSyntheticEndsAfterCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		err := Synthetic{PerSec: 100, Count: 25}.Run(t.Context(), nil, func(int, *rtp.Packet) error { n++; return nil })
		if err != nil || n != 25 {
			t.Errorf("%d packets (%v), want 25", n, err)
		}
		if err := (Synthetic{PerSec: 1, Size: 3}).Run(t.Context(), nil, nil); err == nil {
			t.Error("a payload too short for its stamp")
		}
		if err := (Synthetic{}).Run(t.Context(), nil, nil); err == nil {
			t.Error("a source of nothing")
		}
	})
}

func TestRefusalsAreStatusErrors(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer tok" || r.Header.Get("Content-Type") != "application/sdp" {
			t.Errorf("headers %v", r.Header)
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	cfg := Config{URL: server.URL, Token: "tok", Source: Synthetic{PerSec: 1}}
	_, err1 := Publish(t.Context(), cfg)
	_, err2 := View(t.Context(), cfg)
	for _, err := range []error{err1, err2} {
		var refused *StatusError
		if !errors.As(err, &refused) || refused.Code != 503 || refused.RetryAfter != "7" {
			t.Errorf("%v, want a StatusError 503", err)
		}
	}
	if _, err := Publish(t.Context(), Config{URL: server.URL}); err == nil {
		t.Error("published nothing")
	}
}

func FuzzFiles(f *testing.F) {
	f.Add(oggFile())
	f.Add(ivfFile(3))
	f.Fuzz(func(t *testing.T, file []byte) {
		if packets, err := oggPackets(file); err == nil && len(packets) == 0 {
			t.Fatal("no packets and no error")
		}
		if frames, err := ivfFrames(file); err == nil && (len(frames) < 2 || !frames[0].key()) {
			t.Fatal("a clip that cannot loop")
		}
	})
}
