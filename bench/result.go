package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ternmesh/tern/sim/run"
)

// Result is what a benchmark found, as its JSON file holds it.
type Result struct {
	Name        string   `json:"name"`
	About       string   `json:"about"`
	Version     string   `json:"version"`
	Machine     string   `json:"machine"`
	Repeat      int      `json:"repeat"`
	WallSeconds float64  `json:"wall_s"`
	Rows        []*Row   `json:"rows"`
	Curves      []Curve  `json:"curves,omitempty"`
	Tables      []Table  `json:"tables,omitempty"`
	Notes       []string `json:"notes,omitempty"`
}

// Row is one figure, with its spread and its ratio to a baseline of the same run.
type Row struct {
	Name     string  `json:"name"`               // unique in its benchmark: what was measured, and how
	Unit     string  `json:"unit"`               // of the values: µs/packet, packets, ms, B
	Baseline string  `json:"baseline,omitempty"` // name of the row that this one is divided by
	Must     float64 `json:"must,omitempty"`     // worst acceptable ratio, or value where there is no baseline; 0: none stated
	Aim      float64 `json:"aim,omitempty"`      // what we want it to be
	More     bool    `json:"more,omitempty"`     // more is better: Must and Aim are floors, not ceilings
	Gate     bool    `json:"gate,omitempty"`     // stable: CI compares it with the committed figure
	Slack    float64 `json:"slack,omitempty"`    // absolute difference that the gate lets pass, for figures near 0

	Values []float64 `json:"values"` // one for each repetition
	Value  Spread    `json:"value"`  // of Values
	Ratio  *Spread   `json:"ratio,omitempty"`
}

// Spread is a median and a range.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Table is for what does not fit rows of one figure each.
type Table struct {
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Notes   []string   `json:"notes,omitempty"`
}

// Recorder takes a benchmark's figures. One goroutine at a time uses it.
type Recorder struct {
	Repeat int        // how often noisy figures are to be taken
	Bubble run.Bubble // runs a function in virtual time

	progress io.Writer // for Say; nil: nobody listens
	rows     []*Row
	curves   []Curve
	tables   []Table
	notes    []string
}

// Row adds values to the row of that name, which the first call describes. Values of one repetition of a row and of its baseline must
// come in the same order, for ratios are taken within a repetition.
func (r *Recorder) Row(row Row, values ...float64) {
	i := slices.IndexFunc(r.rows, func(have *Row) bool { return have.Name == row.Name })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row)
	}
	r.rows[i].Values = append(r.rows[i].Values, values...)
}

// Say tells whoever waits what was found so far, a line at a time: a run of an hour that is stopped has then not been for nothing.
func (r *Recorder) Say(format string, args ...any) {
	if r.progress != nil {
		fmt.Fprintf(r.progress, format+"\n", args...)
	}
}

// Table adds a table.
func (r *Recorder) Table(t Table) { r.tables = append(r.tables, t) }

// Note adds a remark: where and how the figures were taken, what they do not say.
func (r *Recorder) Note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// settle computes spreads and ratios.
func (r *Recorder) settle() error {
	for _, row := range r.rows {
		if len(row.Values) == 0 {
			return fmt.Errorf("row %q has no value", row.Name)
		}
		row.Value = spreadOf(row.Values)
		if row.Baseline == "" {
			continue
		}
		i := slices.IndexFunc(r.rows, func(b *Row) bool { return b.Name == row.Baseline })
		if i < 0 {
			return fmt.Errorf("row %q has the baseline %q, which was not measured", row.Name, row.Baseline)
		}
		ratios, err := ratiosOf(row.Values, r.rows[i].Values)
		if err != nil {
			return fmt.Errorf("row %q by %q: %w", row.Name, row.Baseline, err)
		}
		if len(ratios) > 0 {
			s := spreadOf(ratios)
			row.Ratio = &s
		}
	}
	return nil
}

// ratiosOf divides repetition by repetition; a baseline of one value serves all. A baseline of 0 has no ratio.
func ratiosOf(values, baseline []float64) (ratios []float64, err error) {
	if len(baseline) != len(values) && len(baseline) != 1 {
		return nil, fmt.Errorf("%d values against %d", len(values), len(baseline))
	}
	for i, v := range values {
		if b := baseline[min(i, len(baseline)-1)]; b != 0 {
			ratios = append(ratios, v/b)
		}
	}
	return ratios, nil
}

// spreadOf is the median (of an even number, the upper one) and the range of at least one value.
func spreadOf(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	return Spread{Median: v[len(v)/2], Low: v[0], High: v[len(v)-1]}
}

// judged is what Must and Aim are about.
func (r *Row) judged() float64 {
	if r.Baseline != "" && r.Ratio != nil {
		return r.Ratio.Median
	}
	return r.Value.Median
}

// verdict holds the figure against what was stated: "", "aim", "must" or "short".
func (r *Row) verdict() string {
	reached := func(bound float64) bool { return bound != 0 && (r.judged() <= bound) != r.More || r.judged() == bound }
	switch {
	case r.Must == 0 && r.Aim == 0:
		return ""
	case r.Aim != 0 && reached(r.Aim):
		return "aim"
	case r.Must != 0 && reached(r.Must):
		return "must"
	}
	return "short"
}

// WriteJSON writes the result, indented.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Markdown is the result for people: a table of rows, then the other tables and the notes.
func (r *Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n%s (%s; version %s; took %.0f s)\n", r.Name, r.About, r.Machine, r.Version, r.WallSeconds)
	if len(r.Rows) > 0 {
		t := Table{Columns: []string{"figure", "median (range)", "unit", "by", "ratio (range)", "must", "aim", "reached"}}
		for _, row := range r.Rows {
			t.Rows = append(t.Rows, row.cells())
		}
		b.WriteString(t.markdown())
	}
	if len(r.Curves) > 0 {
		b.WriteString(curveTable(r.Curves))
	}
	for _, t := range r.Tables {
		b.WriteString(t.markdown())
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	return b.String()
}

func (r *Row) cells() []string {
	ratio := ""
	if r.Ratio != nil {
		ratio = r.Ratio.String()
	}
	bound := func(v float64) string {
		switch {
		case v == 0:
			return ""
		case r.More:
			return ">= " + short(v)
		}
		return "<= " + short(v)
	}
	return []string{r.Name, r.Value.String(), r.Unit, r.Baseline, ratio, bound(r.Must), bound(r.Aim), r.verdict()}
}

// String is "median (low-high)", or the median alone if there is no range.
func (s Spread) String() string {
	if s.Low == s.High {
		return short(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", short(s.Median), short(s.Low), short(s.High))
}

// short is a number with about three significant digits and no exponent.
func short(v float64) string {
	size := max(v, -v)
	switch {
	case v == float64(int64(v)) || size >= 1000:
		return fmt.Sprintf("%.0f", v)
	case size >= 100:
		return fmt.Sprintf("%.1f", v)
	case size >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

func (t Table) markdown() string {
	var b strings.Builder
	if t.Title != "" {
		fmt.Fprintf(&b, "\n%s\n", t.Title)
	}
	row := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	b.WriteString("\n")
	row(t.Columns)
	row(slices.Repeat([]string{"---"}, len(t.Columns)))
	for _, cells := range t.Rows {
		row(cells)
	}
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	return b.String()
}
