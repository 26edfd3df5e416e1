package access

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/ternmesh/tern/bench/client"
)

// cryptoOf reads a=crypto of a kind's section the way a client does.
func cryptoOf(t *testing.T, sdp, kind string) (name string, key []byte) {
	t.Helper()
	_, section, ok := strings.Cut(sdp, "m="+kind)
	if !ok {
		t.Fatalf("no %s in\n%s", kind, sdp)
	}
	_, line, ok := strings.Cut(section, "a=crypto:1 ")
	line, _, _ = strings.Cut(line, "\r\n")
	name, text, ok2 := strings.Cut(line, " inline:")
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || !ok2 || err != nil {
		t.Fatalf("no key for %s (%v) in\n%s", kind, err, sdp)
	}
	return name, key
}

// clientContext makes a client's state from what the SDP says.
func clientContext(t *testing.T, sdp, kind string, options ...srtp.ContextOption) *srtp.Context {
	t.Helper()
	name, key := cryptoOf(t, sdp, kind)
	s, err := suiteOf(name)
	if err != nil || len(key) != s.key+s.salt {
		t.Fatalf("%s with %d bytes (%v)", name, len(key), err)
	}
	c, err := srtp.CreateContext(key[:s.key], key[s.key:], s.profile, options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) rtpOut(body string) answer {
	w.t.Helper()
	return w.do("POST", "/v1/apps/open/channels/room/rtp/out", body, "Content-Type", typeJSON)
}

// receivers opens a pair of ports and says which.
func receivers(t *testing.T) (rtp, rtcp net.PacketConn, port int) {
	t.Helper()
	rtp, rtcp, err := listenPair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = rtp.Close(), rtcp.Close() })
	return rtp, rtcp, rtp.LocalAddr().(*net.UDPAddr).Port
}

func TestEverySuiteBothWays(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, nil)
			res := w.do("POST", "/v1/apps/open/channels/room/rtp", `{"srtp":"`+s.name+`","tracks":[{"kind":"video","codec":"VP8","payload_type":96}]}`, "Content-Type", typeJSON)
			if res.code != 201 || !strings.Contains(res.body, "RTP/SAVP 96") {
				t.Fatalf("%d %s", res.code, res.body)
			}
			conn, control, port := receivers(t)
			out := w.rtpOut(fmt.Sprintf(`{"srtp":%q,"ports":{"video":%d}}`, s.name, port))
			if out.code != 201 || portsOf(t, out.body)["video"] != port {
				t.Fatalf("%d %s", out.code, out.body)
			}
			send, enc, dec := dialUDP(t, portsOf(t, res.body)["video"]), clientContext(t, res.body, "video"), clientContext(t, out.body, "video")
			var last []byte
			for seq := range uint16(3) {
				b, err := enc.EncryptRTP(nil, rtpBytes(t, 96, seq, []byte(fmt.Sprintf("secret %d", seq))), nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = send.Write(b)
				last = b
			}
			buf := make([]byte, 2000)
			for seq := range 3 {
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				n, _, err := conn.ReadFrom(buf)
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(buf[:n], []byte("secret")) {
					t.Error("it travels in clear")
				}
				plain, err := dec.DecryptRTP(nil, buf[:n], nil)
				if err != nil || !bytes.HasSuffix(plain, []byte(fmt.Sprintf("secret %d", seq))) {
					t.Fatalf("packet %d: %q (%v)", seq, plain, err)
				}
			}
			w.dropsForgeries(send, last)
			_ = control.SetReadDeadline(time.Now().Add(patience))
			n, from, err := control.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := dec.DecryptRTCP(nil, buf[:n], nil)
			if err != nil {
				t.Fatal(err)
			}
			all, err := rtcp.Unmarshal(plain)
			if sr, ok := all[0].(*rtcp.SenderReport); err != nil || !ok || sr.PacketCount != 3 {
				t.Errorf("reported %+v (%v), want three packets", all, err)
			}
			asked := w.a.Stats().KeyframesAsked
			pli, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 7}, &rtcp.PictureLossIndication{SenderSSRC: 7, MediaSSRC: 1}})
			if err == nil {
				pli, err = clientContext(t, out.body, "video").EncryptRTCP(nil, pli, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, _ = control.WriteTo(pli, from)
			w.until("the request for a keyframe is heard", func() bool { return w.a.Stats().KeyframesAsked > asked })
		})
	}
}

