//! The archive in figures: what it comes to, what each mode takes of it, and every frame.

use std::fmt::Write;

use super::text::{class, escaped, percent};
use crate::cli::inspect::names::reference_text;
use crate::cli::inspect::report::{FrameReport, Inspection, Mode, Saved};
use crate::cli::sizes::human_bytes;

/// The archive in a few figures, and what each mode takes of it.
pub fn head(inspection: &Inspection) -> String {
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

/// All frames in figures.
pub fn table(inspection: &Inspection) -> String {
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
