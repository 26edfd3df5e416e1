package run

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth, plotHeight = 16 * vg.Centimeter, 8 * vg.Centimeter
	// mostMarks bounds the event marks in a plot; beyond it they would hide the curves.
	mostMarks = 40
	// mostPaths bounds the paths that are drawn, busiest first.
	mostPaths = 6
)

// palette tells curves apart, also for people who see few colours: the first is what viewers got.
var palette = []color.RGBA{
	{0x11, 0x11, 0x11, 0xff}, {0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
	{0xcc, 0x79, 0xa7, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
}

func tint(i int) color.RGBA { return palette[i%len(palette)] }

// render turns a plot into an SVG element without a prologue, so that it may stand inside HTML.
func render(p *plot.Plot, title string) (figure, error) {
	canvas := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return figure{}, err
	}
	svg := b.String()
	if i := strings.Index(svg, "<svg"); i > 0 {
		svg = svg[i:]
	}
	return figure{Title: title, SVG: template.HTML(svg), plot: p}, nil // made by the plotting library, which escapes labels
}

func newPlot(x, y string) *plot.Plot {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Legend.Top = true
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	p.BackgroundColor = color.White
	p.Add(plotter.NewGrid())
	return p
}

// curve adds a line; nothing without points.
func curve(p *plot.Plot, name string, points plotter.XYs, i int, dashed bool) error {
	if len(points) == 0 {
		return nil
	}
	l, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	l.Color, l.Width = tint(i), vg.Points(1.2)
	if dashed {
		l.Dashes = []vg.Length{vg.Points(3), vg.Points(2)}
	}
	p.Add(l)
	if name != "" {
		p.Legend.Add(name, l)
	}
	return nil
}

// mark draws a line where each event begins, and a shade over those that last.
func mark(p *plot.Plot, events []EventReport) error {
	low, high := p.Y.Min, p.Y.Max
	for _, e := range events[:min(len(events), mostMarks)] {
		if e.For > 0 {
			shade, err := plotter.NewPolygon(plotter.XYs{{X: e.At, Y: low}, {X: e.At + e.For, Y: low}, {X: e.At + e.For, Y: high}, {X: e.At, Y: high}})
			if err != nil {
				return err
			}
			shade.Color, shade.LineStyle.Width = color.NRGBA{0xd5, 0x5e, 0x00, 0x22}, 0
			p.Add(shade)
		}
		l, err := plotter.NewLine(plotter.XYs{{X: e.At, Y: low}, {X: e.At, Y: high}})
		if err != nil {
			return err
		}
		l.Color, l.Width = color.NRGBA{0xb3, 0x26, 0x1e, 0x99}, vg.Points(0.7)
		p.Add(l)
	}
	return nil
}

// paths are those that are drawn.
func (s pageStream) paths() []*pathTrack {
	if s.track == nil {
		return nil
	}
	all := s.track.ordered()
	return all[:min(len(all), mostPaths)]
}

// legend names a path by its relays.
func (t *pathTrack) legend() string {
	if len(t.hops) <= 2 {
		return "direct"
	}
	return "via " + strings.Join(t.hops[1:len(t.hops)-1], ", ")
}

func drawLatency(s pageStream, events []EventReport) (figure, error) {
	p := newPlot("seconds", "one-way milliseconds")
	var mean, worst plotter.XYs
	for i, b := range s.result.Series {
		if b.Delivered > 0 {
			at := float64(i) * s.step.Seconds()
			mean = append(mean, plotter.XY{X: at, Y: float64(b.LatencySum) / float64(b.Delivered) / 1e6})
			worst = append(worst, plotter.XY{X: at, Y: float64(b.LatencyMax) / 1e6})
		}
	}
	if len(mean) == 0 {
		return figure{}, nil
	}
	if err := curve(p, "delivered, mean", mean, 0, false); err != nil {
		return figure{}, err
	}
	if err := curve(p, "delivered, slowest", worst, 0, true); err != nil {
		return figure{}, err
	}
	for i, path := range s.paths() {
		var points plotter.XYs
		for _, pt := range path.series {
			if pt.delayMS > 0 && pt.sent > 0 {
				points = append(points, plotter.XY{X: pt.at.Seconds(), Y: pt.delayMS})
			}
		}
		if err := curve(p, path.legend(), points, i+1, false); err != nil {
			return figure{}, err
		}
	}
	if err := mark(p, events); err != nil {
		return figure{}, err
	}
	return render(p, fmt.Sprintf("Latency over time, in spells of %v; marks are events. A path's delay is smoothed.", s.step))
}

func drawLoss(s pageStream, events []EventReport) (figure, error) {
	p := newPlot("seconds", "percent")
	var missing plotter.XYs
	for i, b := range s.result.Series {
		if at := float64(i) * s.step.Seconds(); b.Sent > 0 && at >= s.from.Seconds() {
			lost := 100 * (1 - float64(b.Delivered)/float64(b.Sent))
			missing = append(missing, plotter.XY{X: at, Y: max(0, lost)})
		}
	}
	if len(missing) == 0 {
		return figure{}, nil
	}
	for i, path := range s.paths() {
		var points plotter.XYs
		for _, pt := range path.series {
			if pt.sent > 0 && pt.at >= s.from {
				points = append(points, plotter.XY{X: pt.at.Seconds(), Y: min(100, 100*float64(pt.lost)/float64(pt.sent))})
			}
		}
		if err := curve(p, "lost "+path.legend(), points, i+1, false); err != nil {
			return figure{}, err
		}
	}
	if err := curve(p, "undelivered", missing, 0, false); err != nil {
		return figure{}, err
	}
	p.Y.Min, p.Y.Max = 0, max(1, p.Y.Max)
	if err := mark(p, events); err != nil {
		return figure{}, err
	}
	return render(p, "Loss over time: of copies on each path, and of packets at the viewer.")
}

func drawCDF(s pageStream, _ []EventReport) (figure, error) {
	p := newPlot("one-way milliseconds", "share of sent packets")
	var points plotter.XYs
	for _, pt := range s.result.CDF {
		points = append(points, plotter.XY{X: float64(pt.Latency) / 1e6, Y: pt.Share * (1 - s.report.UndeliveredRatio)})
	}
	if len(points) < 2 {
		return figure{}, nil
	}
	if err := curve(p, "", points, 1, false); err != nil {
		return figure{}, err
	}
	p.Y.Min, p.Y.Max = 0, 1
	return render(p, "Cumulative distribution of latency. It ends below 1 by what was not delivered.")
}

func drawRescued(s pageStream, _ []EventReport) (figure, error) {
	paths := s.paths()
	if len(paths) == 0 {
		return figure{}, nil
	}
	p := newPlot("", "packets")
	var first, rescued plotter.Values
	var names []string
	for _, path := range paths {
		first, rescued, names = append(first, float64(path.first)), append(rescued, float64(path.rescued)), append(names, path.legend())
	}
	width := vg.Points(18)
	for i, values := range []plotter.Values{first, rescued} {
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return figure{}, err
		}
		bars.Color, bars.LineStyle.Width, bars.Offset = tint(i+1), 0, vg.Length(2*i-1)*width/2
		p.Add(bars)
		p.Legend.Add([]string{"first to arrive", "rescued"}[i], bars)
	}
	p.NominalX(names...)
	p.X.Tick.Label.Font.Size = vg.Points(8)
	return render(p, "What each path brought first, and of that what the path of lowest cost had lost.")
}
