package page

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
)

// maxActionBytes bounds the body of an action.
const maxActionBytes = 4 << 10

//go:embed index.html style.css icon.svg app.js map.js webrtc.js
var files embed.FS

// Mesh is what the page shows and breaks. Act returns an error that is shown to the person who pressed the button.
type Mesh interface {
	State() State
	Session() (Session, error)
	Act(ctx context.Context, a Action) error
}

// Handler serves the page and its API.
func Handler(m Mesh) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /api/state", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, m.State()) })
	mux.HandleFunc("GET /api/session", func(w http.ResponseWriter, _ *http.Request) {
		s, err := m.Session()
		if err != nil {
			refuse(w, http.StatusInternalServerError, err)
			return
		}
		answer(w, http.StatusOK, s)
	})
	mux.HandleFunc("POST /api/action", func(w http.ResponseWriter, r *http.Request) { act(w, r, m) })
	return guard(mux)
}

func act(w http.ResponseWriter, r *http.Request, m Mesh) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, fmt.Errorf("send application/json"))
		return
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxActionBytes))
	d.DisallowUnknownFields()
	var a Action
	if err := d.Decode(&a); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("not an action: %w", err))
		return
	}
	if err := m.Act(r.Context(), a); err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

// guard refuses names other than loopback's own and keeps the page to itself and the nodes.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !byAddress(r.Host) {
			refuse(w, http.StatusForbidden, fmt.Errorf("open this page by its IP address or as localhost"))
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; connect-src 'self' http: https:; media-src 'self' blob: mediastream:; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// byAddress reports whether a Host header is an IP address or localhost.
func byAddress(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" {
		return true
	}
	if len(host) > 2 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the reader is gone if this fails
}

func refuse(w http.ResponseWriter, code int, err error) {
	answer(w, code, map[string]string{"error": err.Error()})
}
