//! What is for GPUs: lanes, the comparison of both decoders, and files that one makes. Without an adapter it fails, unless `MCWC_NO_GPU=1` says that there
//! is none.

use std::path::Path;

#[cfg(feature = "gpu")]
use mcwc::container::Coding;
use mcwc::{Limits, Reader};

use super::*;

/// The number of lanes of each chunk of a matrix and of a small one.
fn lanes(path: &Path, arguments: &[&str]) -> [Vec<u32>; 2] {
    ok(path, &[&["encode", "model.safetensors", "-o", "m.mcwc", "--force", "--bits", "4"], arguments].concat());
    let archive = std::fs::read(path.join("m.mcwc")).unwrap();
    let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    ["large", "small"].map(|name| {
        let tensor = reader.archive().tensor(name).unwrap();
        let frame = &reader.archive().frames[tensor.frames[0]];
        let chunks = frame.first_chunk..frame.first_chunk + frame.chunk_count;
        chunks.map(|chunk| 1 << reader.payload(chunk).unwrap()[0]).collect()
    })
}

#[test]
fn lanes_are_as_many_as_asked_for_where_a_chunk_has_weights_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut random = Noise(5);
    let mut matrix = |name: &str, shape: [u64; 2]| {
        let weights: Vec<f32> = (0..shape[0] * shape[1]).map(|_| random.normal()).collect();
        Tensor::floats(name, DType::F32, &shape, &weights)
    };
    let tensors = [matrix("large", [700, 512]), matrix("small", [40, 40])];
    std::fs::write(path.join("model.safetensors"), safetensors(&tensors)).unwrap();
    for (arguments, most) in [(&[][..], 16), (&["--lanes", "64"], 64), (&["--lanes", "256"], 256)] {
        let [large, small] = lanes(path, arguments);
        assert!(large.iter().max() == Some(&most) && small.iter().all(|&lanes| lanes <= 16), "{large:?} {small:?}");
    }
    let (status, message) = failure(path, &["encode", "model.safetensors", "--lanes", "17"]);
    assert!(status == 2 && message.contains("16, 64 or 256"), "{message}");
}

#[cfg(feature = "gpu")]
pub fn has_gpu() -> bool {
    std::env::var_os("MCWC_NO_GPU").is_none_or(|value| value != "1")
}

#[cfg(feature = "gpu")]
#[test]
fn the_gpu_is_compared_with_the_cpu() {
    if !has_gpu() {
        return;
    }
    let vectors = Path::new("tests/vectors/valid");
    let whole = json(vectors, &["verify", "--gpu", "--json", "every-kind-5-bits.mcwc"]);
    let gpu = &whole["gpu"];
    assert!(gpu["tensors"].as_u64() == Some(9) && gpu["elements"].as_u64() > Some(10_000), "{whole}");
    let left = gpu["leftToCpu"].as_array().unwrap();
    assert_eq!(left.len() as u64 + 9, gpu["of"].as_u64().unwrap());
    let text = ok(vectors, &["verify", "--gpu", "every-kind-5-bits.mcwc"]);
    assert!(
        text.contains("left to the CPU: 24 of 49, 30229 elements (unsupported coding: planes on the GPU)\n"),
        "{text}"
    );
    let delta = ok(vectors, &["verify", "--gpu", "delta.mcwc", "--base", "delta-base.mcwc"]);
    assert!(delta.contains(" are the same on ") && delta.contains(", to the bit\n"), "{delta}");
    assert_eq!(failure(vectors, &["verify", "--gpu", "delta.mcwc"]).0, 1);
}

#[cfg(feature = "gpu")]
#[test]
fn what_no_gpu_takes_is_verified_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut archive = std::fs::read("tests/vectors/valid/every-kind-5-bits.mcwc").unwrap();
    let opened = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    let exact = opened.archive().frames.iter().find(|frame| matches!(frame.coding, Coding::Planes(_))).unwrap();
    let place = opened.archive().chunks[exact.first_chunk].offset as usize;
    archive[place] ^= 1;
    std::fs::write(directory.path().join("damaged.mcwc"), archive).unwrap();
    let (status, message) = failure(directory.path(), &["verify", "--gpu", "damaged.mcwc"]);
    assert!(status == 1 && message.contains("checksum mismatch"), "{message}");
}
