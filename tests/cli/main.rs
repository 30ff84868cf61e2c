//! The `mcwc` command as its users run it.

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "gpu")]
mod decode_gpu;
#[cfg(feature = "gpu")]
#[path = "../common/differences.rs"]
mod differences;
mod gpu;
#[cfg(target_os = "linux")]
mod outputs;
mod reading;
mod terminal;

use std::process::Command;

use common::command::{failure, json, mcwc, ok};
use common::{Noise, Tensor, every_kind, safetensors};
use mcwc::encode::to_f32;
use mcwc::tensor::DType;
use serde_json::Value;

fn directory_with_model() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("model.safetensors"), safetensors(&every_kind(21))).unwrap();
    directory
}

#[test]
fn encode_decode_and_compare() {
    let directory = directory_with_model();
    let path = directory.path();
    let table = ok(path, &["encode", "model.safetensors", "-o", "m.mcwc", "--bits", "6"]);
    assert!(table.contains("matrices") && table.contains("convolutions") && table.contains("times smaller"), "{table}");
    ok(path, &["decode", "m.mcwc", "-o", "out"]);
    let len = |name: &str| std::fs::metadata(path.join(name)).unwrap().len();
    assert_eq!(len("out/model.safetensors"), len("model.safetensors"));
    for other in ["out/model.safetensors", "m.mcwc"] {
        let compared = json(path, &["compare", "model.safetensors", other, "--json"]);
        let nmse = compared["nmse"].as_f64().unwrap();
        assert!(nmse > 1e-6 && nmse < 2e-3, "{nmse}");
        let tensors = compared["tensors"].as_array().unwrap();
        let exact = |name: &str| tensors.iter().find(|tensor| tensor["name"] == name).unwrap()["identical"] == true;
        assert!(exact("i64") && exact("f32.special") && exact("bf16.constant") && !exact("f32[37, 41]"));
    }
}

#[test]
fn lossless_is_identical_and_verifies() {
    let directory = directory_with_model();
    let path = directory.path();
    std::fs::write(path.join("notes.txt"), "kept as it is").unwrap();
    ok(path, &["encode", "model.safetensors", "notes.txt", "-o", "m.mcwc", "--lossless"]);
    assert!(ok(path, &["verify", "m.mcwc"]).contains("intact"));
    ok(path, &["decode", "m.mcwc", "-o", "out"]);
    for name in ["model.safetensors", "notes.txt"] {
        assert_eq!(std::fs::read(path.join(name)).unwrap(), std::fs::read(path.join("out").join(name)).unwrap());
    }
    let compared = json(path, &["compare", "--json", "model.safetensors", "m.mcwc"]);
    assert_eq!(compared["identical"], compared["count"]);
}

#[test]
fn exact_floats_that_drift_are_smaller_if_they_may_adapt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut random = Noise(8);
    let drifting: Vec<f32> = (0..256 * 256).map(|at| random.normal() * (at as f32 / 4096.0 - 8.0).exp2()).collect();
    let file = safetensors(&[
        Tensor::floats("drifting", DType::F16, &[256, 256], &drifting),
        Tensor::floats("learned", DType::F16, &[64, 64], &random.normals(4096, 0.05)),
    ]);
    std::fs::write(path.join("m.safetensors"), &file).unwrap();
    for target in [&["--lossless"][..], &["--bits", "4", "--exclude", "drifting"]] {
        let bytes = [&[][..], &["--adaptive"]].map(|adaptive| {
            ok(path, &[&["encode", "m.safetensors", "-o", "m.mcwc", "--force"], target, adaptive].concat());
            let compared = json(path, &["compare", "m.safetensors", "m.mcwc", "--json"]);
            let tensors = compared["tensors"].as_array().unwrap();
            assert!(tensors.iter().any(|tensor| tensor["name"] == "drifting" && tensor["identical"] == true));
            std::fs::metadata(path.join("m.mcwc")).unwrap().len()
        });
        assert!(bytes[1] < bytes[0] * 9 / 10, "{bytes:?}, {target:?}");
    }
}

