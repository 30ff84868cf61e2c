//! Roles -> strips of film, one below the other.

use std::collections::HashMap;
use std::fmt::Write;

use super::arcs::{ARCS, arcs};
use super::cells::{STRIP, cell_picture, film_base};
use super::charts::{ENERGY, TOTALS, energy_line, layer_totals};
use super::roles::{Cell, Film, Role};
use super::text::escaped;
use crate::cli::inspect::names::elided;
use crate::cli::inspect::report::{FrameReport, Mode};
use crate::cli::sizes::human_bytes;

const LABEL: f64 = 20.0;
const GAP: f64 = 22.0;
/// Narrowest column, in pixels.
const COLUMN_MIN: usize = 13;
/// Columns from which their figures no longer fit on a phone.
const CROWDED: usize = 14;

/// The strips of some roles below the totals of all layers.
pub fn strip(film: &Film, roles: &[&Role], totals: bool) -> String {
    let columns = film.layers.len();
    let most = roles.iter().flat_map(|role| &role.cells).map(Cell::height).fold(f64::MIN_POSITIVE, f64::max);
    // Where the strip of each role begins.
    let mut tops = Vec::new();
    let mut y = if totals { TOTALS } else { 0.0 };
    for role in roles {
        y += LABEL + headroom(role);
        tops.push(y);
        y += STRIP + if role.shows_energy() { ENERGY } else { 0.0 } + GAP;
    }
    let mut svg = String::new();
    if totals {
        svg += &layer_totals(film);
    }
    let mut at: HashMap<usize, (usize, usize)> = HashMap::new();
    for (row, role) in roles.iter().enumerate() {
        for cell in &role.cells {
            cell.frames.iter().for_each(|frame| {
                at.entry(frame.frame).or_insert((row, film.place(cell)));
            });
        }
    }
    for (row, role) in roles.iter().enumerate() {
        svg += &role_label(role, tops[row] - headroom(role) - 6.0);
        svg += &film_base(tops[row], columns);
        for cell in &role.cells {
            svg += &cell_picture(cell, film.place(cell), columns, tops[row], most);
        }
        svg += &energy_line(film, role, tops[row] + STRIP);
    }
    for (row, role) in roles.iter().enumerate() {
        for cell in &role.cells {
            svg += &arcs(cell, (row, film.place(cell)), &at, &tops, columns, y);
        }
    }
    framed(&svg, columns, y)
}

/// Room above a role's strip, for arcs.
fn headroom(role: &Role) -> f64 {
    let mut frames = role.cells.iter().flat_map(|cell| &cell.frames);
    if frames.any(|frame| frame.mode == Mode::Predicted) { ARCS } else { 2.0 }
}

/// Tensors without a layer, on one strip, and their names.
pub fn singles(cells: &[Cell]) -> String {
    let most = |lossy: bool| {
        let alike = cells.iter().filter(|cell| cell.is_lossy() == lossy);
        alike.map(Cell::height).fold(f64::MIN_POSITIVE, f64::max)
    };
    let scales = [false, true].map(most);
    let top = ARCS;
    let mut svg = film_base(top, cells.len());
    for (place, cell) in cells.iter().enumerate() {
        svg += &cell_picture(cell, place, cells.len(), top, scales[usize::from(cell.is_lossy())]);
        let x = (place as f64 + 0.5) * 100.0 / cells.len() as f64;
        let _ = writeln!(svg, "<text class=\"axis\" x=\"{x:.3}%\" y=\"{}\">{}</text>", top + STRIP + 14.0, place + 1);
    }
    let height = top + STRIP + 18.0;
    let at = cells
        .iter()
        .enumerate()
        .flat_map(|(place, cell)| cell.frames.iter().map(move |frame| (frame.frame, (0, place))));
    let at: HashMap<usize, (usize, usize)> = at.collect();
    for (place, cell) in cells.iter().enumerate() {
        svg += &arcs(cell, (0, place), &at, &[top], cells.len(), height);
    }
    let names: String = cells.iter().map(|cell| format!("<li>{}</li>\n", escaped(cell.name))).collect();
    format!("{}<ol class=\"names\">\n{names}</ol>\n", framed(&svg, cells.len(), height))
}

fn framed(svg: &str, columns: usize, height: f64) -> String {
    let class = if columns > CROWDED { "film crowded" } else { "film" };
    let width = columns * COLUMN_MIN;
    format!(
        "<div class=\"{class}\"><svg height=\"{height}\" style=\"min-width:{width}px\" role=\"img\" \
        aria-label=\"Frames by role and layer\">\n{svg}</svg></div>\n"
    )
}

fn role_label(role: &Role, y: f64) -> String {
    let elements: u64 = role.cells.iter().filter(|cell| !cell.is_shared()).map(|cell| cell.frames[0].elements).sum();
    let bytes: u64 = role.cells.iter().map(Cell::bytes).sum();
    format!(
        "<text class=\"role\" x=\"0\" y=\"{y}\">{}<title>{}</title></text>\
        <text class=\"aside\" x=\"100%\" y=\"{y}\">{}, {:.2} bits</text>\n",
        escaped(&elided(&role.name, 47)),
        escaped(&role.name),
        human_bytes(bytes),
        8.0 * bytes as f64 / elements.max(1) as f64
    )
}

/// How a picture of these roles is to be read.
pub fn reading(roles: &[&Role]) -> String {
    let frames: Vec<&FrameReport> =
        roles.iter().flat_map(|role| &role.cells).flat_map(|cell| cell.frames.iter().copied()).collect();
    let any = |test: &dyn Fn(&FrameReport) -> bool| frames.iter().any(|frame| test(frame));
    let mut text =
        "A strip for each tensor’s role, a cell for each layer; the fuller the cell, the more bits a weight."
            .to_string();
    if any(&|frame| frame.key_bits.is_some()) {
        text += " The dashed outline is about what the same levels would take in a key frame.";
    }
    if any(&|frame| frame.reference.as_ref().is_some_and(|reference| !reference.base) && frame.mode == Mode::Predicted)
    {
        text += " Arcs lead from a reference to what it predicts.";
    }
    if any(&|frame| frame.reference.as_ref().is_some_and(|reference| reference.base)) {
        text += " An arrow from a ring comes from the base.";
    }
    if any(&|frame| frame.mode == Mode::Refinement) {
        text += " Refinements stand on the pass that they refine.";
    }
    if any(&|frame| frame.residual_energy.is_some()) {
        text += " The line below a strip is the part of the levels’ energy that is left in the last frame’s residual: \
            all of it, at the top, where nothing is predicted.";
    }
    text
}
