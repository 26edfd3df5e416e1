package run

import (
	"image/color"
	"math"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// place is a city's latitude and longitude in degrees.
type place struct{ lat, lon float64 }

// places are cities that maps know. Nodes elsewhere are drawn in a row below.
var places = map[string]place{
	"Amsterdam": {52.37, 4.90}, "Ashburn": {39.05, -77.49}, "Dallas": {32.78, -96.80}, "Dubai": {25.20, 55.27},
	"Frankfurt": {50.11, 8.68}, "Hong Kong": {22.32, 114.17}, "Johannesburg": {-26.20, 28.05}, "London": {51.51, -0.13},
	"Madrid": {40.42, -3.70}, "Mumbai": {19.08, 72.88}, "New York": {40.71, -74.01}, "Paris": {48.86, 2.35},
	"San Francisco": {37.77, -122.42}, "Sao Paulo": {-23.56, -46.64}, "Seoul": {37.57, 126.98}, "Singapore": {1.35, 103.82},
	"Stockholm": {59.33, 18.07}, "Sydney": {-33.87, 151.21}, "Tokyo": {35.68, 139.65}, "Toronto": {43.65, -79.38},
}

// drawMap shows nodes where their cities are, and every path that carried a stream.
func (d pageData) drawMap() (figure, error) {
	p := newPlot("longitude", "latitude")
	at := d.positions()
	drawn := make(map[string]bool)
	for i, s := range d.streams {
		for _, path := range s.paths() {
			name := path.legend() + s.report.From + s.report.To
			if drawn[name] || len(drawn) > 60 {
				continue
			}
			drawn[name] = true
			var points plotter.XYs
			for _, hop := range path.hops {
				points = append(points, at[hop])
			}
			if err := curve(p, "", points, i+1, len(path.hops) > 2); err != nil {
				return figure{}, err
			}
		}
	}
	var points plotter.XYs
	var names []string
	for _, n := range d.scenario.Nodes {
		points, names = append(points, at[n.Name]), append(names, " "+n.Name)
	}
	dots, err := plotter.NewScatter(points)
	if err != nil {
		return figure{}, err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: color.RGBA{0x11, 0x11, 0x11, 0xff}, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: points, Labels: names})
	if err != nil {
		return figure{}, err
	}
	p.Add(dots, labels)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -180, 180, -75, 75
	return renderSized(p, "Nodes and the paths that carried streams; direct paths are solid, paths through relays dashed, a colour per stream and destination.", mapWidth, mapHeight)
}

// positions places nodes; several in one city stand around it.
func (d pageData) positions() map[string]plotter.XY {
	at := make(map[string]plotter.XY)
	count := make(map[string]int)
	unknown := 0
	for _, n := range d.scenario.Nodes {
		c, known := places[n.City]
		if !known {
			at[n.Name] = plotter.XY{X: -170 + math.Mod(float64(unknown)*35, 340), Y: -65 + 7*math.Floor(float64(unknown)*35/340)}
			unknown++
			continue
		}
		k := count[n.City]
		count[n.City]++
		angle := float64(k) * 2.4
		radius := 4 * math.Sqrt(float64(k))
		at[n.Name] = plotter.XY{X: c.lon + radius*math.Cos(angle), Y: c.lat + radius*math.Sin(angle)}
	}
	return at
}
