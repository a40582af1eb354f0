//! Rendering of panels as SVG, or as PNG at twice the size.
//!
//! The font is bundled, so that pictures look the same on every machine.

use std::ops::Range;
use std::sync::OnceLock;

use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::curves::{Color as CurveColor, Curve, CurveStyle, ErrorBar, Panel, accepted, speed};
use crate::cli::study::SetRows;

/// Width of the picture and height of the panels of a set, in units.
const WIDTH: u32 = 1120;
const HEIGHT: u32 = 400;
/// Height of a legend line in units, and number of legend columns.
const LINE: u32 = 20;
const COLUMNS: usize = 2;
/// Font sizes of titles and of other text, in units.
const TITLE: u32 = 17;
const LETTER: u32 = 14;

type Area<'a, DB> = DrawingArea<DB, Shift>;

/// Draws the sets below each other as SVG.
///
/// # Errors
/// If the drawing library fails.
pub fn svg(sets: &[&SetRows]) -> anyhow::Result<String> {
    let mut text = String::new();
    let figure = Figure::new(sets, 1);
    draw(&figure, &SVGBackend::with_string(&mut text, figure.size()).into_drawing_area())?;
    Ok(text)
}

/// Draws the sets below each other as PNG.
///
/// # Errors
/// If the drawing library or the encoder fails.
pub fn png(sets: &[&SetRows]) -> anyhow::Result<Vec<u8>> {
    let figure = Figure::new(sets, 2);
    let (width, height) = figure.size();
    let mut pixels = vec![0; width as usize * height as usize * 3];
    draw(&figure, &BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area())?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.context("can't encode the picture")?;
    Ok(bytes)
}

/// Panels of all sets, and the size of a unit in pixels.
struct Figure {
    rows: Vec<[Panel; 2]>,
    scale: u32,
}

impl Figure {
    fn new(sets: &[&SetRows], scale: u32) -> Figure {
        Figure { rows: sets.iter().map(|set| [accepted(set), speed(set)]).collect(), scale }
    }

    /// Number of legend lines below a row.
    fn lines(row: &[Panel; 2]) -> u32 {
        row.iter().map(|panel| panel.curves.len().div_ceil(COLUMNS)).max().unwrap_or(0) as u32
    }

    fn height(row: &[Panel; 2]) -> u32 {
        HEIGHT + (Self::lines(row) + 1) * LINE
    }

    /// Returns width and height in pixels.
    fn size(&self) -> (u32, u32) {
        (WIDTH * self.scale, self.rows.iter().map(Self::height).sum::<u32>() * self.scale)
    }
}

/// Registers the bundled font, once per process.
fn font() -> anyhow::Result<()> {
    static FONT: OnceLock<bool> = OnceLock::new();
    let there = FONT.get_or_init(|| {
        register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()).is_ok()
    });
    if *there { Ok(()) } else { Err(anyhow!("can't load the font of the figures")) }
}

fn draw<DB: DrawingBackend>(figure: &Figure, root: &Area<DB>) -> anyhow::Result<()> {
    font()?;
    let drawn = || -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        root.fill(&WHITE)?;
        let (scale, mut rest) = (figure.scale, root.clone());
        for row in &figure.rows {
            let (here, below) = rest.split_vertically(Figure::height(row) * scale);
            rest = below;
            let (left, right) = here.split_horizontally(WIDTH / 2 * scale);
            for (panel, area) in row.iter().zip([left, right]) {
                let (chart, legend) = area.split_vertically(HEIGHT * scale);
                draw_panel(panel, &chart, scale)?;
                draw_legend(panel, &legend, scale)?;
            }
        }
        root.present()
    };
    drawn().map_err(|error| anyhow!("can't draw the picture: {error}"))
}

/// Horizontal axis in log2 B, with a tick at each power of two.
struct Log2Axis(Range<f64>);

