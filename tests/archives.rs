//! The bytes of archives: what the encoder writes for small models in every mode, on one thread and on two.
//!
//! `tests/data/archives.txt` holds their SHA-256 and their length in bytes. A change of the encoder that is not meant to change
//! archives leaves them as they are; one that is meant to writes them anew with `MCWC_WRITE_ARCHIVES=1`, and says what it gained. The encoder writes
//! the same everywhere; the models that are made here are those of Linux, whose logarithms they take.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Noise, Tensor, safetensors};
use mcwc::tensor::DType;
use sha2::{Digest, Sha256};

const DIGESTS: &str = "tests/data/archives.txt";

/// A name for the archive, and the arguments that make it.
const CASES: [(&str, &[&str]); 21] = [
    ("bits", &["bert.safetensors", "config.json", "--bits", "4"]),
    ("default", &["bert.safetensors"]),
    ("few-bits", &["bert.safetensors", "--bits", "1.7"]),
    ("size", &["bert.safetensors", "--size", "90kB"]),
    ("quality", &["bert.safetensors", "--quality", "0.001"]),
    ("preset", &["bert.safetensors", "--preset", "small", "--exclude", "*word*"]),
    ("lossless", &["bert.safetensors", "config.json", "--lossless"]),
    ("importances", &["bert.safetensors", "--bits", "3", "--calibration", "importances.safetensors"]),
    ("moments", &["bert.safetensors", "--bits", "3", "--calibration", "moments.safetensors"]),
    (
        "moments-free",
        &["bert.safetensors", "--bits", "3", "--calibration", "moments.safetensors", "--unit-order", "free"],
    ),
    ("uniform", &["bert.safetensors", "--bits", "4", "--quantizer", "uniform"]),
    ("delta", &["tuned.safetensors", "--base", "uniform.mcwc", "--bits", "4"]),
    ("delta-trellis", &["tuned.safetensors", "--base", "bits.mcwc"]),
    ("delta-lossless", &["tuned.safetensors", "--base", "lossless.mcwc", "--lossless"]),
    ("delta-moments", &["tuned.safetensors", "--base", "uniform.mcwc", "--calibration", "moments.safetensors"]),
    ("progressive", &["bert.safetensors", "--progressive", "2.5,4"]),
    ("progressive-three", &["bert.safetensors", "--progressive", "1.5,3,6"]),
    ("free", &["bert.safetensors", "config.json", "--bits", "4", "--unit-order", "free"]),
    ("grown", &["grown.safetensors", "--bits", "4"]),
    ("kinds", &["kinds.safetensors", "--bits", "5"]),
    ("kinds-lossless", &["kinds.safetensors", "--lossless"]),
];

/// Files of every format, from `tests/data/formats`.
const FORMATS: [&str; 8] = [
    "checkpoint.pth",
    "dtypes.safetensors",
    "external.onnx",
    "model.json",
    "nested.onnx",
    "raw.onnx",
    "sharded.safetensors.index.json",
    "types.gguf",
];

