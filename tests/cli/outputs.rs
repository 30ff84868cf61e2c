//! What the command writes, and what it leaves alone. With the devices and commands of Linux.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

/// Names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// The command with signals as a terminal leaves them: those that are ignored, as behind `&` in a script, stay ignored.
fn interruptible(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", env!("CARGO_BIN_EXE_mcwc")]).args(arguments).current_dir(directory);
    command
}

/// A folder with a small model, and its archive.
fn directory_with_archive() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let tensor = Tensor::floats("w", DType::F32, &[64, 64], &Noise(3).normals(4096, 0.1));
    fs::write(directory.path().join("model.safetensors"), safetensors(&[tensor])).unwrap();
    ok(directory.path(), &["encode", "model.safetensors", "-o", "m.mcwc", "--bits", "4"]);
    directory
}

#[test]
fn what_exists_is_replaced_only_when_that_is_asked_for() {
    let directory = directory_with_archive();
    let path = directory.path();
    for arguments in [vec!["encode", "model.safetensors", "-o", "old"], vec!["inspect", "m.mcwc", "--html", "old"]] {
        fs::write(path.join("old"), "precious").unwrap();
        let (status, message) = failure(path, &arguments);
        assert!(status == 1 && message.contains("old: exists; --force"), "{message}");
        assert_eq!(fs::read(path.join("old")).unwrap(), b"precious");
        ok(path, &[&arguments[..], &["--force"]].concat());
        assert_ne!(fs::read(path.join("old")).unwrap(), b"precious");
    }
    assert_eq!(names(path), ["m.mcwc", "model.safetensors", "old"]);
}

#[test]
fn archives_are_named_after_all_of_their_input() {
    let directory = directory_with_archive();
    let path = directory.path();
    fs::create_dir(path.join("models")).unwrap();
    fs::write(path.join("models/vocabulary.txt"), "words").unwrap();
    fs::write(path.join("model.txt"), "words").unwrap();
    for input in ["model.safetensors", "model.txt", "models/"] {
        ok(path, &["encode", input]);
    }
    ok(&path.join("models"), &["encode", ".", "--force"]);
    for name in ["model.safetensors.mcwc", "model.txt.mcwc", "models.mcwc"] {
        assert!(ok(path, &["verify", name]).contains("intact"));
    }
    assert_eq!(names(&path.join("models")), ["vocabulary.txt"]);
}

#[test]
fn links_are_followed() {
    let directory = directory_with_archive();
    let path = directory.path();
    fs::create_dir(path.join("far")).unwrap();
    symlink("far/archive", path.join("first")).unwrap();
    symlink("first", path.join("link")).unwrap();
    let encode = ["encode", "model.safetensors", "-o", "link", "--bits", "4"];
    ok(path, &encode);
    assert!(failure(path, &encode).1.contains("link: exists; --force"));
    fs::write(path.join("far/archive"), "old").unwrap();
    ok(path, &[&encode[..], &["--force"]].concat());
    assert_eq!(fs::read(path.join("far/archive")).unwrap(), fs::read(path.join("m.mcwc")).unwrap());
    assert!(path.join("link").is_symlink() && path.join("first").is_symlink());
    symlink("circle", path.join("circle")).unwrap();
    assert_eq!(failure(path, &["encode", "model.safetensors", "-o", "circle"]).0, 1);
    ok(path, &["decode", "m.mcwc", "-o", "out"]);
    fs::remove_file(path.join("out/model.safetensors")).unwrap();
    symlink("../far/restored", path.join("out/model.safetensors")).unwrap();
    ok(path, &["decode", "m.mcwc", "-o", "out"]);
    assert!(path.join("out/model.safetensors").is_symlink() && path.join("far/restored").is_file());
}

