//! The `mcwc` command, run in a folder.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

pub fn mcwc(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcwc")).args(arguments).current_dir(directory).output().unwrap()
}

/// What it prints.
pub fn ok(directory: &Path, arguments: &[&str]) -> String {
    let output = mcwc(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn json(directory: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&ok(directory, arguments)).unwrap()
}

/// Exit status, and what is on standard error.
pub fn failure(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let output = mcwc(directory, arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}
