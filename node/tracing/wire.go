package tracing

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// WireSize is how many bytes Append adds: trace id (16), span id (8), flags (1).
const WireSize = 25

// Append adds the identity of ctx's span to b, if it is recorded; ok is false if there is nothing to say.
func Append(b []byte, ctx context.Context) (out []byte, ok bool) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsSampled() || !sc.IsValid() {
		return b, false
	}
	id, span := sc.TraceID(), sc.SpanID()
	return append(append(append(b, id[:]...), span[:]...), byte(sc.TraceFlags())), true
}

// Read makes what Append wrote the remote parent of ctx. Anything else is ignored: it carries no right.
func Read(ctx context.Context, b []byte) context.Context {
	if len(b) != WireSize {
		return ctx
	}
	c := trace.SpanContextConfig{TraceFlags: trace.TraceFlags(b[24]), Remote: true}
	copy(c.TraceID[:], b)
	copy(c.SpanID[:], b[16:])
	if sc := trace.NewSpanContext(c); sc.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	return ctx
}

// Parent is the W3C traceparent (version 00) of ctx's span if it is recorded, else "".
func Parent(ctx context.Context) string {
	b, ok := Append(nil, ctx)
	if !ok {
		return ""
	}
	return "00-" + hex.EncodeToString(b[:16]) + "-" + hex.EncodeToString(b[16:24]) + "-" + hex.EncodeToString(b[24:])
}

// WithParent makes a traceparent of version 00 the remote parent of ctx; anything else is ignored.
func WithParent(ctx context.Context, s string) context.Context {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return ctx
	}
	b, err := hex.DecodeString(s[3:35] + s[36:52] + s[53:])
	if err != nil {
		return ctx
	}
	return Read(ctx, b)
}
