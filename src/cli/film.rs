//! Inspection -> one page that draws it: a film strip for every role, a cell for every layer, arcs to what it is predicted from.
//!
//! The page holds all it needs. Pictures are as wide as the page: across they count in per cent or in layers, downwards
//! in pixels, so that text keeps its size on a phone.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use super::human_bytes;
use super::inspect::{FrameReport, Inspection, Mode, Saved, elided, reference_text};

/// The page.
pub fn html(inspection: &Inspection, name: &str) -> String {
    let film = Film::of(inspection);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <title>{0}</title>\n<style>\n{1}</style>\n<h1>{0}</h1>\n",
        escaped(name),
        include_str!("film.css")
    );
    page += &head(inspection);
    let (lossy, exact): (Vec<&Role>, Vec<&Role>) = film.roles.iter().partition(|role| role.is_lossy());
    if !lossy.is_empty() {
        page += "<h2>The sequence of frames</h2>\n";
        page += &format!("<p class=\"reading\">{}</p>\n", reading(&lossy));
        page += &strip(&film, &lossy, true);
    }
    if !film.singles.is_empty() {
        page += "<h2>Tensors on their own</h2>\n<p class=\"reading\">Those that no other layer has. Exact ones are drawn on a scale of their own.</p>\n";
        page += &singles(&film.singles);
    }
    if !exact.is_empty() {
        let open = if lossy.is_empty() { " open" } else { "" };
        let len: usize = exact.iter().map(|role| role.cells.len()).sum();
        page += &format!("<details{open}><summary>Kept exact: {len} tensors in layers</summary>\n");
        page += &format!("<p class=\"reading\">{}</p>\n", reading(&exact));
        page += &strip(&film, &exact, lossy.is_empty());
        page += "</details>\n";
    }
    page += &table(inspection);
    page + "</html>\n"
}

/// Text of a page, or of an attribute's value.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            _ => safe.push(letter),
        }
    }
    safe
}

/// One tensor and its frames, coarse to fine.
struct Cell<'a> {
    name: &'a str,
    frames: Vec<&'a FrameReport>,
    layer: u64,
}

impl Cell<'_> {
    /// Whether its frames are another tensor's, which shows what they take.
    fn is_shared(&self) -> bool {
        self.frames[0].tensors[0] != self.name
    }

    fn is_lossy(&self) -> bool {
        self.frames.iter().any(|frame| frame.is_lossy())
    }

    fn bits(&self) -> f64 {
        if self.is_shared() { 0.0 } else { self.frames.iter().map(|frame| frame.bits).sum() }
    }

    /// What it takes, or would take without prediction, if that is more.
    fn height(&self) -> f64 {
        let alone = self.frames.iter().filter_map(|frame| frame.key_bits).fold(0.0, f64::max);
        if self.is_shared() { 0.0 } else { self.bits().max(alone) }
    }

    fn bytes(&self) -> u64 {
        if self.is_shared() { 0 } else { self.frames.iter().map(|frame| frame.bytes).sum() }
    }

    /// Energy that the last frame codes: all of it if it stands alone.
    fn energy(&self) -> Option<f64> {
        let last = self.frames.last()?;
        if last.mode == Mode::Key { Some(1.0) } else { last.residual_energy }
    }

    fn title(&self) -> String {
        let mut text = self.name.to_string();
        if self.is_shared() {
            return text + "\nshares the frame of " + &self.frames[0].tensors[0];
        }
        for frame in &self.frames {
            let _ = write!(
                text,
                "\n{}: {:.3} bits for each element, {}",
                frame.word(),
                frame.bits,
                human_bytes(frame.bytes)
            );
            if let Some(reference) = &frame.reference {
                let _ = write!(text, "\nfrom {reference}");
            }
            if let Some(gain) = &frame.gain {
                let _ = write!(text, "\ngain {gain}");
            }
            if let Some(bits) = frame.key_bits {
                let _ = write!(text, "\nabout {bits:.2} bits as a key frame");
            }
            if let Some(energy) = frame.residual_energy {
                let _ = write!(text, "\nresidual: {} of the energy", percent(energy));
            }
        }
        text
    }
}

