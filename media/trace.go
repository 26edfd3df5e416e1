package media

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceField is the name under which the W3C propagator keeps what message.Trace holds.
const traceField = "traceparent"

// traceOf is the W3C traceparent of ctx's span if it is recorded, else "".
func traceOf(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceField]
}

// span starts a span about a stream.
func (h *Hub) span(ctx context.Context, name string, key Key, more ...attribute.KeyValue) (context.Context, trace.Span) {
	more = append(more, attribute.String("tern.app", key.App), attribute.String("tern.channel", key.Channel), attribute.String("tern.stream", key.Stream))
	return h.cfg.Tracer.Start(ctx, name, trace.WithAttributes(more...))
}

// traceServe notes what became of a peer's subscription, in the trace that it came with.
func (h *Hub) traceServe(l Link, m message, refused string) {
	if m.Trace == "" {
		return
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceField: m.Trace})
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	_, s := h.span(ctx, "serve subscription", m.key(), attribute.String("tern.peer", h.nameOf(l.Peer())))
	if refused != "" {
		s.SetStatus(codes.Error, refused)
	}
	s.End()
}

// done ends a span with what came out.
func done(s trace.Span, err error) {
	if err != nil {
		s.SetStatus(codes.Error, err.Error())
	}
	s.End()
}