// dropsForgeries sends a good packet again, then changed, then one in clear.
func (w *world) dropsForgeries(send net.Conn, good []byte) {
	w.t.Helper()
	before := w.a.Stats()
	_, _ = send.Write(good)
	good[len(good)-1] ^= 1
	_, _ = send.Write(good)
	_, _ = send.Write([]byte("\x80\x60\x00\x09\x00\x00\x00\x01\x00\x00\x00\x05in clear"))
	w.until("replay, forgery and clear text are dropped and counted", func() bool { return w.a.Stats().DropsIngest == before.DropsIngest+3 })
	if w.a.Stats().PacketsIn != before.PacketsIn {
		w.t.Error("one of them passed")
	}
}

func TestPlainIngestAnswersReportsAndHearsGoodbye(t *testing.T) {
	w := newWorld(t, nil)
	res := w.do("POST", "/v1/apps/open/channels/room/rtp", "")
	port := portsOf(t, res.body)["video"]
	media, control := dialUDP(t, port), dialUDP(t, port+1)
	for _, seq := range []uint16{10, 11, 13} { // one is lost
		_, _ = media.Write(rtpBytes(t, 96, seq, []byte("x")))
	}
	w.until("three packets", func() bool { return w.a.Stats().PacketsIn == 3 })
	say := func(p ...rtcp.Packet) {
		b, err := rtcp.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = control.Write(b)
	}
	say(&rtcp.SenderReport{SSRC: 5, NTPTime: 0x1122334455667788, RTPTime: 1, PacketCount: 4})
	buf := make([]byte, 2000)
	_ = control.SetReadDeadline(time.Now().Add(patience))
	n, err := control.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	all, err := rtcp.Unmarshal(buf[:n])
	if rr, ok := all[0].(*rtcp.ReceiverReport); err != nil || !ok || len(rr.Reports) != 1 || rr.Reports[0].TotalLost != 1 ||
		rr.Reports[0].FractionLost != 64 || rr.Reports[0].LastSequenceNumber != 13 || rr.Reports[0].LastSenderReport != 0x33445566 {
		t.Errorf("answered %+v (%v)", all, err)
	}
	out := w.rtpOut(`{"ports":{"video":` + fmt.Sprint(port+1000-port%2) + `}}`) // asks for a keyframe
	if out.code != 201 {
		t.Fatalf("%d %s", out.code, out.body)
	}
	n, err = control.Read(buf)
	if all, _ := rtcp.Unmarshal(buf[:n]); err != nil || !wantsKeyframe(buf[:n]) {
		t.Errorf("a viewer's wish reaches the sender as %+v (%v)", all, err)
	}
	say(&rtcp.Goodbye{Sources: []uint32{5}})
	w.until("the session ends", func() bool { return w.a.Stats().Ended[Event{kindRTP, "bye"}] == 1 })
}

func TestPlainIngestIsPinnedToItsSendersAddress(t *testing.T) {
	w := newWorld(t, nil)
	res := w.do("POST", "/v1/apps/open/channels/room/rtp", `{"source":"203.0.113.5"}`, "Content-Type", typeJSON)
	if res.code != 201 {
		t.Fatalf("%d %s", res.code, res.body)
	}
	conn := dialUDP(t, portsOf(t, res.body)["video"])
	w.until("a stranger's packets are dropped and counted", func() bool {
		_, _ = conn.Write(rtpBytes(t, 96, 1, []byte("x")))
		return w.a.Stats().DropsIngest > 3
	})
	if s := w.a.Stats(); s.PacketsIn != 0 {
		t.Errorf("%d passed", s.PacketsIn)
	}
}

func TestRTPRequestsThatAreRefusedSayWhatToDo(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/open/room?stream=cam", "", client.Synthetic{PerSec: 20})
	for _, tc := range []struct {
		path, body string
		code       int
		says       string
	}{
		{"rtp/out", `{"to":"203.0.113.5"}`, 403, "to the address that asks for it, 127.0.0.1"},
		{"rtp/out", `{"ports":{"video":80}}`, 400, "not an even port from 1024 on"},
		{"rtp/out", `{"ports":{"video":5005}}`, 400, "not an even port"},
		{"rtp/out", `{"ports":{"text":5004}}`, 400, "neither video nor audio"},
		{"rtp/out", `{"ports":{"video":6000,"audio":6000}}`, 400, "cannot share 6000"},
		{"rtp/out", `{"srtp":"NULL"}`, 400, "is none of AEAD_AES_128_GCM, AEAD_AES_256_GCM"},
		{"rtp/out", `{"key":"x"}`, 400, "unknown field"},
		{"rtp/out", `{"stream":"elsewhere"}`, 409, "nothing is live"},
		{"rtp", `{"srtp":"x"}`, 400, "is none of"},
		{"rtp", `{"source":"localhost"}`, 400, "is not an IP address"},
	} {
		res := w.do("POST", "/v1/apps/open/channels/room/"+tc.path, tc.body, "Content-Type", typeJSON)
		if res.code != tc.code || !strings.Contains(res.body, tc.says) {
			t.Errorf("%s %s: %d %s, want %d and %q", tc.path, tc.body, res.code, res.body, tc.code, tc.says)
		}
	}
	w.until("nothing is left open", func() bool { return w.ingests("open") == 0 })
}