#[test]
fn devices_and_pipes_are_written_to() {
    let directory = directory_with_archive();
    let path = directory.path();
    symlink("/dev/null", path.join("null")).unwrap();
    for output in ["/dev/null", "null"] {
        ok(path, &["encode", "model.safetensors", "-o", output]);
        ok(path, &["inspect", "m.mcwc", "--html", output]);
    }
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device() && path.join("null").is_symlink());
    let fifo = path.join("fifo");
    make_fifo(&fifo);
    let reader = std::thread::spawn(move || fs::read(fifo).unwrap());
    ok(path, &["encode", "model.safetensors", "-o", "fifo", "--bits", "4"]);
    assert_eq!(reader.join().unwrap(), fs::read(path.join("m.mcwc")).unwrap());
    assert!(fs::metadata(path.join("fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn standard_output_takes_the_bytes_and_standard_error_the_rest() {
    let directory = directory_with_archive();
    let path = directory.path();
    for output in ["-", "/dev/stdout"] {
        let done = mcwc(path, &["encode", "model.safetensors", "-o", output, "--bits", "4", "--json"]);
        assert_eq!(done.stdout, fs::read(path.join("m.mcwc")).unwrap());
        let report: Value = serde_json::from_slice(&done.stderr).unwrap();
        assert_eq!(report["archive_bytes"], done.stdout.len());
    }
    let page = mcwc(path, &["inspect", "m.mcwc", "--html", "-"]);
    assert!(page.stdout.starts_with(b"<!") && page.stderr.starts_with(b"-  "));
    ok(path, &["decode", "m.mcwc", "-o", "out"]);
    assert_eq!(
        mcwc(path, &["decode", "m.mcwc", "-o", "-"]).stdout,
        fs::read(path.join("out/model.safetensors")).unwrap()
    );
    ok(path, &["encode", "model.safetensors", "m.mcwc", "-o", "two.mcwc"]);
    assert!(failure(path, &["decode", "two.mcwc", "-o", "-"]).1.contains("takes one file, and the archive has 2"));
    assert_eq!(names(path), ["m.mcwc", "model.safetensors", "out", "two.mcwc"]);
}

#[test]
fn what_is_read_is_never_written() {
    let directory = directory_with_archive();
    let path = directory.path();
    symlink("m.mcwc", path.join("link")).unwrap();
    fs::create_dir(path.join("inner")).unwrap();
    fs::write(path.join("inner/m.mcwc"), "another file").unwrap();
    ok(path, &["encode", "inner/m.mcwc", "-o", "nested.mcwc"]);
    fs::rename(path.join("nested.mcwc"), path.join("inner/m.mcwc")).unwrap();
    let before = fs::read(path.join("m.mcwc")).unwrap();
    for arguments in [
        vec!["encode", "model.safetensors", "--base", "m.mcwc", "-o", "m.mcwc"],
        vec!["encode", "model.safetensors", "m.mcwc", "-o", "link"],
        vec!["encode", "model.safetensors", "--calibration", "m.mcwc", "-o", "./m.mcwc"],
        vec!["inspect", "m.mcwc", "--html", "m.mcwc"],
        vec!["decode", "inner/m.mcwc", "-o", "inner"],
    ] {
        let (status, message) = failure(path, &[&arguments[..], &["--force"]].concat());
        assert!(status == 1 && message.contains("is an input too"), "{arguments:?}: {message}");
    }
    assert_eq!(fs::read(path.join("m.mcwc")).unwrap(), before);
}

#[test]
fn an_output_that_cannot_be_is_refused() {
    let directory = directory_with_archive();
    let path = directory.path();
    let long = "x".repeat(256);
    for (output, expected) in [
        ("nowhere/x.mcwc", "nowhere: No such file"),
        (".", "is a folder"),
        ("model.safetensors/x.mcwc", "Not a directory"),
        (&long, "too long"),
    ] {
        for arguments in [["encode", "model.safetensors", "-o"], ["inspect", "m.mcwc", "--html"]] {
            let (status, message) = failure(path, &[&arguments[..], &[output]].concat());
            assert!(status == 1 && message.contains(expected), "{message}");
        }
    }
    assert_eq!(names(path), ["m.mcwc", "model.safetensors"]);
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let directory = directory_with_model();
    let path = directory.path();
    let (status, message) = failure(path, &["encode", "model.safetensors", "-o", "/dev/full"]);
    assert_eq!((status, message.lines().count()), (1, 1));
    assert!(message.contains("/dev/full: No space left"), "{message}");
    ok(path, &["encode", "model.safetensors", "-o", "m.mcwc"]);
    let before = fs::read(path.join("m.mcwc")).unwrap();
    fs::create_dir(path.join("out")).unwrap();
    fs::write(path.join("out/model.safetensors"), "precious").unwrap();
    for arguments in ["encode model.safetensors -o m.mcwc --force", "decode m.mcwc -o out --force"] {
        // At most a few kilobytes for each file; without the trap the system would end the process.
        let script = format!("trap '' XFSZ; ulimit -f 4; exec {} {arguments}", env!("CARGO_BIN_EXE_mcwc"));
        let done = Command::new("sh").args(["-c", &script]).current_dir(path).output().unwrap();
        let message = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(1) && message.contains("File too large"), "{message}");
    }
    assert_eq!(fs::read(path.join("m.mcwc")).unwrap(), before);
    assert_eq!(fs::read(path.join("out/model.safetensors")).unwrap(), b"precious");
    assert_eq!(
        (names(path), names(&path.join("out"))),
        (["m.mcwc", "model.safetensors", "out"].map(String::from).to_vec(), vec!["model.safetensors".into()])
    );
}

#[test]
fn an_interrupted_encoder_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    make_fifo(&path.join("endless.bin"));
    fs::write(path.join("old"), "precious").unwrap();
    for (name, status) in [("-INT", Some(130)), ("-TERM", Some(130)), ("-KILL", None)] {
        let mut child = interruptible(path, &["encode", "endless.bin", "-o", "old", "--force"]).spawn().unwrap();
        // Opens once the command reads.
        let mut input = fs::OpenOptions::new().write(true).open(path.join("endless.bin")).unwrap();
        input.write_all(b"something").unwrap();
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), status, "{name}");
        assert_eq!(names(path), ["endless.bin", "old"]);
        assert_eq!(fs::read(path.join("old")).unwrap(), b"precious");
    }
}