/// Tensors of the same name but for their layer.
struct Role<'a> {
    name: String,
    cells: Vec<Cell<'a>>,
}

impl Role<'_> {
    fn is_lossy(&self) -> bool {
        self.cells.iter().any(Cell::is_lossy)
    }

    /// Room above the strip, for arcs.
    fn headroom(&self) -> f64 {
        let mut frames = self.cells.iter().flat_map(|cell| &cell.frames);
        if frames.any(|frame| frame.mode == Mode::Predicted) { ARCS } else { 2.0 }
    }

    fn shows_energy(&self) -> bool {
        self.cells.iter().any(|cell| cell.frames.iter().any(|frame| frame.residual_energy.is_some()))
    }
}

/// All coded tensors, by role and layer.
struct Film<'a> {
    /// The numbers of the layers, in order.
    layers: Vec<u64>,
    roles: Vec<Role<'a>>,
    /// Tensors whose role has no other.
    singles: Vec<Cell<'a>>,
}

impl<'a> Film<'a> {
    fn of(inspection: &'a Inspection) -> Self {
        let by_index: HashMap<usize, &FrameReport> =
            inspection.frames.iter().map(|report| (report.frame, report)).collect();
        let mut roles: Vec<Role> = Vec::new();
        let mut places = HashMap::new();
        for tensor in inspection.archive.tensors.iter().filter(|tensor| !tensor.frames.is_empty()) {
            let frames = tensor.frames.iter().filter_map(|frame| by_index.get(frame).copied()).collect();
            let (role, layer) = role(&tensor.name);
            let place = *places.entry(role.clone()).or_insert(roles.len());
            if place == roles.len() {
                roles.push(Role { name: role, cells: Vec::new() });
            }
            roles[place].cells.push(Cell { name: &tensor.name, frames, layer });
        }
        let (mut roles, singles): (Vec<Role>, Vec<Role>) = roles.into_iter().partition(|role| role.cells.len() > 1);
        roles.iter_mut().for_each(|role| role.cells.sort_by_key(|cell| cell.layer));
        let mut layers: Vec<u64> = roles.iter().flat_map(|role| &role.cells).map(|cell| cell.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        Film { layers, roles, singles: singles.into_iter().flat_map(|role| role.cells).collect() }
    }

    fn place(&self, cell: &Cell) -> usize {
        self.layers.partition_point(|&layer| layer < cell.layer)
    }
}

/// A name with its layer's number replaced by a star, and that number: the first that stands alone, or else the first.
fn role(name: &str) -> (String, u64) {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, letter) in name.char_indices().filter(|(_, letter)| letter.is_ascii_digit()) {
        match runs.last_mut() {
            Some((_, end)) if *end == at => *end = at + letter.len_utf8(),
            _ => runs.push((at, at + letter.len_utf8())),
        }
    }
    let stands_alone = |&&(start, end): &&(usize, usize)| {
        let before = name[..start].chars().next_back();
        let after = name[end..].chars().next();
        !before.into_iter().chain(after).any(char::is_alphanumeric)
    };
    let numbered = |&(start, end): &(usize, usize)| Some((start, end, name[start..end].parse().ok()?));
    match runs.iter().find(stands_alone).or(runs.first()).and_then(numbered) {
        Some((start, end, layer)) => (format!("{}*{}", &name[..start], &name[end..]), layer),
        None => (name.into(), 0),
    }
}

