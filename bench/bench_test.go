package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

func TestEveryBenchmarkHasANameAndSaysWhatItMeasures(t *testing.T) {
	seen := make(map[string]bool)
	for _, b := range List() {
		if !regexp.MustCompile(`^[a-z0-9-]{1,40}$`).MatchString(b.Name) || b.About == "" || b.Run == nil || seen[b.Name] {
			t.Errorf("benchmark %q: want a name of its own of a-z, 0-9 and -, a line about it and a function", b.Name)
		}
		seen[b.Name] = true
	}
}

func TestUnknownBenchmarkNamesTheKnownOnes(t *testing.T) {
	_, err := Execute(context.Background(), "nope", Options{})
	if err == nil || !strings.Contains(err.Error(), "braid-cpu") {
		t.Errorf("got %v, want an error that lists what there is", err)
	}
}

// settled records rows and settles them.
func settled(t *testing.T, f func(r *Recorder)) *Recorder {
	t.Helper()
	r := &Recorder{Repeat: 3}
	f(r)
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRatiosAreTakenWithinARepetition(t *testing.T) {
	r := settled(t, func(r *Recorder) {
		// A machine that gets slower during the run: values drift, the ratio does not.
		for _, drift := range []float64{1, 2, 4} {
			r.Row(Row{Name: "plain", Unit: "µs"}, 10*drift)
			r.Row(Row{Name: "ours", Unit: "µs", Baseline: "plain", Must: 0.6, Aim: 0.4}, 5*drift)
		}
	})
	ours := r.rows[1]
	if ours.Ratio == nil || *ours.Ratio != (Spread{0.5, 0.5, 0.5}) || ours.Value != (Spread{10, 5, 20}) {
		t.Errorf("ratio %+v, values %+v: want 0.5 throughout, and a median of 10 between 5 and 20", ours.Ratio, ours.Value)
	}
	if v := ours.verdict(); v != "must" {
		t.Errorf("0.5 against at most 0.6 (aim 0.4) reached %q, want must", v)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		row  Row
		want string
	}{
		{Row{Values: []float64{3}}, ""},
		{Row{Values: []float64{3}, Must: 4, Aim: 3}, "aim"},
		{Row{Values: []float64{3}, Must: 4, Aim: 2}, "must"},
		{Row{Values: []float64{5}, Must: 4, Aim: 2}, "short"},
		{Row{Values: []float64{5}, Must: 4, Aim: 6, More: true}, "must"},
		{Row{Values: []float64{3}, Must: 4, More: true}, "short"},
	} {
		c.row.Name = "x"
		r := settled(t, func(r *Recorder) { r.Row(c.row) })
		if got := r.rows[0].verdict(); got != c.want {
			t.Errorf("%+v reached %q, want %q", c.row, got, c.want)
		}
	}
}

func TestMistakesInABenchmarkAreErrors(t *testing.T) {
	for what, f := range map[string]func(r *Recorder){
		"a row without a value":        func(r *Recorder) { r.Row(Row{Name: "x"}) },
		"a baseline that is not there": func(r *Recorder) { r.Row(Row{Name: "x", Baseline: "y"}, 1) },
		"uneven repetitions":           func(r *Recorder) { r.Row(Row{Name: "y"}, 1, 2); r.Row(Row{Name: "x", Baseline: "y"}, 1, 2, 3) },
	} {
		r := &Recorder{}
		if f(r); r.settle() == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func TestResultAsMarkdownAndJSON(t *testing.T) {
	r := settled(t, func(r *Recorder) {
		r.Row(Row{Name: "plain", Unit: "µs"}, 10, 12, 11)
		r.Row(Row{Name: "ours", Unit: "µs", Baseline: "plain", Must: 1.5}, 5, 6, 5.5)
		r.Table(Table{Title: "more", Columns: []string{"a"}, Rows: [][]string{{"1"}}})
		r.Note("on %s", "loopback")
	})
	res := &Result{Name: "demo", About: "a demonstration", Version: "v", Machine: "m", Rows: r.rows, Tables: r.tables, Notes: r.notes}
	for _, want := range []string{"### demo", "| ours | 5.50 (5-6) | µs | plain | 0.50 | <= 1.50 |  | must |", "| a |\n| --- |\n| 1 |", "on loopback"} {
		if !strings.Contains(res.Markdown(), want) {
			t.Errorf("the Markdown lacks %q:\n%s", want, res.Markdown())
		}
	}
	var b bytes.Buffer
	var back Result
	if err := res.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Rows[1].Ratio.Median != 0.5 {
		t.Errorf("JSON came back as %+v (%v)", back, err)
	}
}

// inBubble is the virtual time of a test.
func inBubble(t *testing.T) func(func()) error {
	return func(f func()) error {
		synctest.Test(t, func(*testing.T) { f() })
		return nil
	}
}

func TestTheGateFailsPastTenPercentAndOnWhatIsNotCommitted(t *testing.T) {
	r := settled(t, func(r *Recorder) {
		r.Row(Row{Name: "plain", Unit: "B"}, 100)
		r.Row(Row{Name: "same", Unit: "B", Gate: true}, 109)
		r.Row(Row{Name: "worse", Unit: "B", Gate: true}, 111)
		r.Row(Row{Name: "better", Unit: "B", Gate: true}, 80)
		r.Row(Row{Name: "less of what should be more", Unit: "share", Gate: true, More: true}, 80)
		r.Row(Row{Name: "near zero", Unit: "packets", Gate: true, Slack: 2}, 2)
		r.Row(Row{Name: "a ratio", Unit: "B", Gate: true, Baseline: "plain"}, 150)
		r.Row(Row{Name: "new", Unit: "B", Gate: true}, 1)
	})
	results := []*Result{{Name: "b", Rows: r.rows}}
	committed := Committed{"b": {"same": 100, "worse": 100, "better": 100, "less of what should be more": 100, "near zero": 0, "a ratio": 1}}
	want := map[string]bool{"same": false, "worse": true, "better": false, "less of what should be more": true, "near zero": false, "a ratio": true, "new": true}
	lines := Gate(results, committed)
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(lines), len(want))
	}
	for _, l := range lines {
		if l.Fails != want[l.Row] || l.Improved != (l.Row == "better") {
			t.Errorf("%s (fails %v, improved %v)", l, l.Fails, l.Improved)
		}
	}
	for _, l := range Gate(results, Commit(results)) {
		if l.Fails || l.Improved {
			t.Errorf("what was just committed: %s", l)
		}
	}
}

func TestGoBenchmarksBecomeRows(t *testing.T) {
	text := "goos: linux\npkg: github.com/ternmesh/tern/routing\nBenchmarkPathSet/n-x=100-2   100   12345 ns/op   1.5 custom/op   2048 B/op   17 allocs/op\nPASS\n" +
		"pkg: github.com/ternmesh/tern/media\nBenchmarkFanOut   100   5 ns/op   0 B/op   0 allocs/op\n"
	results, err := GoResults(strings.NewReader(text))
	if err != nil || len(results) != 2 || results[1].Name != "go routing" || len(results[1].Rows) != 2 {
		t.Fatalf("%+v (%v)", results, err)
	}
	if row := results[1].Rows[1]; row.Name != "BenchmarkPathSet/n-x=100 allocs/op" || row.Values[0] != 17 || !row.Gate {
		t.Errorf("%+v", row)
	}
	if _, err := GoResults(strings.NewReader("BenchmarkX 1 zz B/op 3 allocs/op\n")); err == nil {
		t.Error("a figure that is no number was accepted")
	}
}

func TestExponentsAndPlotsOfACurve(t *testing.T) {
	r := &Recorder{}
	r.Curve(Curve{Name: "Square & more", X: "N", Y: "s", Points: []Point{{1, 3}, {2, 12}, {4, 48}, {8, 192}}})
	r.Curve(Curve{Name: "flat", X: "N", Y: "s", Points: []Point{{1, 5}, {10, 5}, {100, 0}}})
	if e := r.curves[0].Exponent; math.Abs(e-2) > 1e-9 || math.Abs(r.curves[0].Last-2) > 1e-9 {
		t.Errorf("3 x^2 has the exponent %v", e)
	}
	if e := r.curves[1].Exponent; math.Abs(e) > 1e-9 {
		t.Errorf("a constant has the exponent %v", e)
	}
	res, dir := &Result{Name: "g", Curves: r.curves}, t.TempDir()
	if err := res.WritePlots(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"g-square-more.svg", "g-square-more.png", "g-flat.png"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !strings.Contains(res.Markdown(), "| Square & more | s | 1: 3, 2: 12, 4: 48, 8: 192 | 2.00 | 2.00 |") {
		t.Errorf("Markdown:\n%s", res.Markdown())
	}
}
