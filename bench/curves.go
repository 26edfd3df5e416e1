package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	_ "gonum.org/v1/plot/vg/vgimg" // the formats of files
	_ "gonum.org/v1/plot/vg/vgsvg"
)

// Curve adds a curve; its exponents are computed here.
func (r *Recorder) Curve(c Curve) {
	c.Exponent, c.Last = exponent(c.Points), exponent(c.Points[max(0, len(c.Points)-2):])
	r.curves = append(r.curves, c)
}

// curveTable is all curves as one table.
func curveTable(curves []Curve) string {
	t := Table{Columns: []string{"cost", "unit", "at", "exponent", "between the last two"}}
	for _, c := range curves {
		var at []string
		for _, p := range c.Points {
			at = append(at, fmt.Sprintf("%s: %s", short(p.X), precise(p.Y)))
		}
		t.Rows = append(t.Rows, []string{c.Name, c.Y, strings.Join(at, ", "), fmt.Sprintf("%.2f", c.Exponent), fmt.Sprintf("%.2f", c.Last)})
	}
	return t.markdown()
}

// precise is a number of any size with three digits.
func precise(v float64) string { return fmt.Sprintf("%.3g", v) }

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// WritePlots draws each curve on logarithmic axes, as SVG and as PNG, into a folder, which it makes. A result without curves writes
// nothing.
func (r *Result) WritePlots(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range r.Curves {
		p := plot.New()
		p.Title.Text = fmt.Sprintf("%s: N^%.2f", c.Name, c.Exponent)
		p.X.Label.Text, p.Y.Label.Text = c.X, c.Y
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: 3}
		var points plotter.XYs
		for _, one := range c.Points {
			if one.X > 0 && one.Y > 0 {
				points = append(points, plotter.XY{X: one.X, Y: one.Y})
			}
		}
		if len(points) < 2 {
			continue // nothing that logarithms could show
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return fmt.Errorf("plot of %s: %w", c.Name, err)
		}
		p.Add(plotter.NewGrid(), line, dots)
		name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(c.Name), "-"), "-")
		for _, format := range []string{".svg", ".png"} {
			if err := p.Save(14*vg.Centimeter, 9*vg.Centimeter, filepath.Join(dir, r.Name+"-"+name+format)); err != nil {
				return fmt.Errorf("plot of %s: %w", c.Name, err)
			}
		}
	}
	return nil
}
