package routing

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	maxMatrixRows = 2_000_000 // a full mesh of 1,400 nodes
	maxMatrixName = 253
	maxMatrixRTT  = 600_000.0 // ms; a round trip of ten minutes is a mistake

	mostComplaints = 10 // wrong lines that are named
)

// ReadMatrix reads round trips as CSV with the columns from, to, rtt_ms and, if given, loss (0-1); a first line that starts
// with "from" names them. A link's one-way latency is half the round trip. A row is one direction; where the other is
// absent it gets the same numbers. Every node is in a region of its own name. The error names every line that is wrong, up to ten.
func ReadMatrix(r io.Reader) (*Graph, error) {
	in := csv.NewReader(bufio.NewReader(r))
	in.FieldsPerRecord = -1 // checked below, with a better text
	in.TrimLeadingSpace = true
	in.Comment = '#'
	m := matrix{links: make(map[[2]string]Link)}
	var wrong []error
	for first := true; ; first = false {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err // *csv.ParseError says the line
		}
		line, _ := in.FieldPos(0)
		if first && strings.EqualFold(strings.TrimSpace(strings.TrimPrefix(row[0], "\ufeff")), "from") {
			continue
		}
		if err := m.add(row); err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", line, err))
		}
		if len(wrong) == mostComplaints {
			return nil, errors.Join(append(wrong, errors.New("perhaps more; the rest was not read"))...)
		}
		if len(m.links) > maxMatrixRows {
			return nil, fmt.Errorf("line %d: more than %d links", line, maxMatrixRows)
		}
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	if len(m.links) == 0 {
		return nil, errNoLinks
	}
	return m.graph(), nil
}

var errNoLinks = errors.New("no links; want lines of from,to,rtt_ms[,loss], or what tern export graph writes")

type matrix struct {
	links map[[2]string]Link
}

func (m *matrix) add(row []string) error {
	if len(row) != 3 && len(row) != 4 {
		return fmt.Errorf("%d columns; want from,to,rtt_ms[,loss]", len(row))
	}
	l := Link{From: strings.TrimSpace(row[0]), To: strings.TrimSpace(row[1])}
	for _, name := range []string{l.From, l.To} {
		if name == "" || len(name) > maxMatrixName {
			return fmt.Errorf("node name %.40q; want 1-%d characters", name, maxMatrixName)
		}
	}
	rtt, err := number(row[2], "rtt_ms", maxMatrixRTT)
	if err != nil {
		return err
	}
	if len(row) == 4 && strings.TrimSpace(row[3]) != "" {
		if l.Loss, err = number(row[3], "loss", 1); err != nil {
			return err
		}
	}
	if l.From == l.To {
		return nil // the diagonal of a full matrix
	}
	ends := [2]string{l.From, l.To}
	if _, twice := m.links[ends]; twice {
		return fmt.Errorf("link %s to %s is there twice", l.From, l.To)
	}
	l.Latency = time.Duration(rtt / 2 * float64(time.Millisecond))
	m.links[ends] = l
	return nil
}

// number reads a decimal in [0, limit]; written so that NaN fails.
func number(s, what string, limit float64) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		return 0, fmt.Errorf("%s %.40q is not a number", what, s)
	}
	if !(v >= 0 && v <= limit) {
		return 0, fmt.Errorf("%s %.40q is out of range; want 0 to %g", what, s, limit)
	}
	return v, nil
}

func (m *matrix) graph() *Graph {
	seen := make(map[string]bool)
	var nodes []Node
	var links []Link
	for ends, l := range m.links {
		for _, name := range ends {
			if !seen[name] {
				seen[name] = true
				nodes = append(nodes, Node{Name: name, Region: name})
			}
		}
		links = append(links, l)
		if _, both := m.links[[2]string{l.To, l.From}]; !both {
			l.From, l.To = l.To, l.From
			links = append(links, l)
		}
	}
	return NewGraph(nodes, links)
}