impl Ranged for Log2Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let share = (value - self.0.start) / (self.0.end - self.0.start);
        low + (share * f64::from(high - low)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        (self.0.start.ceil() as i32..=self.0.end.floor() as i32).map(f64::from).collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

impl ValueFormatter<f64> for Log2Axis {
    fn format(value: &f64) -> String {
        format!("{:.0}", value.exp2())
    }
}

fn color(c: CurveColor) -> RGBColor {
    RGBColor(c.0, c.1, c.2)
}

fn draw_panel<DB: DrawingBackend>(
    panel: &Panel,
    area: &Area<DB>,
    scale: u32,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let letter = ("sans-serif", LETTER * scale).into_font();
    let (from, to) = panel.across;
    // Margin on both sides, so that marks at the ends are not cut.
    let side = 0.02 * (to - from);
    let across = Log2Axis(from - side..to + side);
    let mut chart = ChartBuilder::on(area)
        .margin(12 * scale)
        .margin_right(22 * scale)
        .caption(&panel.title, ("sans-serif", TITLE * scale))
        .x_label_area_size(44 * scale)
        .y_label_area_size(62 * scale)
        .build_cartesian_2d(across, 0.0..panel.top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(ShapeStyle { color: BLACK.mix(0.12), filled: false, stroke_width: scale })
        .axis_style(ShapeStyle { color: BLACK.mix(0.7), filled: false, stroke_width: scale })
        .label_style(letter.clone())
        .axis_desc_style(letter)
        .x_desc("budget B: tokens per verify pass (logarithmic scale)")
        .y_desc(panel.unit)
        .y_labels(6)
        .y_label_formatter(&|y| number(*y))
        .draw()?;
    for curve in &panel.curves {
        let style = style(curve, scale);
        let points = || curve.points.iter().copied();
        match curve.style {
            CurveStyle::Line | CurveStyle::Marked => {
                chart.draw_series(LineSeries::new(points(), style))?;
            }
            CurveStyle::Dashed(dash) => {
                let (dash, gap) = (dash * scale, (dash / 2 + 2) * scale);
                chart.draw_series(DashedLineSeries::new(points(), dash, gap, style))?;
            }
            CurveStyle::Points => {}
        }
        let bar =
            |bar: &ErrorBar| PathElement::new(vec![(bar.x, bar.low), (bar.x, bar.high)], style);
        chart.draw_series(curve.intervals.iter().map(bar))?;
        let cap = 0.008 * (to - from);
        let caps = curve.intervals.iter().flat_map(|bar| [(bar.x, bar.low), (bar.x, bar.high)]);
        chart.draw_series(
            caps.map(|(x, y)| PathElement::new(vec![(x - cap, y), (x + cap, y)], style)),
        )?;
        if curve.style == CurveStyle::Marked {
            chart.draw_series(
                points().map(|p| Circle::new(p, 3 * scale, color(curve.color).filled())),
            )?;
        } else if curve.style == CurveStyle::Points {
            chart.draw_series(points().map(|p| Circle::new(p, 5 * scale, style)))?;
        }
    }
    Ok(())
}

/// Draws the legend below a panel: a sample of each curve with its label.
fn draw_legend<DB: DrawingBackend>(
    panel: &Panel,
    area: &Area<DB>,
    scale: u32,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let font = ("sans-serif", LETTER * scale).into_font();
    let (s, width) = (scale as i32, (WIDTH / 2 - 76) / COLUMNS as u32);
    let lines = panel.curves.len().div_ceil(COLUMNS).max(1);
    for (i, curve) in panel.curves.iter().enumerate() {
        let x = (70 + (i / lines) as i32 * width as i32) * s;
        let y = ((i % lines) as i32 * LINE as i32 + LINE as i32 / 2) * s;
        let style = style(curve, scale);
        let line =
            |from: i32, to: i32| PathElement::new(vec![(x + from * s, y), (x + to * s, y)], style);
        match curve.style {
            CurveStyle::Line | CurveStyle::Marked => area.draw(&line(0, 28))?,
            CurveStyle::Dashed(dash) => {
                let (dash, gap) = (dash as i32, (dash / 2 + 2) as i32);
                let mut at = 0;
                while at < 28 {
                    area.draw(&line(at, (at + dash).min(28)))?;
                    at += dash + gap;
                }
            }
            CurveStyle::Points => area.draw(&Circle::new((x + 14 * s, y), 5 * scale, style))?,
        }
        if curve.style == CurveStyle::Marked {
            area.draw(&Circle::new((x + 14 * s, y), 3 * scale, color(curve.color).filled()))?;
        }
        area.draw(&Text::new(curve.label.clone(), (x + 36 * s, y - 6 * s), font.clone()))?;
    }
    Ok(())
}

fn style(curve: &Curve, scale: u32) -> ShapeStyle {
    let wide = matches!(curve.style, CurveStyle::Line | CurveStyle::Marked);
    ShapeStyle {
        color: color(curve.color).to_rgba(),
        filled: false,
        stroke_width: scale * if wide { 2 } else { 1 },
    }
}

/// Formats a label of the vertical axis.
fn number(y: f64) -> String {
    match y {
        y if y >= 1e5 => format!("{y:.0e}"),
        y if y >= 10.0 || y.fract().abs() < 1e-9 => format!("{y:.0}"),
        y => format!("{y:.2}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::cli::study::rows_for_tests;

    #[test]
    fn every_curve_is_in_the_legend_and_the_axes_have_units() {
        let set = rows_for_tests();
        let text = svg(&[&set]).unwrap();
        for panel in [accepted(&set), speed(&set)] {
            assert!(!panel.curves.is_empty() && text.contains(panel.unit), "{}", panel.unit);
            for curve in &panel.curves {
                assert!(text.contains(&curve.label), "{}", curve.label);
            }
        }
        assert!(
            text.contains("budget B: tokens per verify pass")
                && !text.contains("NaN")
                && !text.contains("inf")
        );
        assert!(png(&[&set]).unwrap().starts_with(b"\x89PNG"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_table_is_drawn_without_nan(
            budgets in prop::collection::vec(prop_oneof![0usize..300, Just(usize::MAX)], 0..6),
            values in prop::collection::vec(prop_oneof![-10.0f64..1e4, Just(1e308), Just(0.0)], 12),
            name in ".{0,50}", temperature in prop_oneof![Just(0.0f32), -1.0f32..2.0],
        ) {
            let mut set = rows_for_tests();
            (set.name, set.temperature) = (name, temperature);
            for (i, &budget) in budgets.iter().enumerate() {
                if let Some(c) = set.ceilings.get_mut(i) {
                    (c.budget, c.fluid.value, c.published) = (budget, values[i], Some(values[i + 6]));
                }
                if let Some(d) = set.drafters.get_mut(i) {
                    (d.budget, d.expected.value, d.accepted.value) = (budget, values[i], values[11 - i]);
                }
                set.machines.iter_mut().for_each(|m| m.speed_up = values.clone());
            }
            let text = svg(&[&set]).unwrap();
            prop_assert!(!text.contains("NaN"), "{}", text);
        }
    }
}
