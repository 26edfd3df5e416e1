package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/node/access/token"
)

// soloHub is a real media hub of a mesh of one node.
func soloHub(t testing.TB, ctx context.Context) *media.Hub {
	t.Helper()
	var hub *media.Hub
	hub, err := media.New(media.Config{
		Self: "solo", Braid: nobody{},
		Peers:  func(string) []string { return []string{"solo"} },
		NodeID: func(string) (braid.NodeID, bool) { return 1, true },
		Name:   func(braid.NodeID) (string, bool) { return "solo", true },
		Fence:  func(app string) (braid.FenceID, bool) { return 7, app != "fenced" },
		Call: func(ctx context.Context, _ string, request []byte) ([]byte, error) {
			return hub.ServeDirectory(ctx, "solo", request), nil
		},
		Load: func() float64 { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	runInBackground(t, ctx, hub.Run)
	return hub
}

type nobody struct{}

func (nobody) Session(context.Context, braid.NodeID, braid.FenceID) (media.Link, error) {
	return nil, errors.New("no peers")
}

// runInBackground runs until the test ends, and waits for the end.
func runInBackground(t testing.TB, ctx context.Context, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not return")
		}
	})
}

// world is one node's client edge with its HTTP server.
type world struct {
	filter *ebpf.Filter
	t      testing.TB
	a      *Access
	http   *httptest.Server
	log    *lockedBuffer
	mu     sync.Mutex
	apps   map[string]App
	skew   atomic.Int64 // nanoseconds added to the clock
	drain  atomic.Bool
	cancel context.CancelFunc
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func listenUDP(t testing.TB) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// filterOf is the packet filter's twin in front of a socket: every test runs behind it.
func filterOf(t testing.TB, udp net.PacketConn) *ebpf.Filter {
	t.Helper()
	f, err := ebpf.New(ebpf.Config{
		Mode: ebpf.ModeGo, AccessPort: udp.LocalAddr().(*net.UDPAddr).AddrPort().Port(), GuardAccess: true,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, log: new(lockedBuffer), apps: map[string]App{
		"demo":   {App: token.App{ID: "demo", Auth: token.AuthToken, Certificates: []string{"first-secret", "second-secret"}}},
		"open":   {App: token.App{ID: "open", Auth: token.AuthAppID}},
		"fenced": {App: token.App{ID: "fenced", Auth: token.AuthAppID}},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	t.Cleanup(cancel)
	udp := listenUDP(t)
	w.filter = filterOf(t, udp)
	cfg := Config{
		Hub: soloHub(t, context.Background()), Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		App: func(id string) (App, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			app, ok := w.apps[id]
			return app, ok
		},
		Filter: w.filter, UDP: w.filter.WrapPacketConn(udp, udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()), UDPAdvertise: []netip.AddrPort{udp.LocalAddr().(*net.UDPAddr).AddrPort()},
		ListenRTP: listenPair,
		RTPHost:   netip.MustParseAddr("127.0.0.1"),
		Draining:  w.drain.Load,
		Now:       func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) },
		JoinRate:  1e6, JoinBurst: 1e6,
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.a, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	w.http = httptest.NewServer(w.a.Handler())
	t.Cleanup(w.http.Close)
	runInBackground(t, ctx, w.a.Run)
	w.until("Run has begun", func() bool {
		w.a.mu.Lock()
		defer w.a.mu.Unlock()
		return w.a.running
	})
	return w
}

// patience is for what never comes, not for what a busy machine delays.
const patience = time.Minute

// until waits for a condition, polling; the test fails when patience is over.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("still waiting: %s\nstats %+v\nlog:\n%s", what, w.a.Stats(), w.log)
		}
	}
}

// token makes a token of app demo for a channel.
func (w *world) token(channel string, ttl time.Duration, can ...string) string {
	w.t.Helper()
	tok, err := token.Create(token.CreateOptions{Format: token.FormatJWT, App: "demo", Certificate: "first-secret",
		Channel: channel, User: "somebody-secret", Now: time.Now(), TTL: ttl, Can: can})
	if err != nil {
		w.t.Fatal(err)
	}
	return tok
}

func (w *world) publisherToken(channel string) string {
	return w.token(channel, time.Hour, token.CanPublishAudio, token.CanPublishVideo)
}

func (w *world) viewerToken(channel string) string {
	return w.token(channel, time.Hour, token.CanSubscribe)
}

// answer is an HTTP answer with its body read.
type answer struct {
	code   int
	header http.Header
	body   string
}

// direct is a client that shows redirects instead of following them.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// do sends a request; header holds pairs.
func (w *world) do(method, path, body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.http.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := direct.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

func (w *world) post(path, tok, sdp string) answer {
	w.t.Helper()
	return w.do("POST", path, sdp, "Content-Type", typeSDP, "Authorization", "Bearer "+tok)
}

// peer is a bare client peer connection for tests that speak HTTP by hand.
func peer(t testing.TB) *webrtc.PeerConnection {
	t.Helper()
	engine := new(webrtc.MediaEngine)
	if err := engine.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	se := webrtc.SettingEngine{}
	se.SetIncludeLoopbackCandidate(true)
	se.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(se)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	return pc
}

// offerOf makes a complete offer with one section for each kind.
func offerOf(t testing.TB, pc *webrtc.PeerConnection, direction webrtc.RTPTransceiverDirection, kinds ...webrtc.RTPCodecType) string {
	t.Helper()
	for _, k := range kinds {
		if _, err := pc.AddTransceiverFromKind(k, webrtc.RTPTransceiverInit{Direction: direction}); err != nil {
			t.Fatal(err)
		}
	}
	return gathered(t, pc, nil)
}

func gathered(t testing.TB, pc *webrtc.PeerConnection, o *webrtc.OfferOptions) string {
	t.Helper()
	offer, err := pc.CreateOffer(o)
	if err != nil {
		t.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-done
	return pc.LocalDescription().SDP
}

const (
	sendonly = webrtc.RTPTransceiverDirectionSendonly
	recvonly = webrtc.RTPTransceiverDirectionRecvonly
	videoT   = webrtc.RTPCodecTypeVideo
	audioT   = webrtc.RTPCodecTypeAudio
)

// publish starts a synthetic publisher.
func (w *world) publish(path, tok string, source client.Source) *client.Publisher {
	w.t.Helper()
	return w.publisher(client.Config{URL: path, Token: tok, Source: source})
}

// publisher starts one with a configuration whose URL is a path.
func (w *world) publisher(config client.Config) *client.Publisher {
	w.t.Helper()
	config.URL = w.http.URL + config.URL
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, err := client.Publish(ctx, config)
	if err != nil {
		w.t.Fatalf("publish: %v\nlog:\n%s", err, w.log)
	}
	w.t.Cleanup(func() { _ = p.Close() })
	return p
}

func (w *world) view(path, tok string, config client.Config) *client.Viewer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config.URL, config.Token = w.http.URL+path, tok
	v, err := client.View(ctx, config)
	if err != nil {
		w.t.Fatalf("view: %v\nlog:\n%s", err, w.log)
	}
	w.t.Cleanup(func() { _ = v.Close() })
	return v
}

// listenPair opens an even port and the next one.
func listenPair(context.Context) (rtp, rtcp net.PacketConn, err error) {
	for range 100 {
		if rtp, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		port := rtp.LocalAddr().(*net.UDPAddr).Port
		if port%2 == 0 {
			if rtcp, err = net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port+1)); err == nil {
				return rtp, rtcp, nil
			}
		}
		_ = rtp.Close()
	}
	return nil, nil, errors.New("no pair of ports")
}
