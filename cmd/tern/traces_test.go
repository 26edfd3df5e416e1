package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// spanSeen is what the tests ask of one received span.
type spanSeen struct {
	node, trace, name string
	attributes        map[string]string
}

// collector is a real OTLP/HTTP receiver.
type collector struct {
	mu    sync.Mutex
	spans []spanSeen
	raw   strings.Builder
}

// startCollector returns the configuration line that makes a node send its traces to it.
func startCollector(t *testing.T) (c *collector, config string) {
	t.Helper()
	c = &collector{}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	return c, "tracing: {endpoint: " + srv.URL + "}"
}

// ServeHTTP implements http.Handler.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type pairs []struct {
		Key   string
		Value struct{ StringValue, IntValue string }
	}
	var body json.RawMessage
	var req struct {
		ResourceSpans []struct {
			Resource   struct{ Attributes pairs }
			ScopeSpans []struct {
				Spans []struct {
					TraceID, Name string
					Attributes    pairs
				}
			}
		}
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || json.Unmarshal(body, &req) != nil {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	for _, rs := range req.ResourceSpans {
		var name string
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.instance.id" {
				name = a.Value.StringValue
			}
		}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				seen := spanSeen{node: name, trace: s.TraceID, name: s.Name, attributes: map[string]string{}}
				for _, a := range s.Attributes {
					seen.attributes[a.Key] = a.Value.StringValue + a.Value.IntValue
				}
				c.spans = append(c.spans, seen)
			}
		}
	}
}

// await waits until some trace that begins with root at one node has all of the other spans, each at the node that is
// named, and returns it.
func (c *collector) await(t *testing.T, root spanSeen, others ...spanSeen) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // other processes: nothing to wait on
		c.mu.Lock()
		has := func(trace string, want spanSeen) bool {
			for _, s := range c.spans {
				if s.trace == trace && s.name == want.name && s.node == want.node {
					return true
				}
			}
			return false
		}
		for _, r := range c.spans {
			if r.name != root.name || r.node != root.node {
				continue
			}
			missing := 0
			for _, o := range others {
				if !has(r.trace, o) {
					missing++
				}
			}
			if missing == 0 {
				c.mu.Unlock()
				return
			}
		}
		var all []string
		for _, s := range c.spans {
			all = append(all, s.trace[:8]+" "+s.node+" "+s.name)
		}
		c.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("no trace of %s at %s has all of %v; seen:\n%s", root.name, root.node, others, strings.Join(all, "\n"))
		}
	}
}

// checkTraces holds what a policy change, a join and a drain left at the collector against what they must.
func checkTraces(t *testing.T, binary string, traces *collector, nodes []*process) {
	t.Helper()
	traces.await(t, spanSeen{name: "admin PUT /v1/policy", node: nodes[1].name},
		spanSeen{name: "enforce policy", node: nodes[0].name}, spanSeen{name: "enforce policy", node: nodes[1].name}, spanSeen{name: "enforce policy", node: nodes[2].name})
	traces.await(t, spanSeen{name: "join whip", node: nodes[0].name}, spanSeen{name: "first packet", node: nodes[0].name})
	traces.await(t, spanSeen{name: "join whep", node: nodes[2].name}, spanSeen{name: "connect", node: nodes[2].name},
		spanSeen{name: "look up channel", node: nodes[2].name}, spanSeen{name: "serve directory", node: nodes[1].name},
		spanSeen{name: "subscribe at source", node: nodes[2].name}, spanSeen{name: "serve subscription", node: nodes[0].name})
	for _, order := range []string{"drain", "undrain"} { // moves the paths that lead over the node between
		if out, err := tern(t, binary, order, nodes[1].name, "--admin", nodes[0].admin); err != nil {
			t.Errorf("%s: %v\n%s", order, err, out)
		}
	}
	traces.await(t, spanSeen{name: "admin PUT /v1/nodes/{node}", node: nodes[0].name},
		spanSeen{name: "change paths", node: nodes[0].name}, spanSeen{name: "change paths", node: nodes[2].name})
	if strings.Contains(traces.raw.String(), testCertificate) {
		t.Error("a trace shows a secret")
	}
}
