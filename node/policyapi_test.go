package node

import (
	"errors"
	"net/http"
	"testing"

	"github.com/ternmesh/tern/node/gate"
)

// Owners of apps cannot make a node read many documents at once, and keep no operator away.
func TestOneDocumentIsReadAtATime(t *testing.T) {
	n, owner, operator := new(Node), gate.Caller{Role: gate.App, Apps: []string{"shop"}}, gate.Caller{Role: gate.Operator}
	doc := []byte("regions: [{id: eu}]")
	n.parsing.Lock() // another document is being read
	_, err := n.parse(owner, doc)
	if !errors.Is(err, errParsing) || statusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("an owner meanwhile: %v, want to be told to come again", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := n.parse(operator, doc)
		done <- err
	}()
	n.parsing.Unlock()
	if err := <-done; err != nil {
		t.Errorf("an operator who waited: %v", err)
	}
	if p, err := n.parse(owner, doc); err != nil || len(p.Regions) != 1 {
		t.Errorf("an owner afterwards: %v", err)
	}
}