#[test]
fn archives_have_the_bytes_they_had() {
    let folder = tempfile::tempdir().unwrap();
    write_models(folder.path());
    let formats = std::fs::canonicalize("tests/data/formats").unwrap();
    let mut found = String::new();
    for (name, arguments) in CASES {
        found += &format!("{}  {name}\n", digest_and_bytes(folder.path(), name, arguments));
    }
    for file in FORMATS {
        let path = formats.join(file);
        for mode in [["--bits", "6"].as_slice(), &["--lossless"]] {
            let arguments = [&[path.to_str().unwrap()], mode].concat();
            found += &format!("{}  {file}{}\n", digest_and_bytes(folder.path(), file, &arguments), mode[0]);
        }
    }
    if std::env::var_os("MCWC_WRITE_ARCHIVES").is_some() {
        std::fs::write(DIGESTS, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(DIGESTS).unwrap());
}

/// Encodes on one thread and on two, which have to agree.
fn digest_and_bytes(folder: &Path, name: &str, arguments: &[&str]) -> String {
    let encode = |threads: &str| {
        let archive = folder.join(name).with_extension("mcwc");
        let command = std::env::var_os("MCWC_COMMAND").unwrap_or_else(|| env!("CARGO_BIN_EXE_mcwc").into());
        let done = Command::new(command)
            .current_dir(folder)
            .env("RAYON_NUM_THREADS", threads)
            .args(["encode", "--json", "--force", "-o"])
            .arg(&archive)
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        let archive = std::fs::read(archive).unwrap();
        let digest = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{digest} {:7}", archive.len())
    };
    let [one, two] = ["1", "2"].map(encode);
    assert_eq!(one, two, "{name}: archives depend on threads");
    one
}

const HIDDEN: u64 = 48;
const INNER: u64 = 112;

fn write_models(folder: &Path) {
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.join(name), bytes).unwrap();
    let weights = bert(3);
    write("bert.safetensors", model(&weights));
    write("config.json", br#"{"model_type": "bert", "hidden_size": 48, "num_attention_heads": 4}"#.to_vec());
    write("tuned.safetensors", model(&changed(&weights, 0.02, 7)));
    let mut grown = weights.clone();
    let copies = changed(&weights, 0.1, 8).into_iter().filter(|(name, ..)| name.starts_with("encoder."));
    grown.extend(copies.map(|(name, shape, values)| (name.replace("layer.", "layer.1"), shape, values)));
    write("grown.safetensors", model(&grown));
    write("importances.safetensors", statistics(&weights, false));
    write("moments.safetensors", statistics(&weights, true));
    write("kinds.safetensors", kinds());
}

type Weights = Vec<(String, Vec<u64>, Vec<f32>)>;

fn bert(layers: usize) -> Weights {
    let mut noise = Noise(11);
    let mut weights: Weights = Vec::new();
    let mut push = |name: String, shape: &[u64]| {
        let columns = *shape.last().unwrap() as usize;
        let scales: Vec<f32> = (0..columns).map(|_| (0.5 * noise.normal()).exp2()).collect();
        let len = shape.iter().product::<u64>() as usize;
        let values = (0..len).map(|at| 0.05 * noise.normal() * scales[at % columns]).collect();
        weights.push((name, shape.to_vec(), values));
    };
    push("embeddings.word_embeddings.weight".into(), &[900, HIDDEN]);
    for layer in 0..layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["query", "key", "value"] {
            push(name(&format!("attention.self.{part}.weight")), &[HIDDEN, HIDDEN]);
            push(name(&format!("attention.self.{part}.bias")), &[HIDDEN]);
        }
        push(name("attention.output.dense.weight"), &[HIDDEN, HIDDEN]);
        push(name("attention.output.dense.bias"), &[HIDDEN]);
        push(name("intermediate.dense.weight"), &[INNER, HIDDEN]);
        push(name("intermediate.dense.bias"), &[INNER]);
        push(name("output.dense.weight"), &[HIDDEN, INNER]);
        push(name("output.dense.bias"), &[HIDDEN]);
        push(name("output.LayerNorm.weight"), &[HIDDEN]);
    }
    weights
}

fn changed(weights: &Weights, by: f32, seed: u64) -> Weights {
    let mut noise = Noise(seed);
    let mut weights = weights.clone();
    for (.., values) in &mut weights {
        values.iter_mut().for_each(|value| *value += 0.05 * by * noise.normal());
    }
    weights
}

fn model(weights: &Weights) -> Vec<u8> {
    let dtype = |name: &str| if name.contains("embeddings") { DType::BF16 } else { DType::F32 };
    let tensor =
        |(name, shape, values): &(String, Vec<u64>, Vec<f32>)| Tensor::floats(name, dtype(name), shape, values);
    safetensors(&weights.iter().map(tensor).collect::<Vec<_>>())
}

