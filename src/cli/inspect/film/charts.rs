//! What stands above and below the strips: the bytes of each layer, and the energy that is left in its residuals.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::cells::CELL;
use super::roles::{Film, Role};
use super::text::{class, escaped, percent, short};
use crate::cli::sizes::human_bytes;

pub const ENERGY: f64 = 24.0;
pub const TOTALS: f64 = 96.0;

/// The part of each layer's energy that is left in its residual.
pub fn energy_line(film: &Film, role: &Role, top: f64) -> String {
    if !role.shows_energy() {
        return String::new();
    }
    let (columns, height) = (film.layers.len(), ENERGY - 5.0);
    let y = |energy: f64| height * (1.0 - energy.clamp(0.0, 1.0)) + 1.0;
    let (top, bottom) = (top + 4.0, height + 1.0);
    let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    let mut dots = String::new();
    for cell in &role.cells {
        let place = film.place(cell) as f64 + 0.5;
        let follows = runs.last().and_then(|run| run.last()).is_none_or(|&(before, _)| place - before < 1.5);
        match cell.energy() {
            Some(energy) if follows => runs.last_mut().into_iter().for_each(|run| run.push((place, y(energy)))),
            Some(energy) => runs.push(vec![(place, y(energy))]),
            None => runs.push(Vec::new()),
        }
        if let Some(energy) = cell.energy() {
            let x = place * 100.0 / columns as f64;
            let _ = write!(
                dots,
                "<circle class=\"dot\" cx=\"{x:.3}%\" cy=\"{:.2}\" r=\"2.2\"><title>{}\nresidual: {} of the energy</title></circle>",
                top + y(energy),
                escaped(cell.name),
                percent(energy)
            );
        }
    }
    let mut svg = format!(
        "<line class=\"ground\" x1=\"0\" x2=\"100%\" y1=\"{0:.2}\" y2=\"{0:.2}\"/>\
        <svg x=\"0\" y=\"{top:.2}\" width=\"100%\" height=\"{ENERGY}\" viewBox=\"0 0 {columns} {ENERGY}\" preserveAspectRatio=\"none\">",
        top + bottom
    );
    for run in runs.iter().filter(|run| !run.is_empty()) {
        let points: Vec<String> = run.iter().map(|(x, y)| format!("{x},{y:.2}")).collect();
        let (first, last) = (run[0].0, run[run.len() - 1].0);
        let _ = write!(
            svg,
            "<polygon class=\"under\" points=\"{first},{bottom} {0} {last},{bottom}\"/><polyline class=\"energy\" points=\"{0}\"/>",
            points.join(" ")
        );
    }
    svg + "</svg>" + &dots + "\n"
}

/// Bytes of each layer, by mode, over the numbers of the layers.
pub fn layer_totals(film: &Film) -> String {
    let mut totals: Vec<BTreeMap<&str, u64>> = vec![BTreeMap::new(); film.layers.len()];
    for cell in film.roles.iter().flat_map(|role| &role.cells).filter(|cell| !cell.is_shared()) {
        for frame in &cell.frames {
            *totals[film.place(cell)].entry(class(frame)).or_default() += frame.bytes;
        }
    }
    let sum = |total: &BTreeMap<&str, u64>| total.values().sum::<u64>();
    let most = totals.iter().map(sum).max().unwrap_or(0).max(1);
    let (unit, factor) = if most >= 1_000_000 { ("MB", 1e6) } else { ("kB", 1e3) };
    let (ground, tall) = (TOTALS - 26.0, 40.0);
    let column = 100.0 / film.layers.len() as f64;
    let mut svg = format!("<text class=\"role\" x=\"0\" y=\"12\">all tensors of a layer, {unit}</text>\n");
    for (place, total) in totals.iter().enumerate() {
        let (x, middle) = ((place as f64 + (1.0 - CELL) / 2.0) * column, (place as f64 + 0.5) * column);
        let mut y = ground;
        let bytes = sum(total);
        let _ = write!(svg, "<g><title>layer {}: {}", film.layers[place], human_bytes(bytes));
        total.iter().for_each(|(class, bytes)| svg += &format!("\n{class}: {}", human_bytes(*bytes)));
        svg += "</title>";
        for class in ["key", "predicted", "refinement", "exact"] {
            let height = tall * total.get(class).map_or(0.0, |&bytes| bytes as f64) / most as f64;
            y -= height;
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.3}%\" y=\"{y:.2}\" width=\"{:.3}%\" height=\"{height:.2}\"/>",
                CELL * column
            );
        }
        let _ = writeln!(
            svg,
            "<text class=\"total\" x=\"{middle:.3}%\" y=\"{:.1}\">{}</text><text class=\"axis\" x=\"{middle:.3}%\" y=\"{:.1}\">{}</text></g>",
            y - 4.0,
            short(bytes as f64 / factor),
            ground + 14.0,
            film.layers[place]
        );
    }
    svg
}
