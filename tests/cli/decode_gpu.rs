//! Files whose tensors a GPU makes, beside those of the CPU. Needs an adapter, as what is in `gpu.rs`.

use std::path::Path;

use mcwc::container::{Coding, ExtentSource};
use mcwc::{Limits, Reader};

use super::common::changed::with_chunk;
use super::differences::{differences, transform_differences};
use super::gpu::has_gpu;
use super::*;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/valid");

/// A new folder, if there is an adapter.
fn folder() -> Option<tempfile::TempDir> {
    has_gpu().then(|| tempfile::tempdir().unwrap())
}

/// Bytes of a file that are others than the CPU's, and elements that are further off than a GPU may be.
fn wrong(reader: &Reader<[u8]>, file: usize, adapter: &str, expected: &[u8], found: &[u8]) -> usize {
    assert_eq!(expected.len(), found.len());
    let archive = reader.archive();
    let of_extent = |extent: &mcwc::container::Extent| {
        let range = extent.offset as usize..(extent.offset + extent.bytes) as usize;
        let (expected, found) = (&expected[range.clone()], &found[range]);
        let exact = || expected.iter().zip(found).filter(|(a, b)| a != b).count();
        let ExtentSource::Tensor(tensor) = extent.source else { return exact() };
        let tensor = &archive.tensors[tensor];
        match &archive.frames[*tensor.frames.last().unwrap()].coding {
            Coding::Levels(levels) if levels.dct => {
                let kernels = (levels.taps, levels.column_major.then_some(levels.rows));
                transform_differences([tensor.dtype; 2], kernels, expected, found)
            }
            // It multiplies as the CPU does.
            Coding::Levels(_) if !adapter.contains("llvmpipe") => differences(tensor.dtype, expected, found),
            _ => exact(),
        }
    };
    archive.files[file].extents.iter().map(of_extent).sum()
}

/// Decodes an archive with and without the GPU, and compares its files. Gives what the command says of the GPU.
#[track_caller]
fn decoded(path: &Path, archive: &str, base: Option<&str>) -> Value {
    let base_arguments = base.map_or(vec![], |base| vec!["--base", base]);
    let decode = |arguments: &[&str]| {
        let decode = ["decode", archive, "--json", "--force"];
        json(path, &[&decode[..], arguments, &base_arguments].concat())
    };
    let plain = decode(&["-o", "cpu"]);
    let mut report = decode(&["-o", "gpu", "--gpu"]);
    assert_eq!(plain["bytes"], report["bytes"]);
    let report = report["gpu"].take();
    let adapter = report["adapter"].as_str().unwrap();
    let bytes = [Some(archive), base].map(|name| name.map_or(vec![], |name| std::fs::read(path.join(name)).unwrap()));
    let open = |bytes| Reader::open(bytes, &Limits::default()).unwrap();
    let reader = open(&bytes[0][..]);
    let reader = if base.is_some() { reader.with_base(&open(&bytes[1][..])).unwrap() } else { reader };
    for (index, file) in reader.archive().files.iter().enumerate() {
        let [expected, found] = ["cpu", "gpu"].map(|folder| std::fs::read(path.join(folder).join(&file.name)).unwrap());
        assert_eq!(wrong(&reader, index, adapter, &expected, &found), 0, "{archive}: {}", file.name);
        // The last byte of a float has its sign and most of its exponent.
        for extent in file.extents.iter().step_by(file.extents.len().div_ceil(5).max(1)) {
            let (mut tampered, last) = (found.clone(), extent.offset + extent.bytes - 1);
            tampered[last as usize] ^= 0x5a;
            assert_ne!(wrong(&reader, index, adapter, &expected, &tampered), 0, "{archive}: byte {last}");
        }
    }
    let left = report["leftToCpu"].as_array().unwrap().len() as u64;
    assert_eq!(report["of"], reader.archive().tensors.len());
    assert_eq!(report["tensors"].as_u64().unwrap() + left, reader.archive().tensors.len() as u64);
    report
}

