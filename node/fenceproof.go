package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh/identity"
)

// A fence's proof is what every node says about one app's fence: the answers of the functions that media itself asks
// (admission, relay, directory), the path sets in use, and the counters of refused frames. It proves what nodes do, not that
// none of them lies.

const (
	evidenceTimeout  = 4 * time.Second
	evidenceParallel = 32
	maxEvidence      = 256 // bytes of a request: an app's id
)

// FencePath is a path in use inside a fence, from the sender to the receiver.
type FencePath struct {
	Hops    []string `json:"hops"`
	Regions []string `json:"regions"` // of the hops; "" where a node is not known here any more
	Active  bool     `json:"active"`
	Sent    uint64   `json:"sent"` // frames since the path began
}

// FenceEvidence is one node's answer.
type FenceEvidence struct {
	Node          string            `json:"node"`
	Region        string            `json:"region"`
	PolicyVersion uint64            `json:"policy_version"` // enforced wholly
	Trouble       string            `json:"trouble,omitempty"`
	Fence         string            `json:"fence"`   // id, in hex; "" if the node knows no such app
	Regions       []string          `json:"regions"` // of the fence, as this node has it
	Inside        bool              `json:"inside"`
	Admits        bool              `json:"admits"`         // would let the app's clients in
	Relays        bool              `json:"relays"`         // would take a frame of this fence
	InDirectory   bool              `json:"in_directory"`   // would keep the app's registrations
	HoldsSecrets  bool              `json:"holds_secrets"`  // has a certificate of the app in the clear
	RefusedFrames map[string]uint64 `json:"refused_frames"` // by reason, of all fences, since the node started
	Paths         []FencePath       `json:"paths"`          // in use under this fence, from here
	Error         string            `json:"error,omitempty"`
	Violations    []string          `json:"violations"` // found by the node that asked
}

// evidence is what this node says about an app.
func (n *Node) evidence(app string) FenceEvidence {
	own := n.control.Enforcement()
	e := FenceEvidence{
		Node: n.cfg.Node, Region: n.id.Region, PolicyVersion: own.Version, Trouble: own.Trouble,
		RefusedFrames: make(map[string]uint64), Paths: []FencePath{},
	}
	frames := n.braid.Stats().Frames
	for _, why := range []braid.DropReason{braid.DropFence, braid.DropNextFence, braid.DropPathFenced} {
		e.RefusedFrames[why.String()] = frames[why.String()]
	}
	id, known := n.enforcer.fenceOf(app)
	if !known {
		return e
	}
	e.Fence, e.Regions = fmt.Sprintf("%08x", uint32(id)), n.enforcer.regions(id)
	e.Inside = slices.Contains(e.Regions, n.id.Region)
	_, e.Admits = n.enforcer.app(app)
	e.Relays = n.allowHop(id, braid.NodeID(n.id.ID()))
	e.InDirectory = slices.Contains(n.peersOf(app), n.cfg.Node)
	for _, a := range n.control.Policy().Apps {
		e.HoldsSecrets = e.HoldsSecrets || a.ID == app && len(a.Certificates) > 0
	}
	regions := n.regionsByNode()
	for _, b := range n.braidStatus() {
		if b.Fence != e.Fence {
			continue
		}
		for _, p := range b.Out {
			path := FencePath{Hops: p.Hops, Active: p.Active, Sent: p.Sent}
			for _, hop := range p.Hops {
				path.Regions = append(path.Regions, regions[hop])
			}
			e.Paths = append(e.Paths, path)
		}
	}
	return e
}

func (n *Node) regionsByNode() map[string]string {
	out := make(map[string]string)
	for _, m := range n.mesh.Members() {
		out[m.Node] = m.Region
	}
	return out
}

// answerEvidence serves a peer.
func (n *Node) answerEvidence(_ context.Context, _ identity.Peer, app []byte) []byte {
	b, err := json.Marshal(n.evidence(string(app)))
	if err != nil {
		return nil
	}
	return b
}