/// The archive in a few figures, and what each mode takes of it.
fn head(inspection: &Inspection) -> String {
    let Inspection { archive, frames } = inspection;
    let mut page = format!("<p class=\"pin\">integrity {}", archive.integrity);
    if let Some(base) = archive.base {
        let _ = write!(page, "<br>a delta to {base}");
    }
    page += "</p>\n<dl class=\"facts\">\n";
    let mut fact = |what: &str, value: &str, unit: &str| {
        let _ = writeln!(page, "<div><dt>{what}</dt><dd>{value} <small>{unit}</small></dd></div>");
    };
    let original: u64 = archive.files.iter().map(|file| file.bytes).sum();
    let size = human_bytes(archive.bytes());
    let (number, unit) = size.split_once(' ').unwrap_or((&size, ""));
    fact("Archive", number, &format!("{unit} for {}", human_bytes(original)));
    let lossy: Vec<&FrameReport> = frames.iter().filter(|frame| frame.is_lossy()).collect();
    let weights: u64 = lossy.iter().filter(|frame| frame.pass == 0).map(|frame| frame.elements).sum();
    if weights > 0 {
        let bytes: u64 = lossy.iter().map(|frame| frame.bytes).sum();
        fact("Bits for each lossy weight", &format!("{:.3}", 8.0 * bytes as f64 / weights as f64), "");
    }
    let predicted = frames.iter().filter(|frame| frame.mode == Mode::Predicted).count();
    if predicted > 0 {
        fact("Predicted", &predicted.to_string(), &format!("of {} frames", frames.len()));
    }
    if let Some(Saved { bytes, key_bytes, .. }) = Saved::of(frames) {
        let saved = human_bytes(key_bytes.saturating_sub(bytes));
        let (number, unit) = saved.split_once(' ').unwrap_or((&saved, ""));
        fact("Prediction saves about", number, &format!("{unit} of {}", human_bytes(key_bytes)));
    }
    page += "</dl>\n";
    page + &shares(inspection)
}

/// Modes by what they take, with the colours that the whole page uses.
fn shares(inspection: &Inspection) -> String {
    let Inspection { archive, frames } = inspection;
    let mut shares: Vec<(&str, &str, usize, u64)> =
        [("key", "key frames"), ("predicted", "predicted"), ("refinement", "refinements"), ("exact", "exact")]
            .into_iter()
            .map(|(class, label)| {
                let of_class = frames.iter().filter(|frame| self::class(frame) == class);
                let (len, bytes) = of_class.fold((0, 0), |(len, bytes), frame| (len + 1, bytes + frame.bytes));
                (class, label, len, bytes)
            })
            .filter(|&(_, _, len, _)| len > 0)
            .collect();
    let framed: u64 = frames.iter().map(|frame| frame.bytes).sum();
    shares.push(("other", "header and other bytes", 0, archive.bytes().saturating_sub(framed)));
    let mut page = "<div class=\"share\" aria-hidden=\"true\">".to_string();
    for (class, _, _, bytes) in &shares {
        let _ = write!(page, "<i class=\"{class}\" style=\"flex-grow:{bytes}\"></i>");
    }
    page += "</div>\n<ul class=\"modes\">\n";
    for (class, label, len, bytes) in shares {
        let count = if len > 0 { format!("{len} ") } else { String::new() };
        let part = percent(bytes as f64 / archive.bytes().max(1) as f64);
        let _ = writeln!(
            page,
            "<li><i class=\"{class}\"></i><b>{count}{label}</b> <span>{}, {part}</span></li>",
            human_bytes(bytes)
        );
    }
    page + "</ul>\n"
}

