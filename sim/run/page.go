package run

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	_ "gonum.org/v1/plot/vg/vgimg" // the format of PNG files

	"github.com/ternmesh/tern/sim/run/measure"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// pageData is what the HTML shows beyond the JSON.
type pageData struct {
	scenario *scenario.Scenario
	streams  []pageStream
}

// pageStream is one stream at one destination.
type pageStream struct {
	report StreamReport
	result measure.Result
	step   time.Duration
	from   time.Duration // when figures start
	track  *sessionTrack // nil for a viewer at the publisher's node
}

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"join":    func(hops []string) string { return strings.Join(hops, " › ") },
	"percent": func(x float64) string { return fmt.Sprintf("%.4g %%", 100*x) },
	"f1":      func(x float64) string { return fmt.Sprintf("%.1f", x) },
	"f2":      func(x float64) string { return fmt.Sprintf("%.2f", x) },
	"mega":    func(b uint64) string { return fmt.Sprintf("%.1f", float64(b)/1e6) },
	"share": func(part, of uint64) string {
		if of == 0 {
			return "–"
		}
		return fmt.Sprintf("%.3g %%", 100*float64(part)/float64(of))
	},
}).Parse(pageSource))

// figure is one plot as SVG.
type figure struct {
	Title string
	SVG   template.HTML
	name  string     // of a file
	plot  *plot.Plot // nil if there is nothing to draw

	width, height vg.Length
}

// pageView is what the template shows.
type pageView struct {
	*Report
	About   string
	Map     figure
	Streams []streamView
}

type streamView struct {
	StreamReport
	Figures []figure
}

// WriteHTML writes the report as one file that needs no other: plots are SVG within it.
func (r *Report) WriteHTML(w io.Writer) error {
	view, err := r.view()
	if err != nil {
		return err
	}
	return pageTemplate.Execute(w, view)
}

// view draws everything.
func (r *Report) view() (pageView, error) {
	view := pageView{Report: r, About: r.page.scenario.About}
	m, err := r.page.drawMap()
	if err != nil {
		return view, fmt.Errorf("map: %w", err)
	}
	view.Map = m
	for _, s := range r.page.streams {
		one := streamView{StreamReport: s.report}
		for _, draw := range plots {
			f, err := draw.draw(s, r.Events)
			if err != nil {
				return view, fmt.Errorf("plot of %s at %s: %w", s.report.Name, s.report.To, err)
			}
			if f.plot != nil {
				f.name = fmt.Sprintf("%s-%s-%s", s.report.Name, s.report.To, draw.name)
				one.Figures = append(one.Figures, f)
			}
		}
		view.Streams = append(view.Streams, one)
	}
	return view, nil
}

// plots are those of each stream.
var plots = []struct {
	name string
	draw func(pageStream, []EventReport) (figure, error)
}{{"latency", drawLatency}, {"loss", drawLoss}, {"cdf", drawCDF}, {"rescued", drawRescued}}

// WritePlots writes the map and every plot into a folder, each as SVG and as PNG: map.svg, STREAM-TO-latency.png and so on. It makes
// the folder.
func (r *Report) WritePlots(dir string) error {
	view, err := r.view()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	view.Map.name = "map"
	figures := []figure{view.Map}
	for _, s := range view.Streams {
		figures = append(figures, s.Figures...)
	}
	for _, f := range figures {
		if f.plot == nil {
			continue
		}
		for _, format := range []string{"svg", "png"} {
			if err := f.save(filepath.Join(dir, f.name), format); err != nil {
				return fmt.Errorf("plot %s: %w", f.name, err)
			}
		}
	}
	return nil
}

// save writes the plot as it is on the page.
func (f figure) save(name, format string) (err error) {
	canvas, err := draw.NewFormattedCanvas(f.width, f.height, format)
	if err != nil {
		return err
	}
	paint(f.plot, draw.New(canvas))
	out, err := os.Create(name + "." + format)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(out)
	return errors.Join(err, out.Close())
}
