package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ternmesh/tern/node/console"
	"github.com/ternmesh/tern/node/gate"
)

// adminHandler is the private listeners' API, metrics, health and pprof. Each route is behind the right that it needs.
func (n *Node) adminHandler() (http.Handler, error) {
	g, err := n.newGate()
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{node: n})

	mux := &adminRoutes{mux: http.NewServeMux(), gate: g, tracer: n.tracing.Tracer()}
	mux.with(gate.Everybody, "GET /livez", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	mux.with(gate.Everybody, "GET /readyz", http.HandlerFunc(n.serveReady))
	mux.with(gate.Everybody, "GET /console/", http.StripPrefix("/console", console.Handler())) // it shows what the API gives its user
	mux.with(gate.Everybody, "GET /{$}", http.RedirectHandler("/console/", http.StatusFound))
	mux.with(gate.ReadMetrics, "GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.with(gate.ReadOwn, "GET /v1/paths", http.HandlerFunc(n.servePaths))
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, n.Status()) })
	mux.HandleFunc("GET /v1/channels", n.serveChannels)
	mux.HandleFunc("GET /v1/history", n.serveSamples)
	mux.HandleFunc("GET /v1/console", n.serveConsole)
	mux.HandleFunc("GET /v1/graph", n.serveGraph)
	mux.HandleFunc("GET /v1/nearest", n.serveNearest)
	mux.HandleFunc("POST /v1/mesh/rotate-key", n.serveRotateKey)
	n.filterRoutes(mux)
	mux.HandleFunc("POST /v1/reload", n.serveReload)
	mux.HandleFunc("POST /v1/probe/{node}", n.serveProbe)
	mux.HandleFunc("PUT /v1/nodes/{node}", n.putNode)
	mux.HandleFunc("DELETE /v1/nodes/{node}", n.deleteNode)
	mux.HandleFunc("GET /v1/revoked", n.serveRevoked)
	mux.HandleFunc("POST /v1/revoked", n.postRevoked)
	mux.HandleFunc("DELETE /v1/revoked", n.deleteRevoked)
	mux.HandleFunc("GET /v1/admins", n.serveAdmins)
	mux.HandleFunc("POST /v1/admins", n.postAdmin)
	mux.HandleFunc("DELETE /v1/admins/{name}", n.deleteAdmin)
	n.policyRoutes(mux)
	for path, h := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.with(gate.Operate, "GET /debug/pprof/"+path, h) // memory may hold secrets
	}
	return sameOrigin(mux.mux), nil
}

// sameOrigin keeps web pages of other places away from the admin API: a browser on the operator's machine reaches loopback
// too. On loopback, a request by a name other than localhost is refused (DNS rebinding); anywhere, one that a foreign page
// sends is.
func sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if onLoopback(r) && !loopbackName(r.Host) || origin != "" && origin != schemeOf(r)+r.Host {
			writeError(w, http.StatusForbidden, errors.New("open the admin listener by its IP address or as localhost, and not from another page"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https://"
	}
	return "http://"
}

func onLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.IsLoopback()
}

// loopbackName says whether a Host header is an IP address or localhost.
func loopbackName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	_, err = netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil
}

// serveReady says whether clients should be sent here: the policy is known and the node is not stopping. Liveness is
// another question: a node that is not ready must not be restarted for it.
func (n *Node) serveReady(w http.ResponseWriter, _ *http.Request) {
	switch {
	case n.state.stopping.Load():
		http.Error(w, "stopping", http.StatusServiceUnavailable)
	case n.drain.refuses():
		http.Error(w, n.stateName()+": new clients go to another node", http.StatusServiceUnavailable)
	case n.enforcer.version() == 0:
		http.Error(w, "no policy yet: apply one with tern policy apply", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ok")
	}
}

func (n *Node) servePaths(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if !gate.From(r.Context()).Sees(q.Get("app")) {
		writeError(w, http.StatusForbidden, errors.New("name one of your own apps (?app=ID)"))
		return
	}
	report, err := n.PathsBetween(q.Get("from"), q.Get("to"), q.Get("app"))
	if err != nil {
		writeError(w, http.StatusNotFound, err)
		return
	}
	writeJSON(w, http.StatusOK, report)
}

// serveReload reads the configuration file anew; see Reload.
func (n *Node) serveReload(w http.ResponseWriter, _ *http.Request) {
	if n.opts.LoadConfig == nil {
		writeError(w, http.StatusNotImplemented, errors.New("this node was not started from a configuration file"))
		return
	}
	report, err := n.ReloadFile()
	if err != nil {
		status := http.StatusUnprocessableEntity
		if errors.Is(err, errReloading) {
			status = http.StatusConflict
		}
		writeError(w, status, err)
		return
	}
	writeJSON(w, http.StatusOK, report)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v)
}

func writeError(w http.ResponseWriter, code int, err error) {
	writeJSON(w, code, map[string]string{"error": err.Error()})
}

// serveGraph is what is measured, before the policy's bounds; tern routes reads it.
func (n *Node) serveGraph(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = n.mesh.Graph().Export(w)
}

// serveRotateKey puts a new gossip key into force everywhere.
func (n *Node) serveRotateKey(w http.ResponseWriter, _ *http.Request) {
	n.mesh.RotateKey()
	keys := n.mesh.Stats().Keys
	n.log.Info("new gossip key", "reason", "asked for", "accepted", keys)
	writeJSON(w, http.StatusOK, map[string]int{"keys": keys})
}
