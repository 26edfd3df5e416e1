package tracing

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is a real OTLP/HTTP receiver; status is what it answers.
func collector(t *testing.T, status int) (url string, requests chan otlpRequest) {
	requests = make(chan otlpRequest, 64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req otlpRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
		}
		w.WriteHeader(status)
		requests <- req
	}))
	t.Cleanup(func() { srv.Close(); http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return srv.URL, requests
}

func start(t *testing.T, cfg Config) (tr *Tracing, stop func()) {
	t.Helper()
	cfg.Node, cfg.Mesh, cfg.Region = "fra1", "example", "eu"
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	return tr, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestSpansReachACollectorAsTheyWere(t *testing.T) {
	url, requests := collector(t, http.StatusOK)
	tr, stop := start(t, Config{Endpoint: url + "/", Sample: 1})
	ctx, parent := tr.Tracer().Start(context.Background(), "parent", trace.WithSpanKind(trace.SpanKindServer))
	_, child := tr.Tracer().Start(ctx, "child", trace.WithAttributes(attribute.String("a", "text"), attribute.Int("n", 7), attribute.Bool("b", true), attribute.Float64("f", 0.5)))
	child.AddEvent("half way")
	child.SetStatus(codes.Error, "went wrong")
	child.End()
	parent.End()
	stop() // what is queued is sent at the end
	var got otlpRequest
	var spans []otlpSpan // in one request or two
	for len(spans) < 2 {
		got = <-requests
		spans = append(spans, got.ResourceSpans[0].ScopeSpans[0].Spans...)
	}
	if len(spans) != 2 || spans[0].Name != "child" || spans[1].Name != "parent" {
		t.Fatalf("%+v", spans)
	}
	c, p := spans[0], spans[1]
	if c.TraceID != p.TraceID || len(c.TraceID) != 32 || c.ParentID != p.SpanID || p.ParentID != "" || p.Kind != 2 || c.Kind != 1 {
		t.Errorf("identities: %+v %+v", c, p)
	}
	if c.Status.Code != 2 || c.Status.Message != "went wrong" || len(c.Events) != 1 || len(c.Attributes) != 4 || c.Attributes[1].Value["intValue"] != "7" {
		t.Errorf("content: %+v", c)
	}
	var names []string
	for _, a := range got.ResourceSpans[0].Resource.Attributes {
		names = append(names, a.Key)
	}
	if !strings.Contains(strings.Join(names, " "), "service.instance.id") {
		t.Errorf("resource: %v", names)
	}
	if s := tr.Stats(); s.Sent != 2 || s.Failed+s.Dropped != 0 {
		t.Errorf("counted %+v", s)
	}
}

func TestACollectorThatHangsAndRefusesHoldsNothingUp(t *testing.T) {
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-ended // takes the first batch only after every span has ended
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer srv.Close()
	var log bytes.Buffer
	tr, stop := start(t, Config{Endpoint: srv.URL, Sample: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 * QueueSize {
		_, s := tr.Tracer().Start(context.Background(), "x")
		s.End()
	}
	close(ended)
	stop()
	if s := tr.Stats(); s.Dropped == 0 || s.Failed == 0 || s.Sent != 0 {
		t.Errorf("counted %+v", s)
	}
	if !strings.Contains(log.String(), "traces were not taken") || !strings.Contains(log.String(), "503") {
		t.Errorf("log: %s", log.String())
	}
}

// hanging is a collector that never answers.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestTheEndWaitsOnceForACollectorThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, stop := start(t, Config{Endpoint: "http://collector", Sample: 1, Client: &http.Client{Transport: hanging{}}})
		for range QueueSize {
			_, s := tr.Tracer().Start(context.Background(), "x")
			s.End()
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took > flushTimeout {
			t.Errorf("the end took %v", took)
		}
		if s := tr.Stats(); s.Failed+s.Dropped != QueueSize || s.Sent != 0 {
			t.Errorf("of %d spans: %+v", QueueSize, s)
		}
	})
}

func TestWithoutAnEndpointNothingIsRecorded(t *testing.T) {
	tr, stop := start(t, Config{})
	ctx, s := tr.Tracer().Start(context.Background(), "x")
	if s.IsRecording() || Parent(ctx) != "" {
		t.Error("a span is recorded")
	}
	stop()
}

func TestBadEndpointsSayWhatToWrite(t *testing.T) {
	for endpoint, want := range map[string]string{
		"127.0.0.1:4318":        "is not the http://",
		"ftp://x":               "is not the http://",
		"http://user:pw@x:4318": "may not hold a password",
		"http://x/?key=secret":  "may not hold a password",
	} {
		if err := CheckEndpoint(endpoint); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", endpoint, err, want)
		}
	}
}

func TestATraceCrossesNodes(t *testing.T) {
	url, _ := collector(t, http.StatusOK)
	tr, stop := start(t, Config{Endpoint: url, Sample: 1})
	defer stop()
	ctx, s := tr.Tracer().Start(context.Background(), "x")
	defer s.End()
	want := s.SpanContext()
	b, ok := Append(nil, ctx)
	if !ok || len(b) != WireSize {
		t.Fatalf("%d bytes, %v", len(b), ok)
	}
	for name, there := range map[string]context.Context{"bytes": Read(context.Background(), b), "text": WithParent(context.Background(), Parent(ctx))} {
		got := trace.SpanContextFromContext(there)
		if got.TraceID() != want.TraceID() || got.SpanID() != want.SpanID() || !got.IsSampled() || !got.IsRemote() {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func FuzzWithParent(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("00-00000000000000000000000000000000-0000000000000000-00")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		sc := trace.SpanContextFromContext(WithParent(context.Background(), s))
		if sc.IsValid() && (len(s) != 55 || !strings.EqualFold(s[3:35], sc.TraceID().String())) {
			t.Fatalf("%q became %v", s, sc)
		}
	})
}
