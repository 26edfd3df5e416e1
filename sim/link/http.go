package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxBody bounds descriptions, in bytes.
const maxBody = 256 << 10

// errTooLarge is a body above maxBody.
var errTooLarge = fmt.Errorf("a description of more than %d bytes", maxBody)

// proxy hands WHIP and WHEP on, and puts the link into what they agree on.
func (l *Link) proxy() http.Handler {
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(l.cfg.Upstream)
			r.Out.Header.Del("Accept-Encoding") // answers are read here
		},
		ModifyResponse: l.answered,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			l.cfg.Logger.Warn("the server could not be asked", "error", err)
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if describes(r.Header) {
			body, err := readAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
				return
			}
			body = withoutCandidates(body)
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		}
		p.ServeHTTP(w, r)
	})
}

// describes says whether a body is SDP, or a fragment of it.
func describes(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return kind == "application/sdp" || kind == "application/trickle-ice-sdpfrag"
}

func readAll(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err == nil && len(b) > maxBody {
		err = errTooLarge
	}
	return string(b), err
}

// answered maps an answer's candidates to ports of the link, and keeps the session's URL on the proxy.
func (l *Link) answered(resp *http.Response) error {
	if at, err := url.Parse(resp.Header.Get("Location")); err == nil && at.Host == l.cfg.Upstream.Host {
		at.Scheme, at.Host = "", ""
		resp.Header.Set("Location", at.String())
	}
	if !describes(resp.Header) {
		return nil
	}
	body, err := readAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	var failed error
	body = rewrite(body, func(to netip.AddrPort) (netip.AddrPort, bool) {
		ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if to.Addr().Is6() {
			ip = netip.IPv6Loopback()
		}
		at, err := l.tunnel(netip.AddrPortFrom(ip, 0), to)
		failed = errors.Join(failed, err)
		return at, err == nil
	})
	if failed != nil {
		l.cfg.Logger.Warn("a candidate is not mapped", "error", failed)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader([]byte(body))), int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}
