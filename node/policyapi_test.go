package node

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"

	"github.com/ternmesh/tern/control"
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

func TestABodyThatBreaksIsNotTooLarge(t *testing.T) {
	n := &Node{}
	for _, take := range []http.HandlerFunc{n.applyPolicy, func(w http.ResponseWriter, r *http.Request) { readOrder(w, r, new(struct{})) }} {
		for want, body := range map[int]io.Reader{
			http.StatusBadRequest:            iotest.ErrReader(io.ErrUnexpectedEOF),
			http.StatusRequestEntityTooLarge: io.LimitReader(endless{}, control.MaxDocumentBytes+1),
		} {
			w := httptest.NewRecorder()
			if take(w, httptest.NewRequest(http.MethodPut, "/", body)); w.Code != want {
				t.Errorf("%d %s, want %d", w.Code, w.Body, want)
			}
		}
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
