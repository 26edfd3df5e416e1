package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// minToken is how long the last part of a session's URL must be to be hard to guess: 64
// bits in base 64.
const minToken = 11

func deletes(ctx context.Context, c *client) error {
	s, err := c.post(ctx)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodDelete, s.url, "", "If-Match", `"not-the-tag"`)
	if err != nil {
		return err
	}
	if err := a.expect(200, 204); err != nil {
		return fmt.Errorf("DELETE: %w", err)
	}
	a, err = c.do(ctx, http.MethodDelete, s.url, "")
	if err != nil {
		return err
	}
	if err := a.expect(404, 410); err != nil {
		return fmt.Errorf("DELETE of what is gone: %w", err)
	}
	return nil
}

func ownURLs(ctx context.Context, c *client) error {
	one, err := c.post(ctx)
	if err != nil {
		return err
	}
	other, err := c.post(ctx)
	if err != nil {
		return err
	}
	u, err := url.Parse(one.url)
	switch {
	case err != nil:
		return err
	case one.url == other.url:
		return fmt.Errorf("two sessions have the URL %s", one.url)
	case len(path.Base(u.Path)) < minToken && u.RawQuery == "":
		return fmt.Errorf("%q is short enough to guess", path.Base(u.Path))
	}
	return nil
}

func preflight(ctx context.Context, c *client) error {
	a, err := c.do(ctx, http.MethodOptions, c.cfg.URL, "", "Authorization", "", "Origin", "https://page.example",
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization, content-type")
	if err != nil {
		return err
	}
	methods, headers := a.Header.Get("Access-Control-Allow-Methods"), strings.ToLower(a.Header.Get("Access-Control-Allow-Headers"))
	switch {
	case a.expect(200, 204) != nil:
		return a.expect(200, 204)
	case a.Header.Get("Access-Control-Allow-Origin") == "":
		return errors.New("there is no Access-Control-Allow-Origin")
	case !strings.Contains(methods, "POST") && methods != "*":
		return fmt.Errorf("Access-Control-Allow-Methods is %q", methods)
	case !strings.Contains(headers, "authorization"): // * does not cover it
		return fmt.Errorf("Access-Control-Allow-Headers is %q", headers)
	}
	return nil
}

func exposed(ctx context.Context, c *client) error {
	s, err := c.post(ctx, "Content-Type", typeSDP, "Origin", "https://page.example")
	if err != nil {
		return err
	}
	got := strings.ToLower(s.Header.Get("Access-Control-Expose-Headers"))
	if !strings.Contains(got, "location") || !strings.Contains(got, "etag") {
		return fmt.Errorf("Access-Control-Expose-Headers is %q", got)
	}
	return nil
}

func strongTag(ctx context.Context, c *client) error {
	s, err := c.post(ctx)
	if err != nil {
		return err
	}
	tag := s.Header.Get("ETag")
	switch {
	case tag == "":
		return skip("no ETag: the server does not restart ICE")
	case strings.HasPrefix(tag, "W/"):
		return fmt.Errorf("%s is weak", tag)
	case len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"':
		return fmt.Errorf("%s is not a quoted entity tag", tag)
	}
	return nil
}

// unsupported says that a server does not do what a PATCH asks, in one of the ways that
// specification and drafts allow.
func unsupported(a answer) bool {
	return a.StatusCode == 405 || a.StatusCode == 422 || a.StatusCode == 501
}

func trickles(ctx context.Context, c *client) error {
	s, err := c.post(ctx)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPatch, s.url, fragment(s.offer), "Content-Type", typeFrag, "If-Match", s.Header.Get("ETag"))
	switch {
	case err != nil:
		return err
	case unsupported(a):
		return skip("the server takes no candidates by PATCH: " + a.Status)
	case a.Header.Get("ETag") != "":
		return fmt.Errorf("answered %s with the entity tag %s", a.Status, a.Header.Get("ETag"))
	}
	return a.expect(204)
}

// patches sends a restart with an If-Match that must be refused.
func patches(ctx context.Context, c *client, match string, restart bool, want int) error {
	s, err := c.post(ctx)
	if err != nil {
		return err
	}
	if s.Header.Get("ETag") == "" {
		return skip("no ETag: the server makes no conditions")
	}
	frag := fragment(s.offer)
	if restart {
		if frag, err = s.restarted(ctx); err != nil {
			return err
		}
	}
	a, err := c.do(ctx, http.MethodPatch, s.url, frag, "Content-Type", typeFrag, "If-Match", match)
	if err == nil && unsupported(a) {
		return skip("the server does not restart ICE: " + a.Status)
	}
	return errors.Join(err, when(err, func() error { return a.expect(want) }))
}

func restarts(match string) func(context.Context, *client) error {
	return func(ctx context.Context, c *client) error {
		s, err := c.post(ctx)
		if err != nil {
			return err
		}
		frag, err := s.restarted(ctx)
		if err != nil {
			return err
		}
		a, err := c.do(ctx, http.MethodPatch, s.url, frag, "Content-Type", typeFrag, "If-Match", match)
		switch {
		case err != nil:
			return err
		case unsupported(a):
			return skip("the server does not restart ICE: " + a.Status)
		case a.expect(200) != nil:
			return a.expect(200)
		case !strings.HasPrefix(a.Header.Get("Content-Type"), typeFrag):
			return fmt.Errorf("Content-Type is %q", a.Header.Get("Content-Type"))
		case a.Header.Get("ETag") == "" || a.Header.Get("ETag") == s.Header.Get("ETag"):
			return fmt.Errorf("the entity tag is %q, after %q", a.Header.Get("ETag"), s.Header.Get("ETag"))
		case !strings.Contains(a.body, "a=ice-ufrag:") || !strings.Contains(a.body, "a=ice-pwd:"):
			return errors.New("the answer holds no credentials")
		}
		return nil
	}
}

func failedPatch(ctx context.Context, c *client) error {
	s, err := c.post(ctx)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, http.MethodPatch, s.url, "this is no fragment", "Content-Type", typeFrag, "If-Match", s.Header.Get("ETag"))
	if err != nil {
		return err
	}
	if err := a.refused(); err != nil && !unsupported(a) {
		return fmt.Errorf("PATCH of nonsense: %w", err)
	}
	if a, err = c.do(ctx, http.MethodDelete, s.url, ""); err == nil {
		err = a.expect(200, 204)
	}
	if err != nil {
		return fmt.Errorf("the session is gone: %w", err)
	}
	c.sessions = nil
	return nil
}
