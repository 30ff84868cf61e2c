//! What an encoder did -> a table by kinds of tensors.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::printable::printable;
use crate::cli::sizes::human_bytes;
use crate::cli::table;
use crate::encode::{Inputs, Report, TensorReport};

pub fn report_text(report: &Report, output: &Path) -> String {
    let mut kinds: BTreeMap<(bool, _), Vec<&TensorReport>> = BTreeMap::new();
    for tensor in &report.tensors {
        kinds.entry((!tensor.lossy, tensor.kind)).or_default().push(tensor);
    }
    let mut rows: Vec<Vec<String>> =
        kinds.iter().map(|((exact, kind), tensors)| row(kind.name(), !exact, tensors)).collect();
    let framed: u64 = report.tensors.iter().map(|tensor| tensor.original_bytes).sum();
    let coded: u64 = report.tensors.iter().map(|tensor| tensor.coded_bytes).sum();
    let shared = "other bytes".to_string();
    let raw_original = report.original_bytes.saturating_sub(framed);
    let head = report.archive_bytes.saturating_sub(coded + report.raw_bytes);
    rows.push(vec![
        shared,
        String::new(),
        human_bytes(raw_original),
        human_bytes(report.raw_bytes),
        String::new(),
        ratio(raw_original, report.raw_bytes),
        "exact".into(),
    ]);
    rows.push(vec![
        "header".into(),
        String::new(),
        String::new(),
        human_bytes(head),
        String::new(),
        String::new(),
        String::new(),
    ]);
    let mut text =
        table::text(&["kind", "weights", "original", "coded", "bits/weight", "ratio", "error (NMSE)"], &rows, 1);
    text += &format!(
        "\n{}: {} -> {}, {} times smaller\n",
        printable(&output.to_string_lossy()),
        human_bytes(report.original_bytes),
        human_bytes(report.archive_bytes),
        ratio(report.original_bytes, report.archive_bytes)
    );
    let weights = report.coded_weights();
    if weights > 0 {
        let lossy = report.tensors.iter().filter(|tensor| tensor.lossy);
        let bits = 8.0 * lossy.map(|tensor| tensor.coded_bytes).sum::<u64>() as f64 / weights as f64;
        text += &format!("{bits:.3} bits for each of the {weights} weights coded with loss\n");
        text += &if report.errs_as_uncalibrated {
            "error of the outputs: as without calibration, judged by random inputs; how large that is only samples tell\n".into()
        } else if let Some(inputs) = report.inputs {
            promise(report.distortion, inputs)
        } else {
            "Bits were spent evenly, a few more on small tensors. Calibration (docs/CALIBRATION.md) tells where they matter: the same quality in fewer.\n".into()
        };
    }
    for (pass, &bytes) in report.pass_bytes.iter().enumerate() {
        text += &format!("pass {pass} can be used after {}\n", human_bytes(bytes));
    }
    report.notes.iter().for_each(|note| text += &format!("{}\n", printable(note)));
    text
}

/// What the errors cost, with what is known of that.
fn promise(distortion: f64, inputs: Inputs) -> String {
    match inputs {
        Inputs::Samples => format!("expected error of the outputs: {distortion:.1e}\n"),
        Inputs::Random { second_draw: None } => {
            format!("error on random inputs: {distortion:.1e}, not checked on a second draw; on real ones unknown\n")
        }
        Inputs::Random { second_draw: Some(ratio) } => {
            let second = ratio * distortion;
            format!("error on random inputs: {distortion:.1e}, {second:.1e} on a second draw; on real ones unknown\n")
        }
    }
}

fn row(name: &str, lossy: bool, tensors: &[&TensorReport]) -> Vec<String> {
    let sum = |field: fn(&TensorReport) -> u64| tensors.iter().map(|tensor| field(tensor)).sum::<u64>();
    let (weights, original) = (sum(|tensor| tensor.weights), sum(|tensor| tensor.original_bytes));
    let coded = sum(|tensor| tensor.coded_bytes);
    let energy: f64 = tensors.iter().map(|tensor| tensor.energy).sum();
    let squared_error: f64 = tensors.iter().map(|tensor| tensor.squared_error).sum();
    vec![
        name.to_string(),
        weights.to_string(),
        human_bytes(original),
        human_bytes(coded),
        format!("{:.3}", 8.0 * coded as f64 / weights.max(1) as f64),
        ratio(original, coded),
        if lossy { format!("{:.2e}", squared_error / energy.max(f64::MIN_POSITIVE)) } else { "exact".into() },
    ]
}

fn ratio(original: u64, coded: u64) -> String {
    if coded == 0 { "—".into() } else { format!("{:.2}", original as f64 / coded as f64) }
}
