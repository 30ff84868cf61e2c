//! Inspection -> tables of files and tensors.

use std::collections::HashMap;

use super::names::{elided, reference_text, shortened};
use super::report::{FrameReport, Gain, Inspection, Saved};
use crate::cli::printable::printable;
use crate::cli::sizes::human_bytes;
use crate::cli::table;
use crate::container::Archive;

/// Columns that a table of tensors may take.
const TABLE_WIDTH: usize = 120;
const NAME_WIDTH_MIN: usize = 24;

pub fn tables(inspection: &Inspection, path: &str) -> String {
    let Inspection { archive, frames } = inspection;
    let mut text = format!(
        "{}  {}, {} chunks\nintegrity  {}\n",
        printable(path),
        human_bytes(archive.bytes()),
        archive.chunk_count,
        archive.integrity
    );
    archive.base.iter().for_each(|base| text += &format!("base       {base}\n"));
    archive.metadata.iter().for_each(|(name, value)| text += &format!("{}  {}\n", printable(name), printable(value)));
    let files: Vec<Vec<String>> = archive
        .files
        .iter()
        .map(|file| vec![file.name.clone(), human_bytes(file.bytes), human_bytes(file.raw_bytes)])
        .collect();
    text += "\n";
    text += &table::text(&["file", "bytes", "outside tensors"], &files, 1);
    text += "\n";
    text += &tensor_table(archive, frames);
    text + &saved_text(archive, frames)
}

fn tensor_table(archive: &Archive, frames: &[FrameReport]) -> String {
    let by_index: HashMap<usize, &FrameReport> = frames.iter().map(|report| (report.frame, report)).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for tensor in &archive.tensors {
        let mut row = vec![printable(&tensor.name).into_owned(), format!("{} {}", tensor.dtype.name(), tensor.shape)];
        if tensor.frames.is_empty() {
            row.push("raw".into());
            rows.push(row);
            continue;
        }
        for report in tensor.frames.iter().filter_map(|frame| by_index.get(frame)) {
            let is_shared = report.tensors.first() != Some(&tensor.name);
            let mut row =
                if report.pass == 0 { row.clone() } else { vec![format!("  pass {}", report.pass), String::new()] };
            if is_shared {
                row.extend(["shared".into(), printable(&shortened(&report.tensors[0], &tensor.name)).into_owned()]);
            } else {
                row.extend(frame_cells(report, &tensor.name));
            }
            rows.push(row);
        }
    }
    let header = ["tensor", "shape", "mode", "reference", "gain", "coded", "bits", "as key"];
    // Columns that say nothing are left out.
    let said =
        |column: &usize| *column < 3 || rows.iter().any(|row| row.get(*column).is_some_and(|cell| !cell.is_empty()));
    let columns: Vec<usize> = (0..header.len()).filter(said).collect();
    let header: Vec<&str> = columns.iter().map(|&column| header[column]).collect();
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let mut rows: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|&column| cell(row, column)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0) + 2
    };
    let others: usize = (1..header.len()).map(width).sum();
    let name_width = TABLE_WIDTH.saturating_sub(others).max(NAME_WIDTH_MIN);
    rows.iter_mut().for_each(|row| row[0] = elided(&row[0], name_width));
    table::text(&header, &rows, 3 + usize::from(header.contains(&"reference")))
}

/// Mode, reference, gain, size, bits, and bits without prediction.
fn frame_cells(report: &FrameReport, name: &str) -> [String; 6] {
    [
        report.word().into(),
        reference_text(report, name),
        report.gain.as_ref().map_or(String::new(), Gain::to_string),
        human_bytes(report.bytes),
        format!("{:.3}", report.bits),
        report.key_bits.map_or(String::new(), |bits| format!("{bits:.2}")),
    ]
}

/// What predicted frames save, or why that is unknown.
fn saved_text(archive: &Archive, frames: &[FrameReport]) -> String {
    let mut text = "\nbits: for each element".to_string();
    if let Some(saved) = Saved::of(frames) {
        text += &format!(
            "; as key: about what it would take without prediction\n{} predicted frames take {}; as key frames they would take about {}",
            saved.frames,
            human_bytes(saved.bytes),
            human_bytes(saved.key_bytes)
        );
    }
    if archive.require_base().is_err() {
        text += "\nA delta: with --base, what its frames would take without prediction is shown too";
    }
    text + "\n"
}