#[test]
fn floats_that_may_adapt_are_exact_where_that_takes_less_than_loss() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut random = Noise(9);
    let power = |at: usize| {
        let exponent = (3.0 * random.uniform() + at as f32 / 4096.0).floor() - 12.0;
        exponent.exp2().copysign(random.uniform() - 0.5)
    };
    let powers: Vec<f32> = (0..256 * 256).map(power).collect();
    let file = safetensors(&[Tensor::floats("powers", DType::F16, &[256, 256], &powers)]);
    std::fs::write(path.join("m.safetensors"), &file).unwrap();
    let encode = |options: &[&str]| {
        let report = json(path, &[&["encode", "m.safetensors", "-o", "m.mcwc", "--force", "--json"], options].concat());
        (report["tensors"][0]["lossy"].as_bool().unwrap(), report["archive_bytes"].as_u64().unwrap())
    };
    let quality = ["--quality", "3e-5"];
    assert!(encode(&quality).0);
    assert_eq!(encode(&[&quality[..], &["--adaptive"]].concat()), encode(&["--lossless", "--adaptive"]));
}

#[test]
fn inspect_tells_what_is_inside() {
    let directory = directory_with_model();
    let path = directory.path();
    ok(path, &["encode", "model.safetensors", "-o", "model.mcwc", "--bits", "4", "--exclude", "{bf16,nothing}*"]);
    let described = json(path, &["inspect", "model.mcwc", "--json"]);
    assert_eq!(described["files"][0]["name"], "model.safetensors");
    assert_eq!(described["integrity"].as_str().unwrap().len(), 32);
    let tensors = described["tensors"].as_array().unwrap();
    let coding = |name: &str| tensors.iter().find(|tensor| tensor["name"] == name).unwrap()["coding"].clone();
    assert_eq!(coding("f32[37, 41]"), "key levels");
    assert_eq!(coding("bf16[37, 41]"), "exact planes");
    assert_eq!(coding("f32[1]"), "raw");
    let table = ok(path, &["inspect", "model.mcwc"]);
    let mode = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap();
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).nth(2).unwrap()
    };
    assert_eq!(["f32[37, 41]", "bf16[37, 41]", "f32[1]"].map(mode), ["key", "exact", "raw"], "{table}");
}

/// Two layers of weights, the second much like the first, and two names that a page must escape.
fn layered(seed: u64, noise: f32) -> Vec<u8> {
    let mut random = Noise(9);
    let first = random.normals(128 * 256, 0.05);
    let alone = random.normals(64 * 96, 0.05);
    let mut random = Noise(seed);
    let mut like = |weights: &[f32], noise: f32| -> Vec<f32> {
        weights.iter().map(|weight| weight + noise * random.normal()).collect()
    };
    let change = if seed == 0 { 0.0 } else { 0.1 * noise };
    let (first, second, alone) = (like(&first, change), like(&first, noise), like(&alone, change));
    safetensors(&[
        Tensor::floats("layer.0.<w>", DType::F32, &[128, 256], &first),
        Tensor::floats("layer.1.<w>", DType::F32, &[128, 256], &second),
        Tensor::floats("alone & \"quoted\"", DType::F32, &[64, 96], &alone),
        Tensor::floats("tiny", DType::F32, &[3], &[1.0, 2.0, 3.0]),
    ])
}

/// The frames of a tensor, coarse to fine.
fn frames(inspected: &Value, tensor: &str) -> Vec<Value> {
    let of_tensor = |frame: &&Value| frame["tensors"].as_array().unwrap().iter().any(|name| name == tensor);
    inspected["frames"].as_array().unwrap().iter().filter(of_tensor).cloned().collect()
}