// judge holds one node's answer against the fence: pure.
func (e *FenceEvidence) judge(regions []string) {
	e.Violations = []string{}
	add := func(format string, args ...any) { e.Violations = append(e.Violations, fmt.Sprintf(format, args...)) }
	if e.Error != "" {
		return // it says nothing; the proof is not whole, see FenceProof
	}
	inside := slices.Contains(regions, e.Region)
	if !inside {
		for what, does := range map[string]bool{"lets clients in": e.Admits, "takes its frames": e.Relays, "keeps its directory": e.InDirectory, "holds its certificates": e.HoldsSecrets} {
			if does {
				add("is outside the fence and %s", what)
			}
		}
	}
	if e.Fence != "" && !slices.Equal(e.Regions, regions) {
		add("enforces the fence %v (version %d), not %v", e.Regions, e.PolicyVersion, regions)
	}
	for _, p := range e.Paths {
		for i, r := range p.Regions {
			if p.Active && r != "" && !slices.Contains(regions, r) {
				add("uses the path %v, where %s is in %s", p.Hops, p.Hops[i], r)
			}
		}
	}
	slices.Sort(e.Violations)
}

// FenceProof is the answer of tern fence prove.
type FenceProof struct {
	App        string          `json:"app"`
	Version    uint64          `json:"version"` // of the policy that the evidence is held against
	Regions    []string        `json:"regions"`
	Nodes      []FenceEvidence `json:"nodes"`
	Violations int             `json:"violations"`
	Silent     int             `json:"silent"` // members that did not answer: the proof says nothing about them
}

// proveFence asks every member for evidence and judges it against this node's policy.
func (n *Node) proveFence(ctx context.Context, app string) (FenceProof, error) {
	id, known := n.enforcer.fenceOf(app)
	if !known {
		return FenceProof{}, fmt.Errorf("the policy (version %d) has no app %q", n.enforcer.version(), app)
	}
	proof := FenceProof{App: app, Version: n.enforcer.version(), Regions: n.enforcer.regions(id)}
	ctx, cancel := context.WithTimeout(ctx, evidenceTimeout)
	defer cancel()
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(evidenceParallel)
	for _, m := range n.mesh.Members() {
		g.Go(func() error {
			e := n.askEvidence(ctx, m.Node, m.Region, app)
			e.judge(proof.Regions)
			mu.Lock()
			defer mu.Unlock()
			proof.Nodes = append(proof.Nodes, e)
			proof.Violations += len(e.Violations)
			if e.Error != "" {
				proof.Silent++
			}
			return nil
		})
	}
	_ = g.Wait() // errors are in the evidence
	slices.SortFunc(proof.Nodes, func(a, b FenceEvidence) int { return cmp.Compare(a.Node, b.Node) })
	return proof, nil
}

func (n *Node) askEvidence(ctx context.Context, node, region, app string) FenceEvidence {
	if node == n.cfg.Node {
		return n.evidence(app)
	}
	var e FenceEvidence
	answer, err := n.direct.Call(ctx, node, kindEvidence, []byte(app))
	if err == nil {
		err = json.Unmarshal(answer, &e)
	}
	if err == nil && e.Node != node {
		err = errors.New("answered in the name of another node")
	}
	if err != nil {
		return FenceEvidence{Node: node, Region: region, Error: err.Error()}
	}
	e.Region = region // as its certificate says, whatever it says itself
	return e
}

func (n *Node) serveFenceProof(w http.ResponseWriter, r *http.Request) {
	app := r.URL.Query().Get("app")
	if len(app) > maxEvidence {
		writeError(w, http.StatusBadRequest, errors.New("that is no app's id"))
		return
	}
	proof, err := n.proveFence(r.Context(), app)
	if err != nil {
		writeError(w, http.StatusNotFound, err)
		return
	}
	writeJSON(w, http.StatusOK, proof)
}

// SnapshotFile is a snapshot of the control plane on its way to an operator.
type SnapshotFile struct {
	Node  string `json:"node"` // whose log it was taken from
	Image []byte `json:"image"`
}

func (n *Node) serveSnapshot(w http.ResponseWriter, _ *http.Request) {
	image, err := n.control.SaveSnapshot()
	if err != nil {
		writeError(w, http.StatusConflict, err)
		return
	}
	writeJSON(w, http.StatusOK, SnapshotFile{Node: n.cfg.Node, Image: image})
}
