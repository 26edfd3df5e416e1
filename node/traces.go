package node

import (
	"context"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/gate"
	"github.com/ternmesh/tern/node/tracing"
	"github.com/ternmesh/tern/routing"
)

// handleCalls serves a kind of calls between nodes, as direct.HandleCalls, with a span for those that belong to a trace.
func (n *Node) handleCalls(kind string, limit int, f func(ctx context.Context, peer identity.Peer, request []byte) []byte) {
	n.direct.HandleCalls(kind, limit, func(ctx context.Context, peer identity.Peer, request []byte) []byte {
		if trace.SpanContextFromContext(ctx).IsSampled() {
			var s trace.Span
			ctx, s = n.tracing.Tracer().Start(ctx, "serve "+kind, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("tern.peer", peer.Node)))
			defer s.End()
		}
		return f(ctx, peer, request)
	})
}

// traced makes a change by the admin API a span, in the caller's trace if the caller has one: it has shown who it is.
func (a *adminRoutes) traced(pattern string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, s := a.tracer.Start(tracing.WithParent(r.Context(), r.Header.Get("traceparent")), "admin "+pattern, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("tern.caller", gate.From(r.Context()).String())))
		defer s.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// propose asks for a change of the policy. The change carries the trace's identity as its id, so that every node that
// enforces it, whichever way the policy comes, adds its span to the same trace.
func (n *Node) propose(r *http.Request, p control.Proposal) (control.Outcome, error) {
	ctx, s := n.tracing.Tracer().Start(r.Context(), "propose policy")
	defer s.End()
	p.ID = changeID(ctx, s)
	out, err := n.control.Propose(ctx, p)
	if err != nil {
		s.SetStatus(codes.Error, err.Error())
	}
	s.SetAttributes(attribute.Int64("tern.policy.version", int64(out.Version)))
	return out, err
}

// changeID is the id of the change that s, the span in ctx, asks for; empty where this node makes no spans: ctx then has the
// caller's own, and of changes with one id only the first is made.
func changeID(ctx context.Context, s trace.Span) string {
	if !s.IsRecording() {
		return ""
	}
	return tracing.Parent(ctx)
}

// traceEnforce starts the span of a policy that comes into force here, if its change was traced.
func (n *Node) traceEnforce(p control.Policy) (end func()) {
	ctx := tracing.WithParent(context.Background(), p.Change)
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return func() {}
	}
	_, s := n.tracing.Tracer().Start(ctx, "enforce policy", trace.WithAttributes(attribute.Int64("tern.policy.version", int64(p.Version))))
	return func() {
		if trouble := n.enforcer.enforcement().Trouble; trouble != "" {
			s.SetStatus(codes.Error, trouble)
		}
		s.End()
	}
}

// traceChange starts the span of paths that are being replaced; one that is under way ends here. It belongs to the trace of a
// policy that has come into force since the paths were looked at last: that is what moved them. r.mu held.
func (r *routes) traceChange(kept *route, peer string, regions []string, before []routing.Path) {
	kept.traceDone()
	ctx := context.Background()
	if policy := r.node.enforcer.current.Load(); kept.policy != nil && policy != kept.policy {
		ctx = tracing.WithParent(ctx, policy.change)
	}
	_, kept.span = r.node.tracing.Tracer().Start(ctx, "change paths", trace.WithAttributes(
		attribute.String("tern.peer", peer), attribute.String("tern.fence", strings.Join(regions, " ")),
		attribute.String("tern.paths.before", pathsText(before)), attribute.String("tern.paths.after", pathsText(kept.set.Paths))))
	kept.cause = kept.span.SpanContext()
}

// traceDone ends the span of a change of paths: all that are wanted carry packets.
func (k *route) traceDone() {
	if k.span != nil {
		k.span.End()
		k.span = nil
	}
}

// causeOf is the change of paths, of a moment ago, that a relay's key is needed for; empty if there is none.
func (r *routes) causeOf(relay string) trace.SpanContext {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.sets {
		if time.Since(k.changed) > readyWithin {
			continue
		}
		for _, p := range k.set.Paths {
			for _, name := range p.Nodes[1:] {
				if name == relay {
					return k.cause
				}
			}
		}
	}
	return trace.SpanContext{}
}

// pathsText is a path set for people: a>b>c, a>c.
func pathsText(paths []routing.Path) string {
	var all []string
	for _, p := range paths {
		all = append(all, strings.Join(p.Nodes, ">"))
	}
	return strings.Join(all, ", ")
}