#[test]
fn files_whose_tensors_a_gpu_makes_are_the_cpus() {
    let Some(directory) = folder() else { return };
    let path = directory.path();
    for (archive, base, tensors) in [
        ("every-kind-5-bits", None, 9),
        // Several chunks, permutations, kernels under a transform.
        ("scattered-and-transformed", None, 19),
        ("integers-and-adaptive", None, 1),
        ("every-dtype", None, 9),
        // Several files, whose tensors share frames.
        ("layers-apart", None, 20),
        ("delta", Some("delta-base"), 8),
        ("chain-of-16", None, 2),
        ("extents", None, 0),
    ] {
        let name = |archive: &str| format!("{archive}.mcwc");
        [Some(archive), base].into_iter().flatten().for_each(|archive| {
            std::fs::copy(Path::new(VECTORS).join(name(archive)), path.join(name(archive))).unwrap();
        });
        let report = decoded(path, &name(archive), base.map(name).as_deref());
        assert_eq!(report["tensors"], tensors, "{archive}");
    }
}

#[test]
fn progressive_archives_decode_to_their_finest_pass_on_a_gpu() {
    let Some(directory) = folder() else { return };
    let path = directory.path();
    std::fs::write(path.join("m.safetensors"), layered(0, 0.05)).unwrap();
    ok(path, &["encode", "m.safetensors", "--progressive", "2.5,4", "-o", "m.mcwc"]);
    let report = decoded(path, "m.mcwc", None);
    assert_eq!((&report["tensors"], &report["leftToCpu"][0]["name"]), (&3.into(), &"tiny".into()));
}

#[test]
fn what_a_gpu_made_and_what_it_left_is_said() {
    let Some(directory) = folder() else { return };
    let path = directory.path();
    let archive = format!("{VECTORS}/every-kind-5-bits.mcwc");
    let text = ok(path, &["decode", "--gpu", &archive, "-o", "out"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains("model.safetensors")
            && lines[1].starts_with("9 of 49 tensors, 18093 elements, were made on "),
        "{text}"
    );
    assert_eq!(lines[2], "left to the CPU: 24 of 49, 30229 elements (unsupported coding: planes on the GPU)");
    assert_eq!(lines[3..], ["left to the CPU: 16 of 49, 12 elements (unsupported tensor: without a frame of its own)"]);
    let piped = mcwc(path, &["decode", "--gpu", &archive, "-o", "-"]);
    assert_eq!(piped.stdout, std::fs::read(path.join("out/model.safetensors")).unwrap());
    assert!(String::from_utf8(piped.stderr).unwrap().contains("were made on"));
}

#[test]
fn a_damaged_archive_leaves_no_file_that_a_gpu_was_making() {
    let Some(directory) = folder() else { return };
    let path = directory.path();
    let archive = std::fs::read(format!("{VECTORS}/every-side-array.mcwc")).unwrap();
    let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    let chunk = reader.archive().frames.last().unwrap().first_chunk;
    let mut damaged = archive.clone();
    damaged[reader.archive().chunks[chunk].offset as usize] ^= 1;
    // Its hash is right: only who decodes it can tell.
    let forged = with_chunk(&archive, chunk, |payload| payload.truncate(payload.len() / 2));
    for (archive, expected) in [(damaged, "mcwc: checksum mismatch in chunk"), (forged, "mcwc: invalid ")] {
        std::fs::write(path.join("damaged.mcwc"), archive).unwrap();
        let (status, message) = failure(path, &["decode", "--gpu", "damaged.mcwc", "-o", "out"]);
        assert!(status == 1 && message.contains(expected) && message.contains(&format!("chunk {chunk}")), "{message}");
        assert_eq!(std::fs::read_dir(path.join("out")).unwrap().count(), 0);
    }
    let (status, message) = failure(Path::new(VECTORS), &["decode", "--gpu", "delta.mcwc", "-o", "never"]);
    assert!(status == 1 && message.contains("needs its base"), "{message}");
}

/// With the loader of Linux told of no driver.
#[cfg(target_os = "linux")]
#[test]
fn without_a_gpu_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let archive = format!("{VECTORS}/every-side-array.mcwc");
    let output = Command::new(env!("CARGO_BIN_EXE_mcwc"))
        .args(["decode", "--gpu", &archive, "-o", "out"])
        .envs(["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].map(|name| (name, "none.json")))
        .current_dir(directory.path())
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && message.contains("mcwc: GPU: no driver for "), "{message}");
    assert!(!directory.path().join("out").exists());
}
