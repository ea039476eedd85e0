package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Sizes of the plot, in points. The page behind it may be dark: it has a
// background of its own.
const (
	plotWidth, rowHeight = 720, 270
	plotMargin, plotGap  = 14, 22
	// shownUpTo is the share of the pods that is drawn; the slowest few would
	// squeeze all others.
	shownUpTo = 0.995
	// mostPoints is how many points a curve has at the most.
	mostPoints = 200
)

// The curves differ in colour, for whatever eyes, and in dashes.
func curves() map[string]draw.LineStyle {
	return map[string]draw.LineStyle{
		kindFloor: {Color: color.RGBA{R: 0x55, G: 0x60, B: 0x6e, A: 0xff}, Width: 1.8, Dashes: []vg.Length{5, 3}},
		kindBerth: {Color: color.RGBA{R: 0xc4, G: 0x4e, B: 0x00, A: 0xff}, Width: 2.2},
	}
}

// panel is a plot of one duration on both sides.
type panel struct {
	title        string
	floor, berth []float64 // Milliseconds in order.
}

// panels are rows of what was measured.
func (r report) panels() (rows [][]panel) {
	row := func(who string, floor, berth samples) {
		rows = append(rows, []panel{
			{"Create to ready, " + who, floor.ready, berth.ready},
			{"Delete to gone, " + who, floor.gone, berth.gone},
		})
	}
	if p := r.Pods; p != nil {
		row(fmt.Sprintf("%d users at once", p.Concurrency), p.Floor.samples, p.Berth.samples)
	}
	if a := r.Alone; a != nil {
		row("one user alone", a.Floor.samples, a.Berth.samples)
	}
	return rows
}

// plot writes a picture of how long things took: for each duration the share of
// the pods that took no longer.
func (r report) plot(path string) error {
	rows := r.panels()
	canvas := vgsvg.New(plotWidth, rowHeight*vg.Length(len(rows)))
	page := draw.New(canvas)
	page.FillPolygon(color.White, []vg.Point{
		page.Min, {X: page.Max.X, Y: page.Min.Y}, page.Max, {X: page.Min.X, Y: page.Max.Y},
	})
	var plots [][]*plot.Plot
	for _, row := range rows {
		var line []*plot.Plot
		for _, p := range row {
			one, err := p.draw()
			if err != nil {
				return fmt.Errorf("plot %s: %w", p.title, err)
			}
			line = append(line, one)
		}
		plots = append(plots, line)
	}
	tiles := draw.Tiles{
		Rows: len(rows), Cols: 2, PadX: plotGap, PadY: plotGap,
		PadTop: plotMargin, PadBottom: plotMargin, PadLeft: plotMargin, PadRight: plotMargin,
	}
	for i, line := range plot.Align(plots, tiles, page) {
		for j, area := range line {
			plots[i][j].Draw(area)
		}
	}
	var picture bytes.Buffer
	if _, err := canvas.WriteTo(&picture); err != nil {
		return fmt.Errorf("draw the plot: %w", err)
	}
	// The library names the fonts that it has measured with; few machines have them.
	text := strings.ReplaceAll(picture.String(), "font-family:Liberation Sans", "font-family:Liberation Sans,Arimo,Helvetica,Arial,sans-serif")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

func (p panel) draw() (*plot.Plot, error) {
	sans := func(size vg.Length) font.Font {
		return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	}
	chart := plot.New()
	chart.BackgroundColor = color.White
	chart.Title.Text, chart.Title.TextStyle.Font, chart.Title.Padding = p.title, sans(13), 8
	chart.X.Label.Text, chart.Y.Label.Text = "milliseconds", "pods, %"
	for _, axis := range []*plot.Axis{&chart.X, &chart.Y} {
		axis.Label.TextStyle.Font, axis.Tick.Label.Font = sans(11), sans(10)
		axis.Padding = 0
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{Y: 0xe4}, color.Gray{Y: 0xe4}
	chart.Add(grid)
	chart.Legend.TextStyle.Font, chart.Legend.Top = sans(11), false
	chart.Legend.Padding, chart.Legend.ThumbnailWidth = 3, 24
	chart.Legend.XOffs, chart.Legend.YOffs = -8, 8
	styles := curves()
	for _, curve := range []struct {
		kind, name string
		values     []float64
	}{{kindFloor, "Kubernetes alone", p.floor}, {kindBerth, "through Berth", p.berth}} {
		line, err := plotter.NewLine(shares(curve.values))
		if err != nil {
			return nil, err
		}
		line.LineStyle = styles[curve.kind]
		chart.Add(line)
		chart.Legend.Add(curve.name, line)
	}
	chart.X.Min, chart.Y.Min, chart.Y.Max = 0, 0, 100
	chart.X.Tick.Marker, chart.Y.Tick.Marker = plot.TickerFunc(roundTicks), plot.TickerFunc(roundTicks)
	return chart, nil
}

// mostTicks is how many numbers an axis has at the most.
const mostTicks = 6

// roundTicks marks an axis at round numbers.
func roundTicks(low, high float64) (ticks []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/mostTicks)))
	for _, times := range []float64{1, 2, 2.5, 5, 10, 20} {
		if (high-low)/(step*times) <= mostTicks-1 {
			step *= times
			break
		}
	}
	for n := math.Ceil(low / step); n*step <= high; n++ {
		ticks = append(ticks, plot.Tick{Value: n * step, Label: strconv.FormatFloat(n*step, 'g', 6, 64)})
	}
	return ticks
}

// shares returns which share of the values, which are in order, is no greater
// than each, in percent.
func shares(values []float64) plotter.XYs {
	n := len(values)
	var points plotter.XYs
	for i := range min(n, mostPoints) {
		at := shownUpTo
		if n > 1 {
			at *= float64(i) / float64(min(n, mostPoints)-1)
		}
		points = append(points, plotter.XY{X: values[min(n-1, int(at*float64(n)))], Y: 100 * at})
	}
	return points
}
