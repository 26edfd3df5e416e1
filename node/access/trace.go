package access

import (
	"context"
	"net/http"
	"sync"

	attr "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// joinTrace is the span of one join, from its request to the first packet of media, and the phase of it that runs:
//
//	admission ─▶ answer ─▶ connect ─▶ first packet
//
// Searches of media are siblings of the phases. Safe for concurrent use; a nil one does nothing.
type joinTrace struct {
	ctx  context.Context // holds root
	by   trace.Tracer
	root trace.Span

	mu    sync.Mutex // guards phase and over
	phase trace.Span
	over  bool
}

type joinTraceKey struct{}

// traceJoin starts the trace of a join. What the client says of a trace of its own becomes a link: who knows no token must
// not decide what is recorded here.
func (a *Access) traceJoin(r *http.Request, kind string) (*http.Request, *joinTrace) {
	theirs := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header))
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attr.String("tern.session.kind", kind))}
	if sc := trace.SpanContextFromContext(theirs); sc.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: sc}))
	}
	ctx, root := a.cfg.Tracer.Start(r.Context(), "join "+kind, options...)
	if !root.IsRecording() {
		return r, nil
	}
	t := &joinTrace{ctx: context.WithoutCancel(ctx), by: a.cfg.Tracer, root: root}
	t.next("admission")
	return r.WithContext(context.WithValue(ctx, joinTraceKey{}, t)), t
}

// traceOf is the trace of a join's request, nil without one.
func traceOf(r *http.Request) *joinTrace {
	t, _ := r.Context().Value(joinTraceKey{}).(*joinTrace)
	return t
}

// step changes the trace unless the join is over.
func (t *joinTrace) step(change func()) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		change()
	}
}

// next ends the phase that runs and begins another.
func (t *joinTrace) next(phase string) {
	t.step(func() {
		if t.phase != nil {
			t.phase.End()
		}
		_, t.phase = t.by.Start(t.ctx, phase)
	})
}

// session says which session the join became.
func (t *joinTrace) session(s *session) {
	if t != nil {
		t.root.SetAttributes(attr.String("tern.session", s.short()), attr.String("tern.app", s.app),
			attr.String("tern.channel", s.channel), attr.String("tern.stream", s.stream))
	}
}

// answered notes the HTTP answer: a refusal ends the trace.
func (t *joinTrace) answered(p *problem) {
	if t == nil {
		return
	}
	if p != nil {
		t.root.SetAttributes(attr.Int("http.response.status_code", p.status))
		t.end(p.reason)
		return
	}
	t.next("connect")
}

// end is the end of the join: reason is "" once media flows, or says why it never will. Later calls do nothing.
func (t *joinTrace) end(reason string) {
	t.step(func() {
		t.over = true
		if reason != "" {
			t.root.SetStatus(codes.Error, reason)
			t.phase.SetStatus(codes.Error, reason)
		}
		t.phase.End()
		t.root.End()
	})
}