func TestAReceiverThatIsGoneEndsItsSession(t *testing.T) {
	o := &rtpOut{s: &session{gone: make(chan struct{}), a: &Access{sessions: map[string]*session{}}}}
	now := time.Unix(1000, 0)
	at := func(d time.Duration) bool {
		o.failed(fmt.Errorf("write: %w", syscall.ECONNREFUSED), now.Add(d))
		return o.s.ended.Load()
	}
	for d := time.Duration(0); d < refusedFor; d += time.Second {
		if at(d) {
			t.Fatalf("ended after %s", d)
		}
	}
	if at(refusedFor-time.Second+refusedGap+time.Millisecond) || at(2*refusedFor) {
		t.Fatal("a pause in the refusals does not begin anew")
	}
	for d := 2 * refusedFor; d <= 3*refusedFor; d += time.Second {
		at(d)
	}
	if !o.s.ended.Load() {
		t.Error("15 s of refusals end nothing")
	}
}

func TestReceptionReports(t *testing.T) {
	var r reception
	now := time.Unix(1_700_000_000, 0)
	put := func(seq uint16, ts uint32, after time.Duration) {
		b, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: seq, Timestamp: ts, SSRC: 5}, Payload: []byte{1}}).Marshal()
		r.packet(b, now.Add(after), 90000)
	}
	put(65534, 0, 0)
	put(65535, 900, 10*time.Millisecond)
	put(1, 2700, 30*time.Millisecond) // 0 is lost, the number wraps
	got := r.report(now)
	if got.TotalLost != 1 || got.FractionLost != 64 || got.LastSequenceNumber != 1<<16+1 || got.Jitter != 0 {
		t.Errorf("%+v", got)
	}
	put(0, 1800, 31*time.Millisecond) // late, after all
	if got = r.report(now); got.TotalLost != 0 || got.FractionLost != 0 || got.Jitter == 0 {
		t.Errorf("%+v", got)
	}
	if got := ntp(time.Unix(0, 5e8)); got != 2208988800<<32|1<<31 {
		t.Errorf("half a second after 1970 is %x", got)
	}
}

// tool starts one of the real programs; the test fails with what it said.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed; CI must have it", name)
		}
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(path, args...)
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s %s\n%s", name, strings.Join(args, " "), out)
		}
	})
}

// gstCipher is what GStreamer calls a suite.
func gstCipher(name string) (cipher, auth, control string) {
	switch name {
	case "AEAD_AES_128_GCM":
		return "aes-128-gcm", "null", "null"
	case "AEAD_AES_256_GCM":
		return "aes-256-gcm", "null", "null"
	case "AES_256_CM_HMAC_SHA1_80":
		return "aes-256-icm", "hmac-sha1-80", "hmac-sha1-80"
	case "AES_CM_128_HMAC_SHA1_32":
		return "aes-128-icm", "hmac-sha1-32", "hmac-sha1-80"
	}
	return "aes-128-icm", "hmac-sha1-80", "hmac-sha1-80"
}

