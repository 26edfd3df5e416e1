package node

import (
	"crypto/x509"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/ternmesh/tern/node/gate"
)

// openRoutes lets everybody do everything: for tests of what the routes do.
func openRoutes(t *testing.T, mux *http.ServeMux) *adminRoutes {
	t.Helper()
	g, err := gate.New(gate.Config{
		Token:       func(string) (gate.Caller, bool) { return gate.Caller{}, false },
		Certificate: func(*x509.Certificate) (gate.Caller, bool) { return gate.Caller{}, false },
		Anonymous:   gate.Caller{Name: "test", Role: gate.Operator, By: "test"},
		Refuse:      writeError,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &adminRoutes{mux: mux, gate: g, tracer: noop.NewTracerProvider().Tracer("")}
}

func TestTheAdminListenerIsNotOpenByAccident(t *testing.T) {
	good := Config{Node: "fra", DataDir: "d", Identity: IdentityConfig{CA: "a", Cert: "b", Key: "c"}}
	good.Mesh.Advertise = "192.0.2.1:7900"
	for name, c := range map[string]struct {
		change func(*Config)
		valid  bool
		tls    bool
	}{
		"the default":                {func(*Config) {}, true, false},
		"beyond loopback":            {func(c *Config) { c.Admin.Listen = "192.0.2.1:7902" }, true, true},
		"every address":              {func(c *Config) { c.Admin.Listen = "0.0.0.0:7902" }, true, true},
		"anybody reads on loopback":  {func(c *Config) { c.Admin.Anonymous = AnonymousRead }, true, false},
		"anybody reads from outside": {func(c *Config) { c.Admin.Anonymous, c.Admin.Listen = AnonymousRead, "0.0.0.0:7902" }, false, true},
		"anybody acts":               {func(c *Config) { c.Admin.Anonymous = "all" }, false, false},
		"half a certificate":         {func(c *Config) { c.Admin.TLS.Cert = "x" }, false, true},
	} {
		config := good
		c.change(&config)
		config.defaults()
		if err := config.Validate(); (err == nil) != c.valid {
			t.Errorf("%s: %v", name, err)
		}
		if got := config.adminHasTLS(); got != c.tls {
			t.Errorf("%s: TLS %v, want %v", name, got, c.tls)
		}
	}
}