#[test]
fn inspect_shows_what_prediction_saves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("m.safetensors"), layered(0, 0.005)).unwrap();
    for quantizer in ["trellis", "uniform"] {
        let encode = ["encode", "m.safetensors", "--force", "--bits", "4", "--quantizer", quantizer];
        ok(path, &[&encode[..], &["-o", "m.mcwc"]].concat());
        ok(path, &[&encode[..], &["-o", "alone.mcwc", "--no-prediction"]].concat());
        let inspected = json(path, &["inspect", "m.mcwc", "--json"]);
        let [first, second] = ["layer.0.<w>", "layer.1.<w>"].map(|name| frames(&inspected, name)[0].clone());
        assert_eq!([&first["mode"], &second["mode"]], ["key", "predicted"]);
        assert_eq!(second["reference"]["tensor"], "layer.0.<w>");
        assert_eq!((first["key_bits"].as_f64(), second["pass"].as_u64()), (None, Some(0)));
        let number = |field: &str| second[field].as_f64().unwrap();
        assert!((0.8..1.2).contains(&number("gain")) && number("residual_energy") < 0.05, "{second}");
        assert!(number("bits") < number("key_bits") - 1.0, "{second}");
        // As a key frame it would take what it takes as one, once the finer step is allowed for.
        let alone = frames(&json(path, &["inspect", "alone.mcwc", "--json"]), "layer.1.<w>")[0].clone();
        let finer = (alone["scale"].as_f64().unwrap() / number("scale")).log2();
        let expected = alone["bits"].as_f64().unwrap() + finer;
        assert!((number("key_bits") / expected - 1.0).abs() < 0.05, "{second} {expected}");
        let table = ok(path, &["inspect", "m.mcwc"]);
        assert!(table.contains("predicted") && table.contains("as key frames they would take about"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
    }
}

#[test]
fn inspect_shows_a_delta_with_and_without_its_base() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("base.safetensors"), layered(0, 0.05)).unwrap();
    std::fs::write(path.join("tuned.safetensors"), layered(7, 0.02)).unwrap();
    ok(path, &["encode", "base.safetensors", "--bits", "4", "-o", "base.mcwc"]);
    ok(path, &["encode", "tuned.safetensors", "--base", "base.mcwc", "-o", "delta.mcwc"]);
    let of = |inspected: &Value| frames(inspected, "layer.0.<w>")[0].clone();
    let without = of(&json(path, &["inspect", "delta.mcwc", "--json"]));
    assert_eq!((&without["mode"], &without["reference"]["base"]), (&"predicted".into(), &true.into()));
    assert!(without["reference"]["tensor"].is_null() && without["key_bits"].is_null(), "{without}");
    assert!(ok(path, &["inspect", "delta.mcwc"]).contains("with --base"));
    let with = of(&json(path, &["inspect", "delta.mcwc", "--base", "base.mcwc", "--json"]));
    assert_eq!(with["reference"]["tensor"], "layer.0.<w>");
    assert_eq!(with["bits"], without["bits"]);
    assert!(with["bits"].as_f64() < with["key_bits"].as_f64(), "{with}");
    // A base that is not needed is fine, another than the needed one is not.
    ok(path, &["inspect", "base.mcwc", "--base", "delta.mcwc"]);
    assert!(failure(path, &["inspect", "delta.mcwc", "--base", "delta.mcwc"]).1.contains("not the base"));
    let compared = json(path, &["compare", "tuned.safetensors", "delta.mcwc", "--base", "base.mcwc", "--json"]);
    assert!(compared["nmse"].as_f64().unwrap() < 0.02, "{compared}");
    assert!(failure(path, &["compare", "tuned.safetensors", "delta.mcwc"]).1.contains("needs its base"));
}

