//! Inspection -> JSON.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::report::{FrameReport, Inspection, Mode};

pub fn describe(inspection: &Inspection) -> Value {
    let Inspection { archive, frames } = inspection;
    let files: Vec<Value> = archive
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.bytes, "raw_bytes": file.raw_bytes }))
        .collect();
    let by_index: HashMap<usize, &FrameReport> = frames.iter().map(|report| (report.frame, report)).collect();
    let tensors: Vec<Value> = archive
        .tensors
        .iter()
        .map(|tensor| {
            let reports: Vec<&FrameReport> =
                tensor.frames.iter().filter_map(|frame| by_index.get(frame).copied()).collect();
            let last = reports.last();
            json!({
                "name": tensor.name,
                "dtype": tensor.dtype.name(),
                "shape": tensor.shape.0,
                "file": archive.files[tensor.file].name,
                "offset": tensor.offset,
                "bytes": tensor.bytes,
                "coding": last.map_or("raw", |report| coding(report)),
                "coded_bytes": last.map(|_| reports.iter().map(|report| report.bytes).sum::<u64>()),
                "scale": last.and_then(|report| report.scale),
                "frame": last.map(|report| report.frame),
            })
        })
        .collect();
    json!({
        "bytes": archive.bytes(),
        "head_bytes": archive.head_bytes,
        "integrity": archive.integrity.to_string(),
        "base": archive.base.map(|base| base.to_string()),
        "chunks": archive.chunk_count,
        "tables": archive.tables.len(),
        "metadata": archive.metadata.iter().cloned().collect::<BTreeMap<_, _>>(),
        "files": files,
        "tensors": tensors,
        "frames": frames,
    })
}

/// How a tensor is coded, judged by its last frame.
fn coding(report: &FrameReport) -> &'static str {
    match (report.coding, report.mode) {
        ("planes", Mode::Key) => "exact planes",
        ("planes", _) => "predicted planes",
        ("integers", _) => "exact levels",
        (_, Mode::Key) => "key levels",
        _ => "predicted levels",
    }
}
