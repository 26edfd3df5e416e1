package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// whipChecks are those of RFC 9725.
var whipChecks = append([]check{
	{"answer-recvonly", Must, "the answer receives what is sent", "RFC 9725 4.2", answersDirection("recvonly")},
	{"refuse-recvonly", Must, "an offer that sends nothing is refused", "RFC 9725 4.2", func(ctx context.Context, c *client) error {
		return c.refuses(ctx, func() (string, error) { return c.offerOf(ctx, "recv") })
	}},
	{"one-of-a-kind", Must, "two video sections are accepted whole or refused whole", "RFC 9725 4.2", wholeOrNothing},
}, common...)

// common are the checks that WHIP and WHEP share.
var common = []check{
	{"post-201", Must, "an offer is answered by 201, application/sdp, with a Location", "RFC 9725 4.2", posts201},
	{"location-resolves", Must, "Location is a URL that the client can use", "RFC 9725 4.2", func(ctx context.Context, c *client) error {
		s, err := c.post(ctx)
		if err != nil {
			return err
		}
		u, err := url.Parse(s.url)
		if err != nil || u.Host == "" {
			return fmt.Errorf("location %q", s.Header.Get("Location"))
		}
		return nil
	}},
	{"content-type-parameters", Should, "parameters of the content type do no harm", "RFC 9110 8.3", func(ctx context.Context, c *client) error {
		_, err := c.post(ctx, "Content-Type", "application/sdp; charset=utf-8")
		return err
	}},
	{"wrong-content-type", Must, "another content type is refused", "RFC 9725 4.2", func(ctx context.Context, c *client) error {
		a, err := c.do(ctx, http.MethodPost, c.cfg.URL, "{}", "Content-Type", "application/json")
		return errors.Join(err, when(err, a.refused))
	}},
	{"malformed-sdp", Must, "what is no SDP is refused", "RFC 9725 4.2", func(ctx context.Context, c *client) error {
		return c.refuses(ctx, func() (string, error) { return "v=0\r\nnothing", nil })
	}},
	{"needs-token", Must, "without the token there is no session", "RFC 9725 4.7", needsToken},
	{"answer-complete", Must, "the answer holds all candidates: the server does not trickle", "RFC 9725 4.3.1", answerComplete},
	{"answer-bundled", Must, "one transport: BUNDLE and rtcp-mux", "RFC 9725 4.4.1", answerBundled},
	{"dtls-role", Must, "the answer chooses a DTLS role", "RFC 9725 4.4.2", dtlsRole},
	{"connects", Must, "ICE and DTLS come up", "RFC 9725 4.1", func(ctx context.Context, c *client) error {
		s, err := c.post(ctx)
		if err != nil {
			return err
		}
		return s.connect(ctx)
	}},
	{"delete", Must, "DELETE ends the session, whatever If-Match says", "RFC 9725 4.2", deletes},
	{"own-urls", Must, "every session has a URL of its own that is hard to guess", "RFC 9725 5", ownURLs},
	{"options", Must, "preflights need no token and name the methods", "RFC 9725 4.2", preflight},
	{"accept-post", Should, "OPTIONS says Accept-Post: application/sdp", "RFC 9725 4.2", func(ctx context.Context, c *client) error {
		a, err := c.do(ctx, http.MethodOptions, c.cfg.URL, "")
		if err == nil && !strings.Contains(a.Header.Get("Accept-Post"), typeSDP) {
			err = fmt.Errorf("Accept-Post is %q", a.Header.Get("Accept-Post"))
		}
		return err
	}},
	{"exposed-headers", Should, "pages of other origins can read Location and ETag", "RFC 9725 4.2", exposed},
	{"get", Should, "GET of the endpoint is answered with 2xx", "RFC 9725 4.2", func(ctx context.Context, c *client) error {
		a, err := c.do(ctx, http.MethodGet, c.cfg.URL, "")
		return errors.Join(err, when(err, func() error { return a.expect(200, 204) }))
	}},
	{"etag", Must, "a server that restarts ICE gives a strong entity tag", "RFC 9725 4.3.1", strongTag},
	{"trickle", May, "candidates by PATCH are answered with 204 and no entity tag", "RFC 9725 4.3.2", trickles},
	{"patch-precondition", Must, "a restart without If-Match is refused with 428", "RFC 9725 4.3.1", func(ctx context.Context, c *client) error {
		return patches(ctx, c, "", true, 428)
	}},
	{"patch-mismatch", Must, "an entity tag of another generation is refused with 412", "RFC 9725 4.3.1", func(ctx context.Context, c *client) error {
		return patches(ctx, c, `"not-the-tag"`, true, 412)
	}},
	{"restart", May, "a restart with If-Match: * is answered with 200, credentials and a new entity tag", "RFC 9725 4.3.3", restarts("*")},
	{"restart-quoted", May, `the same with If-Match: "*", as the RFC's example has it`, "RFC 9725 4.3.3", restarts(`"*"`)},
	{"failed-patch", Must, "a PATCH that fails does not end the session", "RFC 9725 4.3.3", failedPatch},
	{"patch-content-type", Must, "a PATCH of another content type is refused", "RFC 9725 4.3", func(ctx context.Context, c *client) error {
		s, err := c.post(ctx)
		if err != nil {
			return err
		}
		a, err := c.do(ctx, http.MethodPatch, s.url, "{}", "Content-Type", "application/json", "If-Match", s.Header.Get("ETag"))
		return errors.Join(err, when(err, a.refused))
	}},
}