#[test]
fn inspect_shows_passes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("m.safetensors"), layered(0, 0.05)).unwrap();
    ok(path, &["encode", "m.safetensors", "--progressive", "2.5,4", "-o", "m.mcwc"]);
    let inspected = json(path, &["inspect", "m.mcwc", "--json"]);
    let [coarse, fine] = frames(&inspected, "layer.0.<w>").try_into().unwrap();
    assert_eq!([&coarse["mode"], &fine["mode"]], ["key", "refinement"]);
    assert_eq!((&coarse["pass"], &fine["pass"]), (&0.into(), &1.into()));
    assert_eq!(fine["reference"]["frame"], coarse["frame"]);
    let bytes = coarse["bytes"].as_u64().unwrap() + fine["bytes"].as_u64().unwrap();
    assert_eq!(inspected["tensors"][0]["coded_bytes"], bytes);
    assert!(ok(path, &["inspect", "m.mcwc"]).contains("refinement"));
}

#[test]
fn inspect_draws_every_tensor_under_its_escaped_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("m.safetensors"), layered(0, 0.005)).unwrap();
    ok(path, &["encode", "m.safetensors", "--bits", "4", "-o", "m & m.mcwc"]);
    assert!(ok(path, &["inspect", "m & m.mcwc", "--html", "report.html"]).contains("report.html"));
    let html = std::fs::read_to_string(path.join("report.html")).unwrap();
    for name in ["layer.0.&lt;w&gt;", "layer.1.&lt;w&gt;", "alone &amp; &quot;quoted&quot;", "tiny", "m &amp; m.mcwc"] {
        assert!(html.contains(name), "{name}");
    }
    assert!(html.contains("layer.*.&lt;w&gt;") && !html.contains("<w>") && !html.contains("http"));
    // An arc from the reference, and the outline of what the frame would take without it.
    assert!(html.contains("<path class=\"arc\"") && html.contains("class=\"alone\""));
}

#[test]
fn directories_shards_and_external_data_come_along() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("model/sub")).unwrap();
    let mut random = Noise(5);
    for (name, file) in [("a", "one.safetensors"), ("b", "two.safetensors")] {
        let tensor = Tensor::floats(name, DType::F32, &[64, 64], &random.normals(4096, 1.0));
        std::fs::write(path.join("model").join(file), safetensors(&[tensor])).unwrap();
    }
    let index = r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;
    std::fs::write(path.join("model/model.safetensors.index.json"), index).unwrap();
    std::fs::write(path.join("model/sub/tokenizer.json"), "{}").unwrap();
    let names = |archive: &str| -> Vec<String> {
        let described = json(path, &["inspect", archive, "--json"]);
        described["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect()
    };
    ok(path, &["encode", "model/model.safetensors.index.json", "-o", "sharded.mcwc"]);
    assert_eq!(names("sharded.mcwc"), ["model.safetensors.index.json", "one.safetensors", "two.safetensors"]);
    ok(path, &["encode", "model", "-o", "directory.mcwc"]);
    assert_eq!(names("directory.mcwc").len(), 4);
    ok(path, &["decode", "directory.mcwc", "-o", "out"]);
    assert_eq!(std::fs::read_to_string(path.join("out/sub/tokenizer.json")).unwrap(), "{}");
}

#[test]
fn models_of_other_formats_travel_with_their_shards() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let weights = Noise(6).normals(96 * 64, 0.1);
    let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let manifest = r#"{"modelTopology": {}, "weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": [
        {"name": "dense/kernel", "shape": [96, 64], "dtype": "float32"}]}]}"#;
    std::fs::write(path.join("model.json"), manifest).unwrap();
    std::fs::write(path.join("a.bin"), &bytes[..10_000]).unwrap();
    std::fs::write(path.join("b.bin"), &bytes[10_000..]).unwrap();
    ok(path, &["encode", "model.json", "-o", "tfjs.mcwc", "--bits", "6"]);
    ok(path, &["decode", "tfjs.mcwc", "-o", "tfjs"]);
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert_eq!(read("tfjs/model.json"), manifest.as_bytes());
    let decoded = [read("tfjs/a.bin"), read("tfjs/b.bin")].concat();
    let close = to_f32(&decoded, DType::F32).iter().zip(&weights).all(|(x, y)| (x - y).abs() < 0.02);
    assert!(close && decoded != bytes);
    assert_eq!(decoded[9984..10_240], bytes[9984..10_240], "the row that two shards share");

    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/formats/types.gguf");
    ok(path, &["encode", fixture, "-o", "gguf.mcwc"]);
    ok(path, &["decode", "gguf.mcwc", "-o", "gguf"]);
    assert_eq!(read("gguf/types.gguf"), std::fs::read(fixture).unwrap(), "blocks and small tensors are exact");
}