/// How a picture of these roles is to be read.
fn reading(roles: &[&Role]) -> String {
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

const LABEL: f64 = 20.0;
const ARCS: f64 = 26.0;
const WINDOW: f64 = 44.0;
const PERFORATION: f64 = 9.0;
const STRIP: f64 = WINDOW + 2.0 * PERFORATION;
const ENERGY: f64 = 24.0;
const GAP: f64 = 22.0;
const TOTALS: f64 = 96.0;
/// Part of its column that a cell takes.
const CELL: f64 = 0.88;
/// Narrowest column, in pixels.
const COLUMN_MIN: usize = 13;
/// Columns from which their figures no longer fit on a phone.
const CROWDED: usize = 14;

/// The strips of some roles below the totals of all layers.
fn strip(film: &Film, roles: &[&Role], totals: bool) -> String {
    let columns = film.layers.len();
    let most = roles.iter().flat_map(|role| &role.cells).map(Cell::height).fold(f64::MIN_POSITIVE, f64::max);
    // Where the strip of each role begins.
    let mut tops = Vec::new();
    let mut y = if totals { TOTALS } else { 0.0 };
    for role in roles {
        y += LABEL + role.headroom();
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
        svg += &role_label(role, tops[row] - role.headroom() - 6.0);
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

/// The film itself: its base, and a row of holes along each edge.
fn film_base(top: f64, columns: usize) -> String {
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

fn cell_picture(cell: &Cell, place: usize, columns: usize, top: f64, most: f64) -> String {
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

/// The part of each layer's energy that is left in its residual.
fn energy_line(film: &Film, role: &Role, top: f64) -> String {
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

/// Arcs to a cell from what its frames are predicted from.
fn arcs(
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

/// Bytes of each layer, by mode, over the numbers of the layers.
fn layer_totals(film: &Film) -> String {
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

/// Tensors without a layer, on one strip, and their names.
fn singles(cells: &[Cell]) -> String {
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

/// All frames in figures.
fn table(inspection: &Inspection) -> String {
    let mut page = "<h2>Every frame</h2>\n<table>\n<thead><tr><th>tensor</th><th>mode</th><th>reference</th>\
        <th class=\"number\">gain</th><th class=\"number\">bytes</th><th class=\"number\">bits</th>\
        <th class=\"number\">as key, about</th><th class=\"number\">residual energy</th></tr></thead>\n<tbody>\n"
        .to_string();
    let raw = inspection.archive.tensors.iter().filter(|tensor| tensor.frames.is_empty());
    for frame in &inspection.frames {
        let names: Vec<String> = frame.tensors.iter().map(|name| escaped(name)).collect();
        let full = frame.reference.as_ref().map_or(String::new(), ToString::to_string);
        let number = |value: Option<String>, unit: &str| {
            let value = value.unwrap_or_default();
            format!("<td class=\"number\" data-unit=\"{unit}\">{value}</td>")
        };
        let _ = writeln!(
            page,
            "<tr><td class=\"name\">{}</td><td class=\"mode\"><i class=\"{}\"></i>{}</td>\
            <td class=\"reference\" title=\"{}\">{}</td>{}{}{}{}{}</tr>",
            names.join("<br>"),
            class(frame),
            frame.word(),
            escaped(&full),
            escaped(&reference_text(frame, &frame.tensors[0])),
            number(frame.gain.as_ref().map(ToString::to_string), "gain"),
            number(Some(human_bytes(frame.bytes)), ""),
            number(Some(format!("{:.3}", frame.bits)), "bits"),
            number(frame.key_bits.map(|bits| format!("{bits:.2}")), "as key"),
            number(frame.residual_energy.map(percent), "energy")
        );
    }
    for tensor in raw {
        let name = escaped(&tensor.name);
        let _ =
            writeln!(page, "<tr><td class=\"name\">{name}</td><td class=\"mode\"><i class=\"other\"></i>raw</td></tr>");
    }
    page + "</tbody></table>\n"
}

/// The colour of a frame.
fn class(frame: &FrameReport) -> &'static str {
    match frame.mode {
        _ if !frame.is_lossy() && frame.mode == Mode::Key => "exact",
        Mode::Key => "key",
        Mode::Predicted => "predicted",
        Mode::Refinement => "refinement",
    }
}

/// A number in four characters at most.
fn short(value: f64) -> String {
    match value {
        value if value >= 9.95 => format!("{value:.0}"),
        value if value >= 0.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn percent(part: f64) -> String {
    match 100.0 * part {
        percent if percent >= 9.95 => format!("{percent:.0} %"),
        percent if percent >= 0.095 => format!("{percent:.1} %"),
        percent => format!("{percent:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_is_the_first_number_that_stands_alone() {
        for (name, expected) in [
            ("encoder.layer.11.output.dense.weight", ("encoder.layer.*.output.dense.weight", 11)),
            ("w2v.layers.3.fc1.weight", ("w2v.layers.*.fc1.weight", 3)),
            ("conv2_BN.weight", ("conv*_BN.weight", 2)),
            ("onnx::MatMul_812", ("onnx::MatMul_*", 812)),
            ("embeddings.weight", ("embeddings.weight", 0)),
            ("x.99999999999999999999999.y", ("x.99999999999999999999999.y", 0)),
        ] {
            assert_eq!(role(name), (expected.0.to_string(), expected.1), "{name}");
        }
    }

    #[test]
    fn nothing_in_a_name_is_markup() {
        assert_eq!(escaped("<a href='x'>\"&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
    }
}
