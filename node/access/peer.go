package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/sdp/v3"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

const (
	// maxPacket is the longest RTP packet that passes.
	maxPacket = 1500
	// packetBuffer leaves room to notice a longer one.
	packetBuffer = maxPacket + 100

	iceDisconnected = 5 * time.Second  // silence until a peer counts as disconnected
	iceFailed       = 10 * time.Second // and from then until its session ends
	iceKeepalive    = 2 * time.Second
	gatherFor       = 2 * time.Second
)

// peerMaker makes the PeerConnections of all sessions. Its certificate is shared,
// since making one costs more than the rest of a join, and renewed weekly.
type peerMaker struct {
	conn      *clientPort
	advertise []netip.AddrPort
	filter    Filter // may be nil
	log       pionLog
	now       func() time.Time
	tcp       net.Listener // may be nil
	lite      bool

	mu   sync.Mutex // guards the rest
	cert *webrtc.Certificate
	made time.Time
	se   *webrtc.SettingEngine // nil unless running
	mux  *portMux

	tcpMux ice.TCPMux // nil: UDP alone
}

func newPeerMaker(cfg Config) (*peerMaker, error) {
	p := &peerMaker{conn: newClientPort(cfg.UDP), advertise: cfg.UDPAdvertise, filter: cfg.Filter, log: pionLog{cfg.Logger, "webrtc"}, now: time.Now, tcp: cfg.TCP, lite: cfg.Lite}
	_, err := p.certificate()
	return p, err
}

// certificate returns the shared DTLS certificate. Sessions keep the one they began
// with, so renewing it disturbs nobody. Called with mu held, or before sharing.
func (p *peerMaker) certificate() (webrtc.Certificate, error) {
	if now := p.now(); p.cert == nil || now.Sub(p.made) > certificates {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return webrtc.Certificate{}, fmt.Errorf("make a DTLS key: %w", err)
		}
		cert, err := webrtc.GenerateCertificate(key)
		if err != nil {
			return webrtc.Certificate{}, fmt.Errorf("make a DTLS certificate: %w", err)
		}
		p.cert, p.made = cert, now
	}
	return *p.cert, nil
}

// start opens the port's mux, which reads from then on.
func (p *peerMaker) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mux = newPortMux(p.conn, p.advertise, p.log)
	if p.tcp != nil {
		p.tcpMux = webrtc.NewICETCPMux(p.log.NewLogger("tcp"), p.tcp, tcpQueue)
	}
	p.se = p.settings()
}

// stop closes the mux and the port.
func (p *peerMaker) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.se = nil
	_ = p.mux.Close() // the port is gone either way
	if p.tcpMux != nil {
		_ = p.tcpMux.Close()
	}
}

// settings are those of every session.
func (p *peerMaker) settings() *webrtc.SettingEngine {
	se := &webrtc.SettingEngine{LoggerFactory: p.log}
	se.SetICEUDPMux(p.mux)
	se.SetIncludeLoopbackCandidate(true) // only what Config advertises is a candidate anyway
	types := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if p.tcpMux != nil {
		types = append(types, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
		se.SetICETCPMux(p.tcpMux)
		se.DisableActiveTCP(true)
		se.SetIPFilter(p.accepts)
	}
	se.SetNetworkTypes(types)
	se.SetLite(p.lite)
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	se.SetICETimeouts(iceDisconnected, iceFailed, iceKeepalive)
	se.SetReceiveMTU(packetBuffer)
	// AEAD first: a third of the cost of the profile that must be there.
	se.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	_ = se.SetAnsweringDTLSRole(webrtc.DTLSRoleServer) // fails for other values only
	if n, err := stdnet.NewNet(); err == nil {
		se.SetNet(n) // shared: each peer would list the interfaces for itself
	}
	return se
}

// tcpQueue is how many packets wait for a client's TCP connection to be read.
const tcpQueue = 64

// accepts keeps TCP candidates to the addresses at which connections can arrive; see translated for those that clients
// are told.
func (p *peerMaker) accepts(ip net.IP) bool {
	at, ok := p.tcp.Addr().(*net.TCPAddr)
	return !ok || at.IP.IsUnspecified() || at.IP.Equal(ip)
}

// make builds a PeerConnection for s that knows exactly the given codecs.
func (p *peerMaker) make(s *session, publisher bool, codecs []codec) (*webrtc.PeerConnection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.se == nil {
		return nil, errors.New("not running")
	}
	cert, err := p.certificate()
	if err != nil {
		return nil, err
	}
	engine, err := newEngine(publisher, publisher || s.viewer.layered(), codecs)
	if err != nil {
		return nil, err
	}
	chain, err := newChain(publisher, p.log)
	if err != nil {
		return nil, err
	}
	se := *p.se
	p.filtered(s, &se)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(chain), webrtc.WithSettingEngine(se))
	s.renew = p.renewal(api)
	return api.NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{cert}, BundlePolicy: webrtc.BundlePolicyMaxBundle})
}

