package node

import (
	"context"
	"log/slog"
	"testing"

	"github.com/ternmesh/tern/node/tracing"
)

// A caller may make many changes in one trace, with the same traceparent: each is a change of its own, whether this node makes
// spans or not. Of changes with one id only the first is made.
func TestChangesOfOneTraceHaveIdsOfTheirOwn(t *testing.T) {
	const caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for endpoint, wants := range map[string]bool{"": false, "http://127.0.0.1:1": true} {
		tr, err := tracing.New(tracing.Config{Endpoint: endpoint, Sample: 1, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		for range 2 {
			ctx, s := tr.Tracer().Start(tracing.WithParent(context.Background(), caller), "propose policy")
			id := changeID(ctx, s)
			s.End()
			if (id != "") != wants || id == caller || id != "" && seen[id] {
				t.Errorf("endpoint %q: id %q after %v", endpoint, id, seen)
			}
			seen[id] = true
		}
	}
}
