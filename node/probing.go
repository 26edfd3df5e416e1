package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/probe"
)

const (
	kindProbe = "probe"
	// maxProbe bounds a request, in bytes.
	maxProbe = 4 << 10
	// probeTimeout bounds one step of a probe at another node.
	probeTimeout = 5 * time.Second
)

// ProbeAnswer is one step's answer with the sessions of the node that gave it.
type ProbeAnswer struct {
	probe.Answer
	Braids []BraidStatus `json:"braids,omitempty"` // with Collect
}

// Probe asks a node of the mesh, this one included, for one step of a probe.
func (n *Node) Probe(ctx context.Context, at string, r probe.Request) (a ProbeAnswer, err error) {
	request, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var answer []byte
	if at == n.cfg.Node {
		answer = n.answerProbe(ctx, identity.Peer{}, request)
	} else if answer, err = n.direct.Call(ctx, at, kindProbe, request); err != nil {
		return a, fmt.Errorf("ask %s: %w", at, err)
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return a, fmt.Errorf("the answer of %s: %w", at, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s", at, a.Error)
	}
	return a, nil
}

// answerProbe answers a member's request.
func (n *Node) answerProbe(ctx context.Context, _ identity.Peer, request []byte) []byte {
	answer := n.prober.Serve(ctx, request)
	var r probe.Request
	if json.Unmarshal(request, &r) != nil || r.Op != probe.Collect {
		return answer
	}
	var a ProbeAnswer
	if json.Unmarshal(answer, &a) != nil {
		return answer
	}
	a.Braids = n.Braids()
	out, err := json.Marshal(a)
	if err != nil {
		return answer
	}
	return out
}

// serveProbe is POST /v1/probe/{node}: a step of a probe at any node of the mesh.
func (n *Node) serveProbe(w http.ResponseWriter, r *http.Request) {
	var step probe.Request
	body, err := io.ReadAll(io.LimitReader(r.Body, maxProbe+1))
	if err == nil && len(body) > maxProbe {
		err = errors.New("the request is too large")
	}
	if err == nil {
		err = json.Unmarshal(body, &step)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	a, err := n.Probe(r.Context(), r.PathValue("node"), step)
	if err != nil {
		writeError(w, http.StatusBadGateway, err)
		return
	}
	writeJSON(w, http.StatusOK, a)
}
