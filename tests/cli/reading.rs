//! What the command reads: many files, folders as they are found, and archives of many small tensors.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use mcwc::decode::Opened;
use mcwc::encode::{Options, Target, encode_to_vec};
use mcwc::formats::SourceFile;
use mcwc::source::Source;
use mcwc::{Limits, Reader};

use super::*;

#[test]
#[cfg(unix)]
fn more_files_than_can_be_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("many")).unwrap();
    for index in 0..150u8 {
        std::fs::write(path.join(format!("many/{index}.bin")), [index; 100]).unwrap();
    }
    let script = format!("ulimit -n 100; exec {} encode many --lossless", env!("CARGO_BIN_EXE_mcwc"));
    let done = Command::new("sh").args(["-c", &script]).current_dir(path).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    ok(path, &["decode", "many.mcwc", "-o", "out"]);
    assert_eq!(std::fs::read(path.join("out/149.bin")).unwrap(), [149; 100]);
}

/// Encodes `early.bin` and then a pipe, whose writer first does something.
#[cfg(unix)]
fn encode_meanwhile(path: &Path, meanwhile: impl FnOnce(&Path)) -> std::process::Output {
    use std::io::Write;
    std::fs::write(path.join("early.bin"), [7; 5000]).unwrap();
    assert!(Command::new("mkfifo").arg(path.join("late.bin")).status().unwrap().success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcwc"));
    command.args(["encode", "early.bin", "late.bin", "-o", "m.mcwc"]).current_dir(path);
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Opens once the command does, which has opened the file before.
    let mut late = std::fs::OpenOptions::new().write(true).open(path.join("late.bin")).unwrap();
    meanwhile(&path.join("early.bin"));
    late.write_all(b"late").unwrap();
    drop(late);
    child.wait_with_output().unwrap()
}

#[test]
#[cfg(unix)]
fn an_input_that_changes_while_it_is_read_is_refused() {
    for [offset, bytes] in [[100, 1], [4999, 3]] {
        let directory = tempfile::tempdir().unwrap();
        let done = encode_meanwhile(directory.path(), |early| {
            let file = std::fs::OpenOptions::new().write(true).open(early).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[9; 3][..bytes as usize], offset).unwrap();
        });
        let message = String::from_utf8(done.stderr).unwrap();
        assert!(
            done.status.code() == Some(1) && message.contains("early.bin: it changed while it was read"),
            "{message}"
        );
        assert!(!directory.path().join("m.mcwc").exists());
    }
}

#[test]
#[cfg(unix)]
fn an_input_that_vanishes_or_is_replaced_is_read_to_its_end() {
    let replace = |early: &Path| {
        std::fs::write(early.with_extension("new"), "other").unwrap();
        std::fs::rename(early.with_extension("new"), early).unwrap();
    };
    for meanwhile in [|early: &Path| std::fs::remove_file(early).unwrap(), replace] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let done = encode_meanwhile(path, meanwhile);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        ok(path, &["decode", "m.mcwc", "-o", "out"]);
        assert_eq!(std::fs::read(path.join("out/early.bin")).unwrap(), [7; 5000]);
    }
}

#[test]
#[cfg(unix)]
fn a_folder_with_what_cannot_travel_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("pipe")).unwrap();
    std::fs::create_dir_all(path.join("circle/inner")).unwrap();
    assert!(Command::new("mkfifo").arg(path.join("pipe/fifo")).status().unwrap().success());
    std::os::unix::fs::symlink("../../circle", path.join("circle/inner/again")).unwrap();
    for (folder, expected) in [("pipe", "pipe/fifo: neither a file nor a folder"), ("circle", "leads back to")] {
        let (status, message) = failure(path, &["encode", folder]);
        assert!(status == 1 && message.contains(expected), "{message}");
    }
    assert!(!path.join("pipe.mcwc").exists() && !path.join("circle.mcwc").exists());
}

#[test]
fn names_that_no_file_system_takes_are_refused() {
    let encode = |name: String| {
        let files = [SourceFile { name, source: &vec![1u8, 2, 3] }];
        encode_to_vec(&files, None, &Options::default()).map(drop).map_err(|error| error.to_string())
    };
    let part = "é".repeat(127);
    assert_eq!(encode(format!("{part}/{part}/{part}x")), Ok(()));
    for name in [format!("{part}/{part}xx"), format!("{part}/{part}/{part}/{part}/{part}"), "x".repeat(1 << 20)] {
        let message = encode(name).unwrap_err();
        assert!(message.contains("is too long") && message.contains('…') && message.len() < 300, "{message}");
    }
    assert!(encode("a\u{1b}/b".into()).unwrap_err().contains("cannot be a file name"));
}

/// Counts how often it is read.
struct Counted {
    bytes: Vec<u8>,
    reads: AtomicUsize,
}

impl Source for Counted {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> mcwc::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.read_at(offset, bytes)
    }

    fn bytes(&self) -> u64 {
        self.bytes.bytes()
    }
}

#[test]
fn neighbouring_tensors_are_decoded_together() {
    let mut random = Noise(8);
    let tensor = |index| Tensor::floats(&format!("bias.{index}"), DType::F32, &[50], &random.normals(50, 1.0));
    let tensors: Vec<Tensor> = (0..300).map(tensor).collect();
    let file = safetensors(&tensors);
    let files = [SourceFile { name: "m.safetensors".into(), source: &file }];
    let (bytes, _) = encode_to_vec(&files, None, &Options { target: Target::Lossless, ..Options::default() }).unwrap();
    let counted = Counted { bytes, reads: AtomicUsize::new(0) };
    let reader = Reader::open(&counted, &Limits::default()).unwrap();
    let mut opened = Opened::default();
    for (index, tensor) in tensors.iter().enumerate() {
        assert_eq!(reader.read_tensor(index, &mut opened).unwrap(), tensor.bytes);
    }
    assert!(reader.read_tensor(tensors.len(), &mut opened).is_err());
    assert!(counted.reads.into_inner() < 10);
}

#[cfg(unix)]
#[test]
fn a_device_is_no_model() {
    let directory = tempfile::tempdir().unwrap();
    assert!(failure(directory.path(), &["encode", "/dev/zero", "-o", "x.mcwc"]).1.contains("a device"));
}

#[test]
fn what_no_reader_takes_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("many")).unwrap();
    for file in 0..4097 {
        std::fs::write(path.join("many").join(file.to_string()), "").unwrap();
    }
    assert!(failure(path, &["encode", "many", "-o", "x.mcwc"]).1.contains("4096"));
    assert!(!path.join("x.mcwc").exists());
}
