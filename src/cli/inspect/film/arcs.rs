//! Arcs from references to what they predict.

use std::collections::HashMap;

use super::cells::STRIP;
use super::roles::Cell;
use super::text::escaped;

/// Room above a strip.
pub const ARCS: f64 = 26.0;

/// Arcs to a cell from what its frames are predicted from.
pub fn arcs(
    cell: &Cell,
    (row, place): (usize, usize),
    at: &HashMap<usize, (usize, usize)>,
    tops: &[f64],
    columns: usize,
    height: f64,
) -> String {
    let Some(reference) = cell.frames[0].reference.as_ref().filter(|_| !cell.is_shared()) else { return String::new() };
    let column = 100.0 / columns as f64;
    let (x, top) = ((place as f64 + 0.5) * column, tops[row]);
    let title = format!("<title>{}\nfrom {}</title>", escaped(cell.name), escaped(&reference.to_string()));
    let tip = format!(
        "<svg x=\"{x:.3}%\" y=\"{top}\" width=\"1\" height=\"1\" overflow=\"visible\"><path class=\"tip\" d=\"M-3.5,-6L3.5,-6L0,0z\"/></svg>"
    );
    if reference.base {
        return format!(
            "<g>{title}<line class=\"arc\" x1=\"{x:.3}%\" x2=\"{x:.3}%\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
            <circle class=\"arc\" cx=\"{x:.3}%\" cy=\"{:.1}\" r=\"3\"/>{tip}</g>\n",
            top - 12.0,
            top - 5.0,
            top - 15.0
        );
    }
    let Some(&(from_row, from)) = at.get(&reference.frame) else { return String::new() };
    let (from_x, to_x) = (from as f64 + 0.5, place as f64 + 0.5);
    let from_percent = from_x * column;
    let (path, dot, class) = if from_row == row {
        let distance = from.abs_diff(place) as f64 / columns as f64;
        let peak = top - (ARCS - 6.0) * (0.5 + 1.2 * distance).min(1.0) * 4.0 / 3.0;
        let start = top - 1.0;
        (format!("M{from_x},{start}C{from_x},{peak:.1} {to_x},{peak:.1} {to_x},{:.1}", top - 5.0), start, "arc")
    } else {
        let start = if from_row < row { tops[from_row] + STRIP } else { tops[from_row] };
        let end = top - 5.0;
        // Between cells, so that the strips that it passes stay readable.
        let bulge = if from_row.abs_diff(row) == 1 { 0.1 } else { 0.5 };
        let aside = to_x + if from > place { bulge } else { -bulge };
        let bend = (end - start) / 3.0;
        let path =
            format!("M{from_x},{start:.1}C{aside},{:.1} {aside},{:.1} {to_x},{end:.1}", start + bend, end - 20.0);
        (path, start, "arc across")
    };
    format!(
        "<g>{title}<svg x=\"0\" y=\"0\" width=\"100%\" height=\"{height}\" viewBox=\"0 0 {columns} {height}\" preserveAspectRatio=\"none\">\
        <path class=\"{class}\" d=\"{path}\"/></svg><circle class=\"tip\" cx=\"{from_percent:.3}%\" cy=\"{dot:.1}\" r=\"2.4\"/>{tip}</g>\n"
    )
}
