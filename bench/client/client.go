package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// maxAnswer bounds what a server may answer, in bytes.
const maxAnswer = 256 << 10

// silent keeps the library from telling standard error that a report at a session's end could not be sent.
var silent = &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}

// Config of one session. URL is the WHIP or WHEP endpoint.
type Config struct {
	URL   string
	Token string       // Bearer token, "" sends none
	HTTP  *http.Client // nil: http.DefaultClient

	// Source yields what is published; Publish only.
	Source Source

	// OnPacket gets every RTP packet, with its arrival; View only. Each track calls it
	// from a goroutine of its own. The packet is valid during the call.
	OnPacket func(kind string, packet *rtp.Packet, at time.Time)

	// Stay keeps the session where it is: it does not listen to the server's events, and a node that is drained ends it.
	Stay bool

	// Setting changes the engine's settings at last, for instance to put the client on
	// a virtual network; nil: loopback only.
	Setting func(*webrtc.SettingEngine)
}

// StatusError is a refusal by the server.
type StatusError struct {
	Code       int
	RetryAfter string // header, "" if there was none
	Body       string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answered %d: %.200s", e.Code, e.Body)
}

// Timing says how long the steps of a join took, from its beginning.
type Timing struct{ Answered, Connected time.Duration }

// leg is one connection to one node: a session of the server's. A session that moves has two for a while.
type leg struct {
	cfg      Config
	pc       *webrtc.PeerConnection
	number   uint32 // of the session's legs, from 0
	resource string // absolute URL of the server's session
	events   string // of its event stream, "" if it has none
	timing   Timing

	up, down chan struct{} // closed when connected, when failed or closed
	upOnce   sync.Once
	downOnce sync.Once
	cancel   context.CancelFunc // of the goroutines
	ctx      context.Context
	wg       sync.WaitGroup // Add only through spawn
	mu       sync.Mutex     // guards closed
	closed   bool
	once     sync.Once
	closeErr error
}

// newLeg makes the peer. Codecs are those that Tern passes.
func newLeg(cfg Config) (*leg, error) {
	if cfg.HTTP == nil {
		cfg.HTTP = http.DefaultClient
	}
	engine := new(webrtc.MediaEngine)
	if err := engine.RegisterDefaultCodecs(); err != nil {
		return nil, fmt.Errorf("register codecs: %w", err)
	}
	chain := new(interceptor.Registry)
	if err := errors.Join(configureRepair(engine, chain), webrtc.ConfigureRTCPReports(chain), webrtc.ConfigureTWCCSenderWithOptions(engine, chain, twcc.WithLoggerFactory(silent))); err != nil {
		return nil, fmt.Errorf("configure RTCP: %w", err)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(chain), webrtc.WithSettingEngine(settings(cfg)))
	pc, err := api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return nil, fmt.Errorf("make a peer connection: %w", err)
	}
	s := &leg{cfg: cfg, pc: pc, up: make(chan struct{}), down: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			s.upOnce.Do(func() { close(s.up) })
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			s.downOnce.Do(func() { close(s.down) })
		}
	})
	return s, nil
}

// configureRepair answers NACKs as a publisher. As a viewer, view.go asks: the library's NACKs know nothing of RTX.
func configureRepair(engine *webrtc.MediaEngine, chain *interceptor.Registry) error {
	answers, err := nack.NewResponderInterceptor(nack.WithResponderLoggerFactory(silent))
	if err != nil {
		return err
	}
	chain.Add(answers)
	engine.RegisterFeedback(webrtc.RTCPFeedback{Type: "nack"}, webrtc.RTPCodecTypeVideo)
	engine.RegisterFeedback(webrtc.RTCPFeedback{Type: "nack", Parameter: "pli"}, webrtc.RTPCodecTypeVideo)
	return nil
}

func settings(cfg Config) webrtc.SettingEngine {
	se := webrtc.SettingEngine{}
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	se.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	se.SetReceiveMTU(1600)
	if cfg.Setting != nil {
		cfg.Setting(&se)
	}
	return se
}

// join offers, posts, applies the answer and waits until media can flow.
func (s *leg) join(ctx context.Context) error {
	start := time.Now()
	offer, err := s.pc.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("create the offer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err := s.pc.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("apply the offer: %w", err)
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return fmt.Errorf("gather candidates: %w", ctx.Err())
	}
	answer, err := s.post(ctx, s.pc.LocalDescription().SDP)
	if err != nil {
		return err
	}
	s.timing.Answered = time.Since(start)
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return fmt.Errorf("apply the answer: %w", err)
	}
	select {
	case <-s.up:
		s.timing.Connected = time.Since(start)
		return nil
	case <-s.down:
		return errors.New("the peer connection failed")
	case <-ctx.Done():
		return fmt.Errorf("connect: %w", ctx.Err())
	}
}

// post sends the offer and returns the answer.
func (s *leg) post(ctx context.Context, offer string) (string, error) {
	res, err := s.do(ctx, http.MethodPost, s.cfg.URL, offer)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode != http.StatusCreated {
		return "", &StatusError{Code: res.StatusCode, RetryAfter: res.Header.Get("Retry-After"), Body: string(body)}
	}
	base, err := url.Parse(s.cfg.URL)
	if err != nil {
		return "", fmt.Errorf("parse the endpoint: %w", err)
	}
	at, err := base.Parse(res.Header.Get("Location"))
	if err != nil || res.Header.Get("Location") == "" {
		return "", fmt.Errorf("the answer names no session: Location %q", res.Header.Get("Location"))
	}
	s.resource, s.events = at.String(), eventsOf(base, res.Header.Values("Link"))
	return string(body), nil
}

func (s *leg) do(ctx context.Context, method, to, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/sdp")
	}
	if s.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.cfg.Token)
	}
	res, err := s.cfg.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return res, nil
}

// spawn starts f unless the leg is closed; end waits for it.
func (s *leg) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Go(f)
	}
}

// end says goodbye (DELETE), closes the peer and waits for every goroutine of the leg. It may be called more than once.
func (s *leg) end() error {
	s.once.Do(func() {
		s.cancel()
		if s.resource != "" {
			s.closeErr = s.delete()
		}
		_ = s.pc.Close() // ends the reads
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s.closeErr
}

func (s *leg) delete() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	res, err := s.do(ctx, http.MethodDelete, s.resource, "")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 && res.StatusCode != http.StatusNotFound {
		return &StatusError{Code: res.StatusCode}
	}
	return nil
}
