package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// braidTable is one table of a report.
type braidTable struct {
	Title   string     `json:"title"`
	Notes   []string   `json:"notes"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// braidTables collects the tables of a run, so that the JSON file holds them all.
var braidTables struct {
	sync.Mutex
	all []braidTable
}

// print writes the table as Markdown to stdout, and all tables so far as JSON to the file that TERN_BENCH_JSON names.
func (r braidTable) print(b *testing.B) {
	b.Helper()
	var s strings.Builder
	fmt.Fprintf(&s, "\n### %s\n\n", r.Title)
	row := func(cells []string) { fmt.Fprintf(&s, "| %s |\n", strings.Join(cells, " | ")) }
	row(r.Columns)
	row(slices.Repeat([]string{"---"}, len(r.Columns)))
	for _, cells := range r.Rows {
		row(cells)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&s, "\n%s\n", note)
	}
	fmt.Println(s.String())

	braidTables.Lock()
	defer braidTables.Unlock()
	braidTables.all = append(braidTables.all, r)
	path := os.Getenv("TERN_BENCH_JSON")
	if path == "" {
		return
	}
	doc, err := json.MarshalIndent(braidTables.all, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(doc, '\n'), 0o644)
	}
	if err != nil {
		b.Errorf("writing the report: %v", err)
	}
}

// median of values, and their range.
func median(values []float64) (mid, low, high float64) {
	v := slices.Sorted(slices.Values(values))
	return v[len(v)/2], v[0], v[len(v)-1]
}