/// Importances of most weights, and with `moments` those of the inputs of half of them.
fn statistics(weights: &Weights, moments: bool) -> Vec<u8> {
    let mut noise = Noise(5);
    let mut tensors = Vec::new();
    for (index, (name, shape, _)) in weights.iter().enumerate().filter(|(_, (_, shape, _))| shape.len() == 2) {
        if index % 7 != 3 {
            tensors.push(Tensor::floats(&format!("{name}/importance"), DType::F32, &[], &[noise.normal().exp2()]));
            let rows: Vec<f32> = (0..shape[0]).map(|_| noise.normal().exp2()).collect();
            tensors.push(Tensor::floats(&format!("{name}/row_importance"), DType::F32, &shape[..1], &rows));
        }
        if moments && index % 2 == 0 {
            let len = shape[1] as usize;
            let inputs: Vec<f32> = (0..3 * len * len).map(|at| noise.normal() + (at % 3) as f32).collect();
            let moment = |at: usize| inputs.chunks(len).map(|x| x[at / len] * x[at % len]).sum::<f32>();
            let values: Vec<f32> = (0..len * len).map(moment).collect();
            tensors.push(Tensor::floats(&format!("{name}/column_moments"), DType::F32, &[shape[1]; 2], &values));
        }
    }
    with_metadata(&safetensors(&tensors), r#"{"format":"mcwc-statistics","version":"1"}"#)
}

/// The same safetensors file with metadata.
fn with_metadata(file: &[u8], metadata: &str) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = [format!(r#"{{"__metadata__":{metadata},"#).as_bytes(), &header[1..]].concat();
    [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()
}

/// Kernels, dead channels, repeated tensors, integers, and every float.
fn kinds() -> Vec<u8> {
    let mut noise = Noise(21);
    let mut floats = |len: usize| (0..len).map(|_| noise.normal()).collect::<Vec<f32>>();
    let smooth = floats(24 * 16)
        .iter()
        .flat_map(|level| (0..32).map(move |tap| level * (0.2 * tap as f32).sin()))
        .collect::<Vec<_>>();
    let mut dead = floats(64 * 40);
    dead.chunks_mut(40).step_by(3).for_each(|row| row.fill(0.0));
    let twice = floats(50 * 60);
    let mut tensors = vec![
        Tensor::floats("conv.smooth", DType::F32, &[24, 16, 32], &smooth),
        Tensor::floats("conv.3x3", DType::F32, &[20, 16, 3, 3], &floats(2880)),
        Tensor::floats("dead", DType::F32, &[64, 40], &dead),
        Tensor::floats("twice.a", DType::F32, &[50, 60], &twice),
        Tensor::floats("twice.b", DType::F32, &[50, 60], &twice),
        Tensor::floats("constant", DType::F32, &[40, 40], &[0.25; 1600]),
        Tensor::floats("f16", DType::F16, &[64, 64], &floats(4096)),
        Tensor::floats("bf16", DType::BF16, &[64, 64], &floats(4096)),
        Tensor::floats("f64", DType::F64, &[64, 64], &floats(4096)),
        Tensor::floats("vector", DType::F32, &[700], &floats(700)),
    ];
    let integer = |weight: f32| (12.0 * weight).round().clamp(-100.0, 100.0) as i8;
    let integers: Vec<u8> = floats(96 * 128)
        .chunks(128)
        .enumerate()
        .flat_map(|(row, weights)| {
            let scale = (row % 5) as f32 * 0.3;
            weights.iter().map(move |&weight| (integer(weight * scale) as u8).wrapping_add(128)).collect::<Vec<_>>()
        })
        .collect();
    tensors.push(Tensor::bytes("u8", DType::U8, &[96, 128], integers.clone()));
    tensors.push(Tensor::bytes("i8", DType::I8, &[128, 96], integers.iter().rev().map(|byte| byte ^ 0x80).collect()));
    let words = |len: i64| (0..len).flat_map(|at| (at * at % 977).to_le_bytes()).collect::<Vec<_>>();
    tensors.push(Tensor::bytes("i64", DType::I64, &[300], words(300)));
    safetensors(&tensors)
}
