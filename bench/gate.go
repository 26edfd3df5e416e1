package bench

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// GateTolerance is how much worse than the committed figure a stable one may be.
const GateTolerance = 0.10

// Committed are stable figures by benchmark and row: the ratio where the row has a baseline, else the value. The file in the
// repository is bench/gate.json.
type Committed map[string]map[string]float64

// GateLine is one figure held against the committed one.
type GateLine struct {
	Benchmark, Row  string
	Was, Is         float64
	More            bool // more is better
	Fails, Improved bool // beyond the tolerance
	New             bool // nothing is committed; fails too, so that nobody forgets
}

// String is one line for people.
func (l GateLine) String() string {
	verdict := "ok"
	switch {
	case l.New:
		return fmt.Sprintf("%-9s %s: %s: %s, and nothing is committed", "NEW", l.Benchmark, l.Row, short(l.Is))
	case l.Fails:
		verdict = "WORSE"
	case l.Improved:
		verdict = "better"
	}
	return fmt.Sprintf("%-9s %s: %s: %s, committed %s", verdict, l.Benchmark, l.Row, short(l.Is), short(l.Was))
}

// Gate holds the rows marked Gate against what is committed.
func Gate(results []*Result, committed Committed) (lines []GateLine) {
	for _, r := range results {
		for _, row := range r.Rows {
			if !row.Gate {
				continue
			}
			was, known := committed[r.Name][row.Name]
			l := GateLine{Benchmark: r.Name, Row: row.Name, Was: was, Is: row.judged(), More: row.More, New: !known}
			worse := l.Is - was
			if row.More {
				worse = -worse
			}
			allowed := GateTolerance*was + row.Slack
			l.Fails = l.New || worse > allowed
			l.Improved = known && -worse > allowed
			lines = append(lines, l)
		}
	}
	return lines
}

// Commit is what to write so that results pass.
func Commit(results []*Result) Committed {
	c := make(Committed)
	for _, r := range results {
		for _, row := range r.Rows {
			if !row.Gate {
				continue
			}
			if c[r.Name] == nil {
				c[r.Name] = make(map[string]float64)
			}
			c[r.Name][row.Name] = row.judged()
		}
	}
	return c
}

const (
	// allocSlack and byteSlack let pass what a few rounds of a benchmark make of work that is done once.
	allocSlack = 0.5
	byteSlack  = 64
)

// goUnits are what is read of Go's benchmarks, with the slack of each. Instructions are those of tern bench instructions.
var goUnits = map[string]float64{"allocs/op": allocSlack, "B/op": byteSlack, "instructions/op": 0}

// processors is what Go appends to a benchmark's name if there are several.
var processors = regexp.MustCompile(`-\d+$`)

// GoResults reads what go test -bench -benchmem and tern bench instructions print: allocations, bytes and instructions of each
// benchmark, one result for each package.
func GoResults(r io.Reader) ([]*Result, error) {
	byPackage := make(map[string]*Result)
	pkg := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && fields[0] == "pkg:" {
			pkg = fields[1][strings.LastIndexByte(fields[1], '/')+1:]
		}
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := processors.ReplaceAllString(fields[0], "")
		for i := 2; i+1 < len(fields); i += 2 {
			slack, ok := goUnits[fields[i+1]]
			if !ok {
				continue
			}
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", lines.Text(), err)
			}
			if byPackage[pkg] == nil {
				byPackage[pkg] = &Result{Name: "go " + pkg}
			}
			row := &Row{Name: name + " " + fields[i+1], Unit: fields[i+1], Gate: true, Slack: slack, Values: []float64{v}, Value: spreadOf([]float64{v})}
			byPackage[pkg].Rows = append(byPackage[pkg].Rows, row)
		}
	}
	var out []*Result
	for _, name := range slices.Sorted(maps.Keys(byPackage)) {
		out = append(out, byPackage[name])
	}
	return out, lines.Err()
}
