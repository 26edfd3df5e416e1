package routing

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode"
)

// exported is a graph as a file: everything that routing knows of it. Delays are one-way milliseconds.
type exported struct {
	Nodes []exportedNode `json:"nodes"`
	Links []exportedLink `json:"links"`
}

type exportedNode struct {
	Name   string   `json:"name"`
	Region string   `json:"region"`
	Risks  []string `json:"risks,omitempty"`
	Avoid  bool     `json:"avoid,omitempty"` // relays for nobody
	Full   bool     `json:"full,omitempty"`  // takes no new paths
	Load   float64  `json:"load,omitempty"`
}

type exportedLink struct {
	From      string  `json:"from"`
	To        string  `json:"to"`
	LatencyMS float64 `json:"latency_ms"`
	JitterMS  float64 `json:"jitter_ms,omitempty"`
	Loss      float64 `json:"loss,omitempty"`
	Load      float64 `json:"load,omitempty"`
	Down      bool    `json:"down,omitempty"`
}

const (
	maxGraphBytes = 256 << 20
	maxGraphNodes = 10_000
)

// Export writes the graph as JSON that ReadGraph reads. What the operator's bounds add is not part of it.
func (g *Graph) Export(w io.Writer) error {
	out := exported{Nodes: []exportedNode{}, Links: []exportedLink{}}
	for _, n := range g.nodes {
		out.Nodes = append(out.Nodes, exportedNode{n.Name, n.Region, n.Risks, n.Avoid, n.Full, n.Load})
	}
	for _, l := range g.Links() {
		out.Links = append(out.Links, exportedLink{
			l.From, l.To, milliseconds(int64(l.Latency)), milliseconds(int64(l.Jitter)), l.Loss, l.Load, l.Down,
		})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(out)
}

// ExportMatrix writes the links that are up as the CSV that ReadMatrix reads: from,to,rtt_ms,loss. Jitter, load, regions and
// risks are lost.
func (g *Graph) ExportMatrix(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "from,to,rtt_ms,loss")
	for _, l := range g.Links() {
		if l.usable() {
			fmt.Fprintf(b, "%s,%s,%g,%g\n", l.From, l.To, 2*milliseconds(int64(l.Latency)), l.Loss)
		}
	}
	return b.Flush()
}

// ReadGraph reads what Export wrote, or a matrix (see ReadMatrix): JSON begins with a brace.
func ReadGraph(r io.Reader) (*Graph, error) {
	in := bufio.NewReader(io.LimitReader(r, maxGraphBytes))
	for {
		c, _, err := in.ReadRune()
		if errors.Is(err, io.EOF) {
			return nil, errNoLinks
		}
		if err != nil {
			return nil, err
		}
		if unicode.IsSpace(c) || c == '\ufeff' {
			continue
		}
		if err := in.UnreadRune(); err != nil {
			return nil, err
		}
		if c == '{' {
			return readExport(in)
		}
		return ReadMatrix(in)
	}
}

func readExport(r io.Reader) (*Graph, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var in exported
	if err := d.Decode(&in); err != nil {
		line := 1 + bytes.Count(text[:min(int(d.InputOffset()), len(text))], []byte("\n"))
		return nil, fmt.Errorf("line %d: %w; want what tern export graph writes", line, err)
	}
	return in.graph()
}

// graph checks every number: a file may come from anywhere.
func (in *exported) graph() (*Graph, error) {
	if len(in.Nodes) > maxGraphNodes || len(in.Links) > maxMatrixRows {
		return nil, fmt.Errorf("%d nodes and %d links; at most %d and %d", len(in.Nodes), len(in.Links), maxGraphNodes, maxMatrixRows)
	}
	known := make(map[string]bool)
	var nodes []Node
	for i, n := range in.Nodes {
		switch {
		case n.Name == "" || len(n.Name) > maxMatrixName:
			return nil, fmt.Errorf("nodes[%d]: name %.40q; want 1-%d characters", i, n.Name, maxMatrixName)
		case known[n.Name]:
			return nil, fmt.Errorf("nodes[%d]: %q is there twice", i, n.Name)
		case !(n.Load >= 0):
			return nil, fmt.Errorf("nodes[%d]: load %g is below nothing", i, n.Load)
		}
		known[n.Name] = true
		nodes = append(nodes, Node{Name: n.Name, Region: n.Region, Risks: n.Risks, Avoid: n.Avoid, Full: n.Full, Load: n.Load})
	}
	var links []Link
	for i, l := range in.Links {
		link := Link{
			From: l.From, To: l.To, Latency: duration(l.LatencyMS), Jitter: duration(l.JitterMS), Loss: l.Loss, Load: l.Load, Down: l.Down,
		}
		switch {
		case !known[l.From] || !known[l.To] || l.From == l.To:
			return nil, fmt.Errorf("links[%d]: %q to %q: both must be among nodes, and differ", i, l.From, l.To)
		case !link.sane():
			return nil, fmt.Errorf("links[%d]: %s to %s: latency %g ms, jitter %g ms, loss %g, load %g cannot be a measurement", i, l.From, l.To, l.LatencyMS, l.JitterMS, l.Loss, l.Load)
		}
		links = append(links, link)
	}
	if len(links) == 0 {
		return nil, errNoLinks
	}
	return NewGraph(nodes, links), nil
}

// duration of milliseconds; what is far out of range becomes negative, which no measurement is.
func duration(ms float64) time.Duration {
	if !(ms >= 0 && ms <= float64(maxLatency/time.Millisecond)) {
		return -1
	}
	return time.Duration(ms*float64(time.Millisecond) + 0.5)
}
