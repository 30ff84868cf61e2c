//! Statistics files through the `mcwc` command: those that do not fit, those that say little, and what is promised of errors.

#![cfg(feature = "cli")]

mod common;

use std::path::Path;

use common::command::{json, mcwc, ok};
use common::{Noise, Tensor};
use mcwc::encode::to_f32;
use mcwc::tensor::DType;

const ROWS: usize = 64;
const COLUMNS: usize = 48;

/// A directory with a model of two matrices, `a` and `b`, of `ROWS × COLUMNS`.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("model.safetensors"), common::safetensors(&model())).unwrap();
    directory
}

fn model() -> [Tensor; 2] {
    let mut random = Noise(31);
    ["a", "b"].map(|name| {
        let weights = random.normals(ROWS * COLUMNS, 0.1);
        Tensor::floats(name, DType::F32, &[ROWS as u64, COLUMNS as u64], &weights)
    })
}

/// A statistics file.
fn statistics(tensors: &[(&str, &[u64], Vec<f32>)]) -> Vec<u8> {
    statistics_of(r#"{"format": "mcwc-statistics", "version": "1", "inputs": "samples", "samples": "8"}"#, tensors)
}

fn statistics_of(metadata: &str, tensors: &[(&str, &[u64], Vec<f32>)]) -> Vec<u8> {
    let tensors: Vec<Tensor> =
        tensors.iter().map(|(name, shape, values)| Tensor::floats(name, DType::F32, shape, values)).collect();
    common::statistics(metadata, &tensors)
}

/// Of as many inputs as there are columns, each depending on a few others.
fn moments(len: usize) -> Vec<f32> {
    (0..len * len).map(|at| 0.9f32.powi((at / len).abs_diff(at % len) as i32)).collect()
}

/// Encodes the model with these statistics: relative squared errors of `a` and `b`, as decoded.
fn errors(directory: &Path, tensors: &[(&str, &[u64], Vec<f32>)], arguments: &[&str]) -> [f64; 2] {
    std::fs::write(directory.join("stats.safetensors"), statistics(tensors)).unwrap();
    let encode =
        ["encode", "model.safetensors", "-o", "m.mcwc", "--force", "--calibration", "stats.safetensors", "--json"];
    json(directory, &[&encode, arguments].concat());
    decoded_errors(directory)
}

/// Decodes `m.mcwc`: relative squared errors of `a` and `b`.
fn decoded_errors(directory: &Path) -> [f64; 2] {
    json(directory, &["decode", "m.mcwc", "-o", "out", "--force", "--json"]);
    let file = std::fs::read(directory.join("out/model.safetensors")).unwrap();
    let tensors = model();
    let bytes = tensors[0].bytes.len();
    let start = file.len() - 2 * bytes;
    [0, 1].map(|index| {
        let original = to_f32(&tensors[index].bytes, DType::F32);
        let decoded = to_f32(&file[start + index * bytes..start + (index + 1) * bytes], DType::F32);
        let energy = |x: f32| f64::from(x) * f64::from(x);
        original.iter().zip(&decoded).map(|(x, y)| energy(x - y)).sum::<f64>()
            / original.into_iter().map(energy).sum::<f64>()
    })
}

#[test]
fn statistics_that_do_not_fit_are_refused_by_name() {
    let directory = directory();
    let path = directory.path();
    let square = |len: u64| [len, len];
    let with = |at: usize, value: f32| {
        let mut values = moments(COLUMNS);
        values[at] = value;
        values
    };
    let (rows, columns) = (ROWS as u64, COLUMNS as u64);
    let one = |name: &str, shape: &[u64], values: Vec<f32>| statistics(&[(name, shape, values)]);
    let good = one("a/importance", &[], vec![1.0]);
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("other model", one("c/importance", &[], vec![1.0]), &["another model", "\"c\""]),
        ("row count", one("a/row_importance", &[columns], vec![1.0; COLUMNS]), &["\"a\"", "48 where 64", "[64, 48]"]),
        ("column count", one("b/column_moments", &square(rows), moments(ROWS)), &["\"b\"", "64 where 48"]),
        ("moments of rows", one("b/row_moments", &square(columns), moments(COLUMNS)), &["\"b\"", "48 where 64"]),
        ("not square", one("a/column_moments", &[2, 48], vec![1.0; 96]), &["a/column_moments", "[2, 48]"]),
        ("flat", one("a/column_moments", &[4], vec![1.0; 4]), &["a/column_moments", "shape [4]"]),
        ("importances", one("a/importance", &[2], vec![1.0; 2]), &["a/importance", "shape [2]"]),
        ("no rows", one("a/row_importance", &[0], vec![]), &["a/row_importance", "shape [0]"]),
        ("nan", one("a/column_moments", &square(columns), with(5, f32::NAN)), &["a/column_moments", "NaN"]),
        ("infinity", one("a/importance", &[], vec![f32::INFINITY]), &["a/importance", "inf"]),
        ("negative", one("a/importance", &[], vec![-1.0]), &["a/importance", "negative"]),
        ("negative row", one("a/row_importance", &[rows], vec![-1e-9; ROWS]), &["a/row_importance", "negative"]),
        ("square", one("a/column_moments", &square(columns), with(0, -1.0)), &["a/column_moments", "negative"]),
        ("no statistic", one("importance", &[], vec![1.0]), &["\"importance\"", "no statistic"]),
        ("empty", statistics(&[]), &["no statistics"]),
        ("model", std::fs::read(path.join("model.safetensors")).unwrap(), &["is it a model?"]),
        ("version", statistics_of(r#"{"format": "mcwc-statistics", "version": "2"}"#, &[]), &["version"]),
        ("text", b"samples: 8".to_vec(), &["stats.safetensors", "header length"]),
        ("no bytes", Vec::new(), &["stats.safetensors"]),
        ("cut data", good[..good.len() - 1].to_vec(), &["stats.safetensors"]),
        ("cut header", good[..40].to_vec(), &["stats.safetensors"]),
    ];
    for (name, file, expected) in cases {
        std::fs::write(path.join("stats.safetensors"), file).unwrap();
        let arguments = ["encode", "model.safetensors", "-o", "m.mcwc", "--calibration", "stats.safetensors"];
        let output = mcwc(path, &arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), message.lines().count()), (Some(1), 1), "{name}: {message}");
        for part in expected {
            assert!(message.contains(part), "{name}: {message}");
        }
        assert!(!path.join("m.mcwc").exists(), "{name}");
    }
    let missing = mcwc(path, &["encode", "model.safetensors", "-o", "m.mcwc", "--calibration", "gone.safetensors"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("gone.safetensors"));
}

#[test]
fn moments_without_a_factor_still_encode() {
    let directory = directory();
    let len = COLUMNS as u64;
    let one_input: Vec<f32> = (0..COLUMNS * COLUMNS).map(|at| if at == 7 * COLUMNS + 7 { 4.0 } else { 0.0 }).collect();
    // Not positive semidefinite: a correlation beyond 1.
    let indefinite = |at: usize| if at / COLUMNS == at % COLUMNS { 1.0 } else { 3.0 * (-1f32).powi(at as i32) };
    for (name, values) in [
        ("zero", vec![0.0; COLUMNS * COLUMNS]),
        ("rank one", vec![2.5; COLUMNS * COLUMNS]),
        ("one input", one_input),
        ("indefinite", (0..COLUMNS * COLUMNS).map(indefinite).collect()),
        ("tiny", moments(COLUMNS).iter().map(|value| value * 1e-37).collect()),
        ("huge", moments(COLUMNS).iter().map(|value| value * 1e38).collect()),
    ] {
        let found = errors(directory.path(), &[("a/column_moments", &[len, len], values)], &["--bits", "6"]);
        assert!(found.iter().all(|&error| error > 0.0 && error < 0.2), "{name}: {found:?}");
    }
}

#[test]
fn importances_move_bits_between_tensors() {
    let directory = directory();
    let path = directory.path();
    let scalar: &[u64] = &[];
    let with = |a: f32, b: f32| [("a/importance", scalar, vec![a]), ("b/importance", scalar, vec![b])];
    let even = errors(path, &with(1.0, 1.0), &["--bits", "4"]);
    assert!((even[0] / even[1] - 1.0).abs() < 0.2, "{even:?}");
    let uneven = errors(path, &with(16.0, 1.0), &["--bits", "4"]);
    assert!(uneven[0] < 0.15 * uneven[1] && uneven[1] > even[1], "{uneven:?}");
    let extreme = errors(path, &with(1e3, 1e-3), &["--bits", "5"]);
    assert!(extreme[0] < 1e-3 * extreme[1], "{extreme:?}");
    // What nothing was seen to depend on counts as much as the others.
    for [a, b] in [[1.0, 0.0], [0.0, 0.0]] {
        let idle = errors(path, &with(a, b), &["--bits", "4"]);
        assert!((idle[0] / idle[1] - 1.0).abs() < 0.2, "{a} and {b}: {idle:?}");
    }
}

/// Encodes the model with statistics of random inputs: what the encoder says, and relative squared errors of `a` and `b`.
fn random_errors(directory: &Path, metadata: &str, importances: [f32; 2], target: [&str; 2]) -> (String, [f64; 2]) {
    let scalar: &[u64] = &[];
    let tensors = [("a/importance", scalar, vec![importances[0]]), ("b/importance", scalar, vec![importances[1]])];
    let metadata = format!(r#"{{"format": "mcwc-statistics", "version": "1", "inputs": "random"{metadata}}}"#);
    std::fs::write(directory.join("stats.safetensors"), statistics_of(&metadata, &tensors)).unwrap();
    let encode = ["encode", "model.safetensors", "-o", "m.mcwc", "--force", "--calibration", "stats.safetensors"];
    let output = mcwc(directory, &[&encode[..], &target].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), decoded_errors(directory))
}

#[test]
fn random_inputs_take_no_more_than_a_stated_factor() {
    let directory = directory();
    let path = directory.path();
    let bits = ["--bits", "6"];
    json(path, &["encode", "model.safetensors", "-o", "m.mcwc", "--force", "--bits", "6", "--json"]);
    let uncalibrated = decoded_errors(path);
    for importances in [[1.0, 1e-9], [1e9, 1e-9], [1e-20, 1e-30]] {
        let (said, found) = random_errors(path, "", importances, bits);
        let factors = [found[0] / uncalibrated[0], found[1] / uncalibrated[1]];
        assert!(factors[0] < 1.0 && factors[1] > 16.0 && factors[1] < 36.0, "{importances:?}: {factors:?}");
        assert!(said.contains("1 tensor that random inputs hardly reach, kept within 32 times"), "{said}");
        assert!(said.contains(": b\n"), "{said}");
    }
    // Within the factor they are believed.
    let (said, found) = random_errors(path, "", [1.0, 1.0 / 16.0], bits);
    assert!(found[1] > 12.0 * found[0] && found[1] < 20.0 * found[0], "{found:?}");
    assert!(!said.contains("hardly reach"), "{said}");
    // Real ones are believed further.
    let scalar: &[u64] = &[];
    let real = errors(path, &[("a/importance", scalar, vec![1.0]), ("b/importance", scalar, vec![1e-9])], &bits);
    assert!(real[1] > 100.0 * uncalibrated[1], "{real:?}");
}

#[test]
fn a_preset_by_random_inputs_costs_as_much_as_uncalibrated_in_fewer_bits() {
    let directory = directory();
    let path = directory.path();
    let preset = ["--preset", "balanced"];
    // Without tables, which outweigh what so small a model saves.
    let bits = |said: &str| -> f64 { said.split(" bits for").next().unwrap().lines().last().unwrap().parse().unwrap() };
    let plain_bits = bits(&ok(path, &[&["encode", "model.safetensors", "-o", "m.mcwc"], &preset[..]].concat()));
    let plain = decoded_errors(path);
    // However large or small outputs seem to err.
    for scale in [1e-12, 1.0, 1e12] {
        let (said, found) = random_errors(path, "", [scale, scale / 9.0], preset);
        let cost = (found[0] + found[1] / 9.0) / (plain[0] + plain[1] / 9.0);
        assert!(cost > 0.95 && cost < 1.05 && found[1] > 7.0 * found[0], "{scale}: {found:?} of {plain:?}");
        assert!(bits(&said) < plain_bits - 0.3 && said.contains("as without calibration, judged by"), "{said}");
        let (said, _) = random_errors(path, "", [scale, scale], preset);
        assert!((bits(&said) - plain_bits).abs() < 0.01, "{scale}: {} of {plain_bits}", bits(&said));
    }
    let (said, found) = random_errors(path, "", [1.0, 1e-9], preset);
    let factors = [found[0] / plain[0], found[1] / plain[1]];
    assert!(factors[0] < 1.05 && factors[1] > 7.0 && factors[1] < 8.5, "{factors:?}");
    assert!(said.contains("1 tensor that random inputs hardly reach, kept within 8 times"), "{said}");
}

#[test]
fn what_random_inputs_never_reach_counts_as_much_as_the_others() {
    let directory = directory();
    let (said, found) = random_errors(directory.path(), "", [1.0, 0.0], ["--bits", "4"]);
    assert!((found[0] / found[1] - 1.0).abs() < 0.2, "{found:?}");
    assert!(said.contains("1 tensor without any effect on the outputs that were measured"), "{said}");
    assert!(said.contains(": b\n"), "{said}");
}

#[test]
fn random_inputs_that_leave_outputs_numb_promise_no_more_than_the_weights() {
    let directory = directory();
    let bound = ["--quality", "0.01"];
    let (_, found) = random_errors(directory.path(), "", [1e-12, 1e-12], bound);
    assert!(found.iter().all(|&error| error < 0.0105), "{found:?}");
}

#[test]
fn promises_made_from_random_inputs_say_so() {
    let directory = directory();
    let path = directory.path();
    for (metadata, expected) in [
        ("", "error on random inputs: 1.0e-2, not checked on a second draw; on real ones unknown"),
        (r#", "second_draw": "1.5""#, "error on random inputs: 1.0e-2, 1.5e-2 on a second draw; on real ones unknown"),
    ] {
        let (said, _) = random_errors(path, metadata, [1.0, 1.0], ["--quality", "0.01"]);
        assert!(said.contains(expected), "{said}");
    }
    for ratio in ["-1", "inf", "nan", "x", ""] {
        let metadata =
            format!(r#"{{"format": "mcwc-statistics", "version": "1", "inputs": "random", "second_draw": "{ratio}"}}"#);
        let file = statistics_of(&metadata, &[("a/importance", &[], vec![1.0])]);
        std::fs::write(path.join("stats.safetensors"), file).unwrap();
        let output = mcwc(
            path,
            &["encode", "model.safetensors", "-o", "n.mcwc", "--force", "--calibration", "stats.safetensors"],
        );
        assert_eq!(output.status.code(), Some(1), "{ratio}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("second_draw"), "{ratio}");
    }
}

#[test]
fn important_rows_are_finer() {
    let directory = directory();
    let path = directory.path();
    let importances = (0..ROWS).map(|row| if row % 2 == 0 { 1.999 } else { 0.001 }).collect();
    errors(path, &[("a/row_importance", &[ROWS as u64], importances)], &["--bits", "4"]);
    let squares = errors_of_even_and_odd_rows(path);
    assert!(squares[0] < 0.1 * squares[1], "{squares:?}");
}

#[test]
fn rows_that_random_inputs_left_silent_are_not_lost() {
    let directory = directory();
    let path = directory.path();
    let importances = (0..ROWS).map(|row| if row % 2 == 0 { 2.0 } else { 0.0 }).collect();
    let metadata = r#"{"format": "mcwc-statistics", "version": "1", "inputs": "random"}"#;
    let statistics = statistics_of(metadata, &[("a/row_importance", &[ROWS as u64], importances)]);
    std::fs::write(path.join("stats.safetensors"), statistics).unwrap();
    let encode =
        ["encode", "model.safetensors", "-o", "m.mcwc", "--force", "--calibration", "stats.safetensors", "--json"];
    json(path, &[&encode[..], &["--bits", "4"]].concat());
    decoded_errors(path);
    // Errors go with the reciprocals of sqrt(2) and of sqrt(0.1).
    let squares = errors_of_even_and_odd_rows(path);
    assert!(squares[0] < 0.5 * squares[1] && squares[0] > 0.1 * squares[1], "{squares:?}");
}

/// Squared errors of the even and of the odd rows of `a`, as last decoded.
fn errors_of_even_and_odd_rows(directory: &Path) -> [f32; 2] {
    let compared = std::fs::read(directory.join("out/model.safetensors")).unwrap();
    let original = to_f32(&model()[0].bytes, DType::F32);
    let start = compared.len() - 2 * 4 * ROWS * COLUMNS;
    let decoded = to_f32(&compared[start..start + 4 * ROWS * COLUMNS], DType::F32);
    let mut squares = [0.0f32; 2];
    for (at, (x, y)) in original.iter().zip(&decoded).enumerate() {
        squares[at / COLUMNS % 2] += (x - y) * (x - y);
    }
    squares
}

#[test]
fn quality_is_a_bound() {
    let directory = directory();
    let path = directory.path();
    for bound in ["0.05", "0.01", "0.0001"] {
        let limit: f64 = bound.parse().unwrap();
        json(path, &["encode", "model.safetensors", "-o", "m.mcwc", "--force", "--quality", bound, "--json"]);
        let [a, b] = decoded_errors(path);
        let mean = (a + b) / 2.0;
        assert!(mean <= limit * 1.0001 && mean > 0.95 * limit, "{bound}: {mean}");

        // What the outputs lose is what the statistics say: importance times squared error.
        let energies = model().map(|tensor| to_f32(&tensor.bytes, DType::F32).iter().map(|x| x * x).sum::<f32>());
        let importances = [0.9 / energies[0], 0.1 / energies[1]];
        let scalar: &[u64] = &[];
        let known = [("a/importance", scalar, vec![importances[0]]), ("b/importance", scalar, vec![importances[1]])];
        let [a, b] = errors(path, &known, &["--quality", bound]);
        let distortion = 0.9 * a + 0.1 * b;
        assert!(distortion <= limit * 1.0001 && distortion > 0.95 * limit, "{bound}: {distortion}");
    }
}

#[test]
fn quality_with_moments_bounds_what_they_say() {
    let directory = directory();
    let path = directory.path();
    let len = COLUMNS as u64;
    let energies = model().map(|tensor| to_f32(&tensor.bytes, DType::F32).iter().map(|x| x * x).sum::<f32>());
    let scalar: &[u64] = &[];
    let known = [
        ("a/importance", scalar, vec![0.5 / energies[0]]),
        ("b/importance", scalar, vec![0.5 / energies[1]]),
        ("a/column_moments", &[len, len], moments(COLUMNS)),
        ("b/column_moments", &[len, len], moments(COLUMNS)),
    ];
    errors(path, &known, &["--quality", "0.01"]);
    let file = std::fs::read(path.join("out/model.safetensors")).unwrap();
    let start = file.len() - 2 * 4 * ROWS * COLUMNS;
    let distortion: f64 = (model().iter().zip(file[start..].chunks(4 * ROWS * COLUMNS)).zip(energies))
        .map(|((tensor, decoded), energy)| {
            let original = to_f32(&tensor.bytes, DType::F32);
            let error: Vec<f32> =
                original.iter().zip(to_f32(decoded, DType::F32)).map(|(weight, decoded)| weight - decoded).collect();
            0.5 * quadratic(&error, &moments(COLUMNS)) / f64::from(energy)
        })
        .sum();
    assert!(distortion <= 0.01, "{distortion}");
}

/// Sum of `e H eᵀ` over the rows `e` of some errors.
fn quadratic(errors: &[f32], moments: &[f32]) -> f64 {
    let row = |error: &[f32]| -> f64 {
        (0..COLUMNS * COLUMNS)
            .map(|at| f64::from(error[at / COLUMNS]) * f64::from(moments[at]) * f64::from(error[at % COLUMNS]))
            .sum()
    };
    errors.chunks(COLUMNS).map(row).sum()
}

#[test]
fn feedback_spends_errors_where_moments_forgive_them() {
    let directory = directory();
    let path = directory.path();
    let len = COLUMNS as u64;
    let known =
        [("a/column_moments", &[len, len][..], moments(COLUMNS)), ("b/column_moments", &[len, len], moments(COLUMNS))];
    let cost = |arguments: &[&str]| {
        errors(path, &known, arguments);
        let file = std::fs::read(path.join("out/model.safetensors")).unwrap();
        let original = to_f32(&model()[1].bytes, DType::F32);
        let decoded = to_f32(&file[file.len() - 4 * ROWS * COLUMNS..], DType::F32);
        let error: Vec<f32> = original.iter().zip(decoded).map(|(weight, decoded)| weight - decoded).collect();
        quadratic(&error, &moments(COLUMNS))
    };
    let (with, without) = (cost(&["--bits", "4"]), cost(&["--bits", "4", "--no-feedback"]));
    assert!(with < 0.6 * without, "{with} and {without}");
}

#[test]
fn two_targets_are_wrong_usage() {
    let directory = directory();
    for arguments in [
        vec!["--bits", "4", "--quality", "0.01"],
        vec!["--size", "10kB", "--quality", "0.01"],
        vec!["--quality", "0"],
        vec!["--quality", "1"],
        vec!["--quality", "nan"],
        vec!["--calibration"],
    ] {
        let output =
            mcwc(directory.path(), &[&["encode", "model.safetensors", "-o", "m.mcwc"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert!(!directory.path().join("m.mcwc").exists());
}

/// Statistics of which one weight matters and another hardly does.
fn importances(much: &str, little: &str) -> Vec<u8> {
    let name = |weight: &str| format!("{weight}/importance");
    statistics(&[(&name(much), &[], vec![1e4]), (&name(little), &[], vec![1.0])])
}

#[test]
fn each_model_may_have_statistics_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut random = Noise(32);
    let mut write = |file: &str, names: [&str; 2]| {
        let tensors = names.map(|name| {
            let weights = random.normals(ROWS * COLUMNS, 0.1);
            Tensor::floats(name, DType::F32, &[ROWS as u64, COLUMNS as u64], &weights)
        });
        std::fs::write(path.join(file), common::safetensors(&tensors)).unwrap();
    };
    write("det.safetensors", ["w", "box"]);
    write("rec.safetensors", ["w", "text"]);
    write("copy.safetensors", ["w", "text"]);
    std::fs::write(path.join("det.stats"), importances("w", "box")).unwrap();
    std::fs::write(path.join("rec.stats"), importances("text", "w")).unwrap();
    std::fs::write(path.join("other.stats"), importances("w", "unknown")).unwrap();
    let encode = ["encode", "det.safetensors", "rec.safetensors", "-o", "m.mcwc", "--force", "--json"];
    let with = |more: &[&'static str]| [&encode, more].concat();
    for order in [["det.stats", "rec.stats"], ["rec.stats", "det.stats"]] {
        let report = json(path, &with(&["--calibration", order[0], "--calibration", order[1]]));
        assert_eq!(report["calibrated"], true);
        let tensors = report["tensors"].as_array().unwrap();
        let error = |name: &str| {
            let tensor = tensors.iter().find(|tensor| tensor["name"] == name).unwrap();
            tensor["squared_error"].as_f64().unwrap()
        };
        let [det, rec] = ["det.safetensors/w", "rec.safetensors/w"].map(error);
        assert!(100.0 * det < error("box") && 100.0 * error("text") < rec, "{det} {rec}");
    }
    let refused = |arguments: &[&str], expected: &str| {
        let output = mcwc(path, arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && message.contains(expected), "{message}");
    };
    refused(&with(&["--calibration", "other.stats"]), "other.stats: the statistics fit none of the models");
    refused(
        &with(&["copy.safetensors", "--calibration", "rec.stats"]),
        "more than one model (copy.safetensors, rec.safetensors)",
    );
    refused(&with(&["--calibration", "det.stats", "--calibration", "det.stats"]), "has statistics in another file too");
}
