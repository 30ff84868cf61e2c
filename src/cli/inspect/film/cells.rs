//! Film and cells: each cell's frames stand on one another, as tall as the bits that they take.

use std::fmt::Write;

use super::roles::Cell;
use super::text::{class, escaped, short};

const WINDOW: f64 = 44.0;
const PERFORATION: f64 = 9.0;
/// Height of a strip.
pub const STRIP: f64 = WINDOW + 2.0 * PERFORATION;
/// Part of its column that a cell takes.
pub const CELL: f64 = 0.88;

/// The film itself: its base, and a row of holes along each edge.
pub fn film_base(top: f64, columns: usize) -> String {
    let mut svg = format!("<rect class=\"base\" x=\"0\" y=\"{top}\" width=\"100%\" height=\"{STRIP}\" rx=\"5\"/>\n");
    // Holes are as far apart in every strip, however many layers share its width.
    let holes = (columns * (48 / columns).max(1)).clamp(24, 120);
    let pitch = 100.0 / holes as f64;
    for edge in [top + 2.5, top + STRIP - 6.5] {
        let _ = write!(svg, "<g class=\"hole\">");
        for hole in 0..holes {
            let x = (hole as f64 + 0.28) * pitch;
            let _ = write!(
                svg,
                "<rect x=\"{x:.3}%\" y=\"{edge}\" width=\"{:.3}%\" height=\"4\" rx=\"1.2\"/>",
                0.44 * pitch
            );
        }
        svg += "</g>\n";
    }
    svg
}

pub fn cell_picture(cell: &Cell, place: usize, columns: usize, top: f64, most: f64) -> String {
    let column = 100.0 / columns as f64;
    let (x, width) = ((place as f64 + (1.0 - CELL) / 2.0) * column, CELL * column);
    let (top, bottom) = (top + PERFORATION, top + PERFORATION + WINDOW);
    let rect = |class: &str, y: f64, height: f64| {
        format!(
            "<rect class=\"{class}\" x=\"{x:.3}%\" y=\"{y:.2}\" width=\"{width:.3}%\" height=\"{height:.2}\" rx=\"1.5\"/>"
        )
    };
    let mut svg = format!("<g class=\"cell\"><title>{}</title>{}", escaped(&cell.title()), rect("window", top, WINDOW));
    let middle = (place as f64 + 0.5) * column;
    if cell.is_shared() {
        svg += &rect("shared", top + 3.0, WINDOW - 6.0);
        let _ =
            writeln!(svg, "<text class=\"bits\" x=\"{middle:.3}%\" y=\"{:.1}\">=</text></g>", top + WINDOW / 2.0 + 4.0);
        return svg;
    }
    let tall = |bits: f64| (bits / most * (WINDOW - 2.0)).max(1.0);
    for alone in cell.frames.iter().filter_map(|frame| frame.key_bits).filter(|&bits| bits > cell.bits()) {
        svg += &rect("alone", bottom - tall(alone), tall(alone));
    }
    let mut y = bottom;
    for frame in &cell.frames {
        let height = tall(frame.bits);
        y -= height;
        svg += &rect(class(frame), y, height);
    }
    let inside = y - top < 14.0;
    let (class, baseline) = if inside { ("bits inside", y + 13.0) } else { ("bits", y - 4.0) };
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{middle:.3}%\" y=\"{baseline:.1}\">{}</text></g>",
        short(cell.bits())
    );
    svg
}