#[test]
fn failures_are_one_line_and_status_1() {
    let directory = directory_with_model();
    let path = directory.path();
    std::fs::write(path.join("broken.safetensors"), b"\xff\0\0\0\0\0\0\0{").unwrap();
    std::fs::write(path.join("long.safetensors"), [0xff; 9]).unwrap();
    std::fs::write(path.join("model.json"), r#"{"weightsManifest": [{"paths": ["../up.bin"], "weights": []}]}"#)
        .unwrap();
    std::fs::write(path.join("lost.json"), r#"[{"paths": ["lost.bin"], "weights": []}]"#).unwrap();
    std::fs::write(path.join("short.gguf"), b"GGUF\x03\0\0\0").unwrap();
    std::fs::write(path.join("not.mcwc"), "hello, this is no archive").unwrap();
    ok(path, &["encode", "model.safetensors", "-o", "m.mcwc", "--bits", "3"]);
    let mut damaged = std::fs::read(path.join("m.mcwc")).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    std::fs::write(path.join("damaged.mcwc"), &damaged).unwrap();
    std::fs::write(path.join("short.mcwc"), &damaged[..last]).unwrap();
    for (arguments, expected) in [
        (vec!["encode", "missing.onnx", "-o", "x.mcwc"], "missing.onnx"),
        (vec!["encode", "broken.safetensors", "-o", "x.mcwc"], "broken.safetensors"),
        (vec!["encode", "long.safetensors", "-o", "x.mcwc"], "(long.safetensors)"),
        (vec!["encode", "model.json", "-o", "x.mcwc"], "leaves its folder"),
        (vec!["encode", "lost.json", "-o", "x.mcwc"], "lost.bin"),
        (vec!["encode", "short.gguf", "-o", "x.mcwc"], "short.gguf"),
        (vec!["encode", "model.safetensors", "-o", "x.mcwc", "--size", "100"], "too few"),
        (vec!["encode", "model.safetensors", "-o", "model.safetensors"], "is an input too"),
        (vec!["inspect", "not.mcwc"], "not an mcwc archive"),
        (vec!["verify", "damaged.mcwc"], "checksum"),
        (vec!["decode", "damaged.mcwc", "-o", "out"], "checksum"),
        (vec!["decode", "short.mcwc", "-o", "out"], "incomplete"),
    ] {
        let (status, message) = failure(path, &arguments);
        assert_eq!((status, message.lines().count()), (1, 1), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    assert!(!path.join("x.mcwc").exists() && !path.join("out/model.safetensors").exists(), "nothing half-written");
}

#[test]
fn decode_replaces_files_only_when_told_to() {
    let directory = directory_with_model();
    let path = directory.path();
    ok(path, &["encode", "model.safetensors", "-o", "m.mcwc", "--bits", "3"]);
    let (status, message) = failure(path, &["decode", "m.mcwc", "-o", "."]);
    assert!(status == 1 && message.contains("--force"), "{message}");
    ok(path, &["decode", "m.mcwc", "-o", ".", "--force"]);
}

#[test]
fn wrong_usage_is_status_2() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        vec!["encode"],
        vec!["encode", "a", "--bits", "none"],
        vec!["encode", "a", "--bits", "99"],
        vec!["encode", "a", "--bits", "4", "--lossless"],
        vec!["encode", "a", "--size", "big"],
        vec!["polish", "a"],
    ] {
        assert_eq!(failure(directory.path(), &arguments).0, 2, "{arguments:?}");
    }
    assert!(ok(directory.path(), &["--help"]).contains("Examples:"));
}