// GStreamer sends into the mesh and takes out of it, by every suite at once in turn.
func TestGStreamerSendsAndReceivesSRTP(t *testing.T) {
	t.Parallel() // mostly waits
	if testing.Short() {
		t.Skip("starts GStreamer")
	}
	// Its first start on a machine looks at all plugins, which may take longer than an ingest waits for a first packet.
	_ = exec.Command("gst-launch-1.0", "-q", "videotestsrc", "num-buffers=1", "!", "vp8enc", "!", "fakesink").Run()
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, nil)
			res := w.do("POST", "/v1/apps/open/channels/room/rtp", `{"srtp":"`+s.name+`","tracks":[{"kind":"video","codec":"VP8","payload_type":96}]}`, "Content-Type", typeJSON)
			if res.code != 201 {
				t.Fatalf("%d %s", res.code, res.body)
			}
			_, key := cryptoOf(t, res.body, "video")
			cipher, auth, control := gstCipher(s.name)
			tool(t, "gst-launch-1.0", strings.Fields(fmt.Sprintf("-q videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=25/1 ! vp8enc deadline=1 keyframe-max-dist=10 ! rtpvp8pay pt=96 mtu=1200 ! "+
				"srtpenc key=%x rtp-cipher=%s rtp-auth=%s rtcp-cipher=%s rtcp-auth=%s ! udpsink host=127.0.0.1 port=%d", key, cipher, auth, cipher, control, portsOf(t, res.body)["video"]))...)
			w.until("GStreamer's packets are decrypted", func() bool { return w.a.Stats().PacketsIn > 10 })

			port := freePair(t)
			out := w.rtpOut(fmt.Sprintf(`{"srtp":%q,"ports":{"video":%d}}`, s.name, port))
			if out.code != 201 {
				t.Fatalf("%d %s", out.code, out.body)
			}
			_, key = cryptoOf(t, out.body, "video")
			_, ssrc, _ := strings.Cut(out.body, "a=ssrc:")
			ssrc, _, _ = strings.Cut(ssrc, " ")
			frames := filepath.Join(t.TempDir(), "frames")
			caps := fmt.Sprintf("application/x-srtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000,ssrc=(uint)%s,roc=(uint)0,srtp-key=(buffer)%x,srtp-cipher=%s,srtp-auth=%s,srtcp-cipher=%s,srtcp-auth=%s",
				ssrc, key, cipher, auth, cipher, control)
			tool(t, "gst-launch-1.0", "-q", "udpsrc", fmt.Sprintf("port=%d", port), "caps="+caps, "!", "srtpdec", "!", "rtpvp8depay", "!", "vp8dec", "!", "filesink", "buffer-mode=unbuffered", "location="+frames)
			w.until("GStreamer has decoded five frames", func() bool {
				info, err := os.Stat(frames)
				return err == nil && info.Size() >= 5*160*120*3/2
			})
		})
	}
}

// ffmpeg knows two of the suites; it reads the SDP of an egress as it is.
func TestFfmpegSendsAndReceives(t *testing.T) {
	t.Parallel() // mostly waits
	if testing.Short() {
		t.Skip("starts ffmpeg")
	}
	warmFfmpeg()
	for _, suite := range []string{"", "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"} {
		t.Run("suite "+suite, func(t *testing.T) {
			w := newWorld(t, nil)
			res := w.do("POST", "/v1/apps/open/channels/room/rtp", fmt.Sprintf(`{"srtp":%q}`, suite), "Content-Type", typeJSON)
			if res.code != 201 {
				t.Fatalf("%d %s", res.code, res.body)
			}
			ports := portsOf(t, res.body)
			args := strings.Fields("-nostdin -loglevel warning -re -f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine")
			for i, kind := range []string{"video", "audio"} {
				args = append(args, strings.Fields([]string{"-map 0 -c:v libvpx -deadline realtime -g 10 -payload_type 96", "-map 1 -c:a libopus -ac 2 -payload_type 111"}[i])...)
				scheme := "rtp"
				if suite != "" {
					_, key := cryptoOf(t, res.body, kind)
					scheme = "srtp"
					args = append(args, "-srtp_out_suite", suite, "-srtp_out_params", base64.StdEncoding.EncodeToString(key))
				}
				args = append(args, "-f", "rtp", fmt.Sprintf("%s://127.0.0.1:%d?pkt_size=1200", scheme, ports[kind]))
			}
			tool(t, "ffmpeg", args...)
			w.until("ffmpeg's packets are in", func() bool { return w.a.Stats().PacketsIn > 20 })

			out := w.rtpOut(fmt.Sprintf(`{"srtp":%q,"ports":{"video":%d,"audio":%d}}`, suite, freePair(t), freePair(t)))
			if out.code != 201 {
				t.Fatalf("%d %s", out.code, out.body)
			}
			dir := t.TempDir()
			file, frames := filepath.Join(dir, "file.sdp"), filepath.Join(dir, "frames")
			if err := os.WriteFile(file, []byte(out.body), 0o600); err != nil {
				t.Fatal(err)
			}
			tool(t, "ffmpeg", "-nostdin", "-loglevel", "warning", "-protocol_whitelist", "file,udp,rtp,srtp,crypto", "-i", file,
				"-map", "0:v", "-f", "rawvideo", "-flush_packets", "1", frames)
			w.until("ffmpeg has decoded five frames", func() bool {
				info, err := os.Stat(frames)
				return err == nil && info.Size() >= 5*160*120*3/2
			})
		})
	}
}

// nextPair begins anywhere, so that two runs at once do not meet.
var nextPair = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32N(5000))
	return n
}()

// freePair is an even port that is free now, with the next. They are none that the system gives to who asks for any, so that
// nobody takes them before the program that shall have them.
func freePair(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + 2*int(nextPair.Add(1)%5000)
		rtp, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		rtcp, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = rtp.Close()
		if err == nil {
			_ = rtcp.Close()
			return port
		}
	}
	t.Fatal("no pair of ports")
	return 0
}
