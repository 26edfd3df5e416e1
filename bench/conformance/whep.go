package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pion/webrtc/v4"
)

// whepChecks are those of draft-ietf-wish-whep, with what it shares with WHIP.
var whepChecks = append([]check{
	{"answer-sendonly", Must, "the answer sends what is asked for", "WHEP 4.2", answersDirection("sendonly")},
	{"media", Must, "packets arrive", "WHEP 4.1", media},
	{"head", Should, "HEAD of the endpoint says 200 and application/sdp", "WHEP 4.3", func(ctx context.Context, c *client) error {
		a, err := c.do(ctx, http.MethodHead, c.cfg.URL, "")
		switch {
		case err != nil:
			return err
		case a.expect(200) != nil:
			return a.expect(200)
		case !strings.HasPrefix(a.Header.Get("Content-Type"), typeSDP):
			return fmt.Errorf("Content-Type is %q", a.Header.Get("Content-Type"))
		}
		return nil
	}},
	{"counter-offer", May, "an offer that cannot be answered gets 406 with an offer, and its answer by PATCH 204", "WHEP 4.2", counterOffer},
	{"not-live", Should, "where nothing is live, 404 or 409, the latter with Retry-After", "WHEP 4.2", notLive},
}, common...)

func media(ctx context.Context, c *client) error {
	s, err := c.post(ctx)
	if err != nil {
		return err
	}
	first := make(chan struct{}, 8)
	s.pc.OnTrack(func(*webrtc.TrackRemote, *webrtc.RTPReceiver) { first <- struct{}{} })
	if err := s.connect(ctx); err != nil {
		return err
	}
	select {
	case <-first:
		return nil
	case <-ctx.Done():
		return errors.New("no packet came: is something live behind this URL?")
	}
}

// counterOffer asks for audio in a codec that nobody sends.
func counterOffer(ctx context.Context, c *client) error {
	pc, err := c.peer(recv, video, audio)
	if err != nil {
		return err
	}
	text, err := offer(ctx, pc, nil)
	if err != nil {
		return err
	}
	odd := strings.NewReplacer("VP8/90000", "X1/90000", "VP9/90000", "X2/90000", "H264/90000", "X3/90000", "AV1/90000", "X4/90000", "H265/90000", "X5/90000").Replace(text)
	a, err := c.do(ctx, http.MethodPost, c.cfg.URL, odd, "Content-Type", typeSDP)
	switch {
	case err != nil:
		return err
	case a.StatusCode != http.StatusNotAcceptable:
		if u, err := resolve(c.cfg.URL, a.Header.Get("Location")); err == nil {
			c.sessions = append(c.sessions, u)
		}
		return skip("the server makes no counter-offers: " + a.Status)
	}
	to, err := resolve(c.cfg.URL, a.Header.Get("Location"))
	if err != nil {
		return err
	}
	c.sessions = append(c.sessions, to)
	answering, err := c.peer(recv)
	if err != nil {
		return err
	}
	if err := answering.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: a.body}); err != nil {
		return fmt.Errorf("the counter-offer cannot be applied: %w", err)
	}
	own, err := answering.CreateAnswer(nil)
	if err != nil {
		return err
	}
	done := webrtc.GatheringCompletePromise(answering)
	if err := answering.SetLocalDescription(own); err != nil {
		return err
	}
	<-done
	if a, err = c.do(ctx, http.MethodPatch, to, answering.LocalDescription().SDP, "Content-Type", typeSDP); err != nil {
		return err
	}
	return a.expect(204)
}

func notLive(ctx context.Context, c *client) error {
	if c.cfg.EmptyURL == "" {
		return skip("no URL without a stream was given to this run")
	}
	text, err := c.offerOf(ctx, "recv")
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPost, c.cfg.EmptyURL, text, "Content-Type", typeSDP)
	if err != nil {
		return err
	}
	if a.StatusCode == http.StatusConflict && a.Header.Get("Retry-After") == "" {
		return errors.New("409 without Retry-After")
	}
	return a.expect(404, 409)
}
