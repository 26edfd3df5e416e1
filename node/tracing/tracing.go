package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const (
	// QueueSize bounds the finished spans that wait to be sent; more are dropped and counted.
	QueueSize = 2048
	// batchSize and batchWait bound what travels in one request, and how long the first span of it waits.
	batchSize = 256
	batchWait = 2 * time.Second
	// sendTimeout bounds one request; a refused batch is tried again after retryAfter, once.
	sendTimeout = 5 * time.Second
	retryAfter  = time.Second
	// flushTimeout bounds the last batch, at shutdown.
	flushTimeout = 2 * time.Second
	// maxAnswer bounds how much of a collector's answer is read, in bytes.
	maxAnswer = 64 << 10
)

// Config says where spans go, and from whom.
type Config struct {
	// Endpoint is the collector's base URL (http://127.0.0.1:4318), to which /v1/traces is added. Empty: no traces.
	Endpoint string
	// Sample is the share of traces that begin here and are recorded, above 0 and up to 1.
	Sample float64
	// Node, Region, Mesh and Version describe this node in every batch.
	Node, Region, Mesh, Version string
	Logger                      *slog.Logger
	// Client sends. Nil: http.DefaultTransport's, without redirects.
	Client *http.Client
}

// Stats count spans by what became of them.
type Stats struct{ Sent, Dropped, Failed uint64 }

// Tracing is one node's spans. All methods may be called from any goroutine.
type Tracing struct {
	cfg      Config
	url      string
	provider trace.TracerProvider
	queue    chan sdk.ReadOnlySpan

	sent, dropped, failed atomic.Uint64
}

// CheckEndpoint says whether a text can be Config.Endpoint, and what to write instead.
func CheckEndpoint(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%q is not the http:// or https:// URL of an OTLP collector (for example http://127.0.0.1:4318)", s)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("the URL may not hold a password or a query: let a collector beside the node add what its backend asks for")
	}
	return nil
}

// New checks the configuration. Nothing is sent before Run.
func New(cfg Config) (*Tracing, error) {
	t := &Tracing{cfg: cfg, provider: noop.NewTracerProvider()}
	if cfg.Endpoint == "" {
		return t, nil
	}
	if err := CheckEndpoint(cfg.Endpoint); err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if !(cfg.Sample > 0 && cfg.Sample <= 1) || cfg.Logger == nil {
		return nil, fmt.Errorf("tracing: sample %v is not above 0 and up to 1, or the logger is missing", cfg.Sample)
	}
	if t.cfg.Client == nil {
		t.cfg.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	t.url = strings.TrimRight(cfg.Endpoint, "/") + "/v1/traces"
	t.queue = make(chan sdk.ReadOnlySpan, QueueSize)
	limits := sdk.NewSpanLimits()
	limits.AttributeValueLengthLimit, limits.AttributeCountLimit, limits.EventCountLimit, limits.LinkCountLimit = 256, 32, 32, 4
	t.provider = sdk.NewTracerProvider(
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(cfg.Sample))),
		sdk.WithSpanProcessor(queued{t}), sdk.WithRawSpanLimits(limits))
	return t, nil
}

// Tracer makes spans; without an endpoint ones that cost next to nothing.
func (t *Tracing) Tracer() trace.Tracer { return t.provider.Tracer("github.com/ternmesh/tern") }

// Stats are the counters of this moment.
func (t *Tracing) Stats() Stats { return Stats{t.sent.Load(), t.dropped.Load(), t.failed.Load()} }

// queued is the SDK's SpanProcessor.
type queued struct{ t *Tracing }

// OnStart implements sdk.SpanProcessor.
func (queued) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements sdk.SpanProcessor; it never blocks.
func (q queued) OnEnd(s sdk.ReadOnlySpan) {
	select {
	case q.t.queue <- s:
	default:
		q.t.dropped.Add(1)
	}
}

// Shutdown implements sdk.SpanProcessor; Run is what ends.
func (queued) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdk.SpanProcessor.
func (queued) ForceFlush(context.Context) error { return nil }

// Run sends what is queued until ctx ends, and then what is left, for flushTimeout at most.
func (t *Tracing) Run(ctx context.Context) error {
	for t.queue != nil {
		select {
		case <-ctx.Done():
			return t.flush(nil)
		case first := <-t.queue:
			batch := t.gather(ctx, first)
			if ctx.Err() != nil {
				return t.flush(batch)
			}
			t.send(ctx, batch, true)
		}
	}
	<-ctx.Done()
	return nil
}

// gather waits for more spans after the first one. Idle nodes have no timer.
func (t *Tracing) gather(ctx context.Context, first sdk.ReadOnlySpan) []sdk.ReadOnlySpan {
	batch := []sdk.ReadOnlySpan{first}
	full := time.NewTimer(batchWait)
	defer full.Stop()
	for len(batch) < batchSize {
		select {
		case s := <-t.queue:
			batch = append(batch, s)
			continue
		case <-full.C:
		case <-ctx.Done():
		}
		break
	}
	return batch
}

// flush sends what is left at the end, batch first.
func (t *Tracing) flush(batch []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	for ctx.Err() == nil { // a collector that does not answer holds up the end once, not for each batch
		for len(t.queue) > 0 && len(batch) < batchSize {
			batch = append(batch, <-t.queue)
		}
		if len(batch) == 0 {
			return nil
		}
		t.send(ctx, batch, false)
		batch = nil
	}
	t.failed.Add(uint64(len(t.queue)))
	return nil
}

// send posts a batch, twice at most.
func (t *Tracing) send(ctx context.Context, batch []sdk.ReadOnlySpan, again bool) {
	body := encode(t.cfg, batch)
	err := t.post(ctx, body)
	if err != nil && again {
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
		err = t.post(ctx, body)
	}
	if err != nil {
		t.failed.Add(uint64(len(batch)))
		t.cfg.Logger.Warn("traces were not taken and are dropped", "endpoint", t.url, "err", err, "fix", "start the collector, or take tracing.endpoint out of the configuration")
		return
	}
	t.sent.Add(uint64(len(batch)))
}

func (t *Tracing) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := t.cfg.Client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // so that the connection is used again
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the collector answered %s", answer.Status)
	}
	return nil
}