/// A decoder that has begun to write `out/large.bin` in place of what was there, and was stopped.
fn stopped_decoder(path: &Path) -> Child {
    let out = path.join("out");
    let is_writing = || names(&out).iter().any(|name| name.ends_with(".part"));
    for _ in 0..100 {
        fs::write(out.join("large.bin"), "precious").unwrap();
        let decode = ["decode", "large.mcwc", "-o", "out", "--force"];
        let mut child = interruptible(path, &decode).stdout(Stdio::null()).spawn().unwrap();
        while !is_writing() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        if child.try_wait().unwrap().is_none() {
            signal(&child, "-STOP");
            std::thread::sleep(Duration::from_millis(20));
            if is_writing() {
                return child;
            }
            signal(&child, "-CONT");
            child.wait().unwrap();
        }
    }
    panic!("the decoder was never caught in the middle");
}

#[test]
fn an_interrupted_decoder_takes_its_part_along() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::File::create(path.join("large.bin")).unwrap().set_len(1 << 26).unwrap();
    ok(path, &["encode", "large.bin", "-o", "large.mcwc"]);
    fs::create_dir(path.join("out")).unwrap();
    for (name, status, left) in [("-TERM", Some(130), 1), ("-INT", Some(130), 1), ("-KILL", None, 2)] {
        let mut child = stopped_decoder(path);
        signal(&child, name);
        signal(&child, "-CONT");
        assert_eq!(child.wait().unwrap().code(), status, "{name}");
        assert_eq!(names(&path.join("out")).len(), left, "{name}");
        assert_eq!(fs::read(path.join("out/large.bin")).unwrap(), b"precious");
    }
}
