package run

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth, plotHeight = 16 * vg.Centimeter, 8 * vg.Centimeter
	mapWidth, mapHeight   = 26 * vg.Centimeter, 12 * vg.Centimeter
	// plotMargin is left on the right for the last label of the axis.
	plotMargin = 14 * vg.Length(1)
	// legendRoom is how much wider a browser's letters may be than the library counts with.
	legendRoom = 1.3
	// plotGap is how many steps without a point end a line: it must not lead through times of which nothing is known.
	plotGap = 2.5
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

// paint draws a plot with its legend beside it, where it hides nothing.
func paint(p *plot.Plot, c draw.Canvas) {
	legend := p.Legend
	room := legend.Rectangle(c)
	width := legendRoom * (room.Max.X - room.Min.X)
	legend.Left = true // signs before names, which have the margin behind them
	legend.Draw(draw.Crop(c, c.Max.X-c.Min.X-width, 0, 0, 0))
	p.Legend = plot.NewLegend()
	p.Draw(draw.Crop(c, 0, -width-plotMargin, 0, -plotMargin/2))
	p.Legend = legend
}

// render turns a plot into an SVG element without a prologue, so that it may stand inside HTML.
func render(p *plot.Plot, title string) (figure, error) {
	return renderSized(p, title, plotWidth, plotHeight)
}

func renderSized(p *plot.Plot, title string, width, height vg.Length) (figure, error) {
	canvas := vgsvg.New(width, height)
	paint(p, draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return figure{}, err
	}
	svg := b.String()
	if i := strings.Index(svg, "<svg"); i > 0 {
		svg = svg[i:]
	}
	return figure{Title: title, SVG: template.HTML(svg), plot: p, width: width, height: height}, nil // made by the plotting library, which escapes labels
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

// curves adds a line over time, in pieces where it lacks points; nothing without any.
func curves(p *plot.Plot, name string, points plotter.XYs, step time.Duration, i int, dashed bool) error {
	for from, at := 0, 1; at <= len(points); at++ {
		if at < len(points) && points[at].X-points[at-1].X <= plotGap*step.Seconds() {
			continue
		}
		if err := curve(p, name, points[from:at], i, dashed); err != nil {
			return err
		}
		from, name = at, ""
	}
	return nil
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
	if err := curves(p, "delivered, mean", mean, s.step, 0, false); err != nil {
		return figure{}, err
	}
	if err := curves(p, "delivered, slowest", worst, s.step, 0, true); err != nil {
		return figure{}, err
	}
	for i, path := range s.paths() {
		var points plotter.XYs
		for _, pt := range path.series {
			if pt.delayMS > 0 && pt.sent > 0 {
				points = append(points, plotter.XY{X: pt.at.Seconds(), Y: pt.delayMS})
			}
		}
		if err := curves(p, path.legend(), points, s.step, i+1, false); err != nil {
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
		if err := curves(p, "lost "+path.legend(), points, s.step, i+1, false); err != nil {
			return figure{}, err
		}
	}
	if err := curves(p, "undelivered", missing, s.step, 0, false); err != nil {
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
