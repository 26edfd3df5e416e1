package conformance

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

const (
	typeSDP  = "application/sdp"
	typeFrag = "application/trickle-ice-sdpfrag"
	maxBody  = 1 << 20 // of an answer; longer ones are cut
)

// client is one check's: what it opened is closed with it.
type client struct {
	cfg      Config
	peers    []*webrtc.PeerConnection
	sessions []string // URLs to delete
}

// answer is an HTTP answer with its body read.
type answer struct {
	*http.Response
	body string
}

// expect is an error unless the status is one of these.
func (a answer) expect(codes ...int) error {
	for _, c := range codes {
		if a.StatusCode == c {
			return nil
		}
	}
	return fmt.Errorf("answered %s, want %s", a.Status, strings.Trim(strings.ReplaceAll(fmt.Sprint(codes), " ", " or "), "[]"))
}

// refused is an error unless the status is a client error.
func (a answer) refused() error {
	if a.StatusCode < 400 || a.StatusCode > 499 {
		return fmt.Errorf("answered %s, want 4xx", a.Status)
	}
	return nil
}

// do sends a request with pairs of headers; "" as a value takes a header out.
func (c *client) do(ctx context.Context, method, to, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i+1] == "" {
			req.Header.Del(header[i])
		}
	}
	res, err := c.cfg.Client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	return answer{res, string(b)}, err
}

// close ends what the check opened; servers that cannot be told forget it by themselves.
func (c *client) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, s := range c.sessions {
		_, _ = c.do(ctx, http.MethodDelete, s, "")
	}
	for _, p := range c.peers {
		_ = p.Close()
	}
}

// kinds and directions of offers.
var (
	video, audio = webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio
	send, recv   = webrtc.RTPTransceiverDirectionSendonly, webrtc.RTPTransceiverDirectionRecvonly
)

// peer makes a connection with one section for each kind.
func (c *client) peer(direction webrtc.RTPTransceiverDirection, kinds ...webrtc.RTPCodecType) (*webrtc.PeerConnection, error) {
	engine := new(webrtc.MediaEngine)
	if err := engine.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	se := webrtc.SettingEngine{}
	se.SetIncludeLoopbackCandidate(true)
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(se)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	c.peers = append(c.peers, pc)
	for _, k := range kinds {
		if _, err := pc.AddTransceiverFromKind(k, webrtc.RTPTransceiverInit{Direction: direction}); err != nil {
			return nil, err
		}
	}
	return pc, nil
}

// offer completes a connection's offer, with its candidates.
func offer(ctx context.Context, pc *webrtc.PeerConnection, o *webrtc.OfferOptions) (string, error) {
	d, err := pc.CreateOffer(o)
	if err != nil {
		return "", err
	}
	done := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		return "", err
	}
	select {
	case <-done:
		return pc.LocalDescription().SDP, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// session is one that the server opened.
type session struct {
	answer
	pc    *webrtc.PeerConnection
	url   string
	offer string
}

// post offers what the protocol offers and demands 201.
func (c *client) post(ctx context.Context, header ...string) (*session, error) {
	direction := send
	if c.cfg.Protocol == WHEP {
		direction = recv
	}
	pc, err := c.peer(direction, video, audio)
	if err != nil {
		return nil, err
	}
	text, err := offer(ctx, pc, nil)
	if err != nil {
		return nil, err
	}
	if header == nil {
		header = []string{"Content-Type", typeSDP}
	}
	a, err := c.do(ctx, http.MethodPost, c.cfg.URL, text, header...)
	if err != nil {
		return nil, err
	}
	if err := a.expect(http.StatusCreated); err != nil {
		return nil, fmt.Errorf("POST of an offer: %w: %.200s", err, a.body)
	}
	s := &session{answer: a, pc: pc, offer: text}
	if s.url, err = resolve(c.cfg.URL, a.Header.Get("Location")); err == nil {
		c.sessions = append(c.sessions, s.url)
	}
	return s, err
}

// resolve makes Location absolute.
func resolve(base, location string) (string, error) {
	if location == "" {
		return "", fmt.Errorf("there is no Location header")
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	u, err := b.Parse(location)
	if err != nil {
		return "", fmt.Errorf("location %q is not a URL", location)
	}
	return u.String(), nil
}

// parse reads an answer's SDP.
func parse(text string) (*sdp.SessionDescription, error) {
	d := new(sdp.SessionDescription)
	if err := d.UnmarshalString(text); err != nil {
		return nil, fmt.Errorf("the body is not SDP: %w", err)
	}
	return d, nil
}

// described is the answer to a new session's offer.
func (c *client) described(ctx context.Context) (*sdp.SessionDescription, error) {
	s, err := c.post(ctx)
	if err != nil {
		return nil, err
	}
	return parse(s.body)
}

// attribute looks in a section, then at the session.
func attribute(d *sdp.SessionDescription, m *sdp.MediaDescription, key string) (string, bool) {
	if v, ok := m.Attribute(key); ok {
		return v, true
	}
	return d.Attribute(key)
}

// restarted is the fragment of an ICE restart of a session: other credentials.
func (s *session) restarted(ctx context.Context) (string, error) {
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: s.body}); err != nil {
		return "", fmt.Errorf("the answer cannot be applied: %w", err)
	}
	text, err := offer(ctx, s.pc, &webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return "", err
	}
	return fragment(text), nil
}

// fragment keeps what trickle ICE sends of an offer: credentials and candidates of the
// first section.
func fragment(text string) string {
	var out strings.Builder
	sections := 0
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if strings.HasPrefix(line, "m=") {
			if sections++; sections > 1 {
				break
			}
			out.WriteString(line + "\r\n")
		}
		for _, keep := range []string{"a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates"} {
			if strings.HasPrefix(line, keep) {
				out.WriteString(line + "\r\n")
			}
		}
	}
	return out.String()
}

// connect applies the answer and waits until media can flow.
func (s *session) connect(ctx context.Context) error {
	up := make(chan struct{})
	s.pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateConnected {
			close(up)
		}
	})
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: s.body}); err != nil {
		return fmt.Errorf("the answer cannot be applied: %w", err)
	}
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("ICE and DTLS are not up: %s", s.pc.ConnectionState())
	}
}
