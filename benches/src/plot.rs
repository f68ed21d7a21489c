//! Plots as SVG: lines on a logarithmic scale, and bars with their spread.

use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (900, 520);
const FONT: (&str, u32) = ("sans-serif", 15);

/// A plot could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the plot {path}: {reason}")]
pub struct PlotError {
    path: String,
    reason: String,
}

/// One line: its name and its points.
pub type Line = (String, Vec<(f64, f64)>);

/// One bar: its name, and the median, least and most of its figure.
pub type Bar = (String, [f64; 3]);

/// Least and most of some figures, with a margin; something to show where there are none.
fn range(figures: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = figures.fold((f64::MAX, f64::MIN), |(l, h), f| (l.min(f), h.max(f)));
    if low > high { (1.0, 10.0) } else { (low * 0.8, high * 1.25) }
}

/// Writes lines over a linear x axis and a logarithmic y axis.
///
/// # Errors
/// The file cannot be written.
pub fn lines(path: &Path, title: &str, axes: (&str, &str), lines: &[Line]) -> Result<(), PlotError> {
    draw_lines(path, title, axes, lines)
        .map_err(|error| PlotError { path: path.display().to_string(), reason: error.to_string() })
}

fn draw_lines(
    path: &Path,
    title: &str,
    axes: (&str, &str),
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let (left, right) = range(points().map(|p| p.0));
    let (low, high) = range(points().map(|p| p.1.max(1.0)));
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT.0, 18))
        .margin(12)
        .x_label_area_size(45)
        .y_label_area_size(70)
        .build_cartesian_2d(left..right, (low..high).log_scale())?;
    chart.configure_mesh().x_desc(axes.0).y_desc(axes.1).label_style(FONT).axis_desc_style(FONT).draw()?;
    for (n, (name, points)) in lines.iter().enumerate() {
        let color = Palette99::pick(n).to_rgba();
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().map(|p| (p.0, p.1.max(1.0))), style).point_size(4))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .label_font(FONT)
        .draw()?;
    root.present()?;
    Ok(())
}

/// Writes horizontal bars over a logarithmic axis, the first on top.
///
/// # Errors
/// The file cannot be written.
pub fn bars(path: &Path, title: &str, unit: &str, bars: &[Bar]) -> Result<(), PlotError> {
    draw_bars(path, title, unit, bars)
        .map_err(|error| PlotError { path: path.display().to_string(), reason: error.to_string() })
}

fn draw_bars(path: &Path, title: &str, unit: &str, bars: &[Bar]) -> Result<(), Box<dyn std::error::Error>> {
    let (low, high) = range(bars.iter().flat_map(|(_, figures)| *figures).filter(|f| *f > 0.0));
    let low = low / 2.0;
    let height = 90 + 26 * bars.len() as u32;
    let root = SVGBackend::new(path, (SIZE.0 + 200, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let rows = bars.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT.0, 18))
        .margin(12)
        .x_label_area_size(40)
        .build_cartesian_2d((low..high * 4.0).log_scale(), 0.0..rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(unit)
        .label_style(FONT)
        .axis_desc_style(FONT)
        .draw()?;
    for (row, (name, [median, least, most])) in bars.iter().enumerate() {
        let top = rows - row as f64;
        let (upper, lower) = (top - 0.15, top - 0.85);
        let middle = top - 0.5;
        chart.draw_series([Rectangle::new(
            [(low, upper), (median.max(low), lower)],
            Palette99::pick(0).mix(0.6).filled(),
        )])?;
        chart.draw_series([PathElement::new(
            [(least.max(low), middle), (most.max(low), middle)],
            BLACK.stroke_width(2),
        )])?;
        chart.draw_series([Text::new(
            format!("{median:.2}  {name}"),
            (most.max(low) * 1.05, top - 0.35),
            FONT,
        )])?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_are_svg_and_name_what_they_show() {
        let folder = std::env::temp_dir().join(format!("postern-plot-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let points = vec![(10.0, 900.0), (50.0, 1500.0), (90.0, 40_000.0)];
        lines(&folder.join("l.svg"), "Latency", ("%", "ns"), &[("p50".to_owned(), points)]).unwrap();
        bars(&folder.join("b.svg"), "Peers", "M/s", &[("postern".to_owned(), [9.0, 8.0, 10.0])]).unwrap();
        for (file, words) in [("l.svg", ["Latency", "p50"]), ("b.svg", ["Peers", "postern"])] {
            let text = read(file);
            assert!(text.starts_with("<svg") && words.iter().all(|w| text.contains(w)), "{file}");
        }
        // Nothing to show is no reason to fail.
        lines(&folder.join("l.svg"), "Empty", ("", ""), &[]).unwrap();
        bars(&folder.join("b.svg"), "Empty", "", &[]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_sentence() {
        let error = lines(Path::new("/nonexistent/x.svg"), "", ("", ""), &[]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/x.svg"), "{error}");
    }
}