// when runs a further check if there was no error so far.
func when(err error, f func() error) error {
	if err != nil {
		return nil
	}
	return f()
}

// offerOf makes an offer of one direction with audio and video.
func (c *client) offerOf(ctx context.Context, direction string) (string, error) {
	d := send
	if direction == "recv" {
		d = recv
	}
	pc, err := c.peer(d, video, audio)
	if err != nil {
		return "", err
	}
	return offer(ctx, pc, nil)
}

// refuses posts a body that must be refused.
func (c *client) refuses(ctx context.Context, body func() (string, error)) error {
	text, err := body()
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPost, c.cfg.URL, text, "Content-Type", typeSDP)
	if err != nil {
		return err
	}
	if a.StatusCode == http.StatusCreated {
		if u, err := resolve(c.cfg.URL, a.Header.Get("Location")); err == nil {
			c.sessions = append(c.sessions, u)
		}
	}
	return a.refused()
}

func posts201(ctx context.Context, c *client) error {
	s, err := c.post(ctx)
	if err != nil {
		return err
	}
	if got := s.Header.Get("Content-Type"); !strings.HasPrefix(got, typeSDP) {
		return fmt.Errorf("Content-Type is %q", got)
	}
	_, err = parse(s.body)
	return err
}

func answersDirection(want string) func(context.Context, *client) error {
	return func(ctx context.Context, c *client) error {
		d, err := c.described(ctx)
		if err != nil {
			return err
		}
		for _, m := range d.MediaDescriptions {
			if _, ok := m.Attribute(want); !ok && m.MediaName.Port.Value != 0 {
				return fmt.Errorf("the %s section is not %s", m.MediaName.Media, want)
			}
		}
		return nil
	}
}

func wholeOrNothing(ctx context.Context, c *client) error {
	pc, err := c.peer(send, video, video)
	if err != nil {
		return err
	}
	text, err := offer(ctx, pc, nil)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPost, c.cfg.URL, text, "Content-Type", typeSDP)
	if err != nil || a.StatusCode != http.StatusCreated {
		return errors.Join(err, when(err, a.refused))
	}
	if u, err := resolve(c.cfg.URL, a.Header.Get("Location")); err == nil {
		c.sessions = append(c.sessions, u)
	}
	d, err := parse(a.body)
	if err != nil {
		return err
	}
	for i, m := range d.MediaDescriptions {
		if m.MediaName.Port.Value == 0 {
			return fmt.Errorf("section %d is rejected in an answer with 201", i)
		}
	}
	return nil
}

func needsToken(ctx context.Context, c *client) error {
	if c.cfg.Token == "" {
		return skip("no token was given to this run")
	}
	text, err := c.offerOf(ctx, map[string]string{WHIP: "send", WHEP: "recv"}[c.cfg.Protocol])
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPost, c.cfg.URL, text, "Content-Type", typeSDP, "Authorization", "")
	return errors.Join(err, when(err, func() error { return a.expect(401, 403) }))
}

func answerComplete(ctx context.Context, c *client) error {
	s, err := c.post(ctx)
	if err != nil {
		return err
	}
	if !strings.Contains(s.body, "a=candidate:") {
		return errors.New("the answer holds no candidate")
	}
	return nil
}

func answerBundled(ctx context.Context, c *client) error {
	d, err := c.described(ctx)
	if err != nil {
		return err
	}
	if g, _ := d.Attribute("group"); !strings.HasPrefix(g, "BUNDLE") {
		return fmt.Errorf("a=group is %q", g)
	}
	for _, m := range d.MediaDescriptions {
		if _, ok := m.Attribute("rtcp-mux"); !ok && m.MediaName.Port.Value != 0 {
			return fmt.Errorf("the %s section has no rtcp-mux", m.MediaName.Media)
		}
	}
	return nil
}

func dtlsRole(ctx context.Context, c *client) error {
	d, err := c.described(ctx)
	if err != nil {
		return err
	}
	for _, m := range d.MediaDescriptions {
		if m.MediaName.Port.Value == 0 {
			continue // rejected
		}
		if setup, _ := attribute(d, m, "setup"); setup != "passive" && setup != "active" {
			return fmt.Errorf("setup is %q", setup)
		}
		if _, ok := attribute(d, m, "fingerprint"); !ok {
			return errors.New("there is no fingerprint")
		}
	}
	return nil
}