// newEngine registers codecs, feedback and the header extensions that are ours to read or, of viewers, to write. wide is
// transport-wide feedback: ten reports a second, a third of what the node spends on a viewer, and so for those alone whose
// stream gives a choice.
func newEngine(publisher, wide bool, codecs []codec) (*webrtc.MediaEngine, error) {
	m := new(webrtc.MediaEngine)
	for _, c := range codecs {
		var feedback []webrtc.RTCPFeedback
		if c.codecType() == webrtc.RTPCodecTypeVideo {
			feedback = []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
		}
		if wide {
			feedback = append(feedback, webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC})
		}
		feedback = append(feedback, webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBGoogREMB})
		for _, p := range c.parameters(feedback) {
			if err := m.RegisterCodec(p, c.codecType()); err != nil {
				return nil, fmt.Errorf("register codec %s: %w", c.mime, err)
			}
		}
	}
	var extensions []string
	if wide {
		extensions = append(extensions, sdp.TransportCCURI)
	}
	if publisher {
		extensions = append(extensions, sdp.SDESMidURI, sdp.SDESRTPStreamIDURI, sdp.SDESRepairRTPStreamIDURI)
	}
	for _, uri := range extensions {
		for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
			if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind); err != nil {
				return nil, fmt.Errorf("register extension %s: %w", uri, err)
			}
		}
	}
	return m, nil
}

// newChain makes the RTCP machinery towards a publisher: receiver reports and transport-wide
// feedback. publisher.go asks for what is missing: the library's NACKs know nothing of RTX.
func newChain(publisher bool, log pionLog) (*interceptor.Registry, error) {
	chain := new(interceptor.Registry)
	if !publisher {
		return chain, nil // viewer.go reports and repairs
	}
	reports, err1 := report.NewReceiverInterceptor(report.WithReceiverLoggerFactory(log))
	feedback, err2 := twcc.NewSenderInterceptor(twcc.WithLoggerFactory(log))
	chain.Add(reports)
	chain.Add(feedback)
	return chain, errors.Join(err1, err2)
}

// answerOffer applies a client's SDP and returns our answer with all candidates.
func (p *peerMaker) answerOffer(ctx context.Context, pc *webrtc.PeerConnection, offer string) (string, error) {
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", fmt.Errorf("apply the offer: %w", err)
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("create the answer: %w", err)
	}
	return p.settle(ctx, pc, answer)
}

// errSlow is an answer that was not ready in time: the machine is busy, and the offer may be a good one.
var errSlow = errors.New("busy")

// settle makes a description ours and waits until its candidates are complete.
func (p *peerMaker) settle(ctx context.Context, pc *webrtc.PeerConnection, d webrtc.SessionDescription) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gatherFor)
	defer cancel()
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		return "", fmt.Errorf("apply our own description: %w", err)
	}
	select {
	case <-gathered:
		return candidatesWhereTheyCount(pc.LocalDescription().SDP, p.advertise)
	case <-ctx.Done():
		return "", fmt.Errorf("%w: gather candidates: %w", errSlow, ctx.Err())
	}
}
