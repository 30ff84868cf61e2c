//! Model files -> one archive, at four bits for each weight.
//!
//! `cargo run --release --example encode -- model.mcwc model.safetensors`

use std::path::Path;

use mcwc::encode::{Options, Target, encode};
use mcwc::formats::SourceFile;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [archive, paths @ ..] = &arguments[..] else { return Err("usage: encode ARCHIVE FILE…".into()) };
    let contents = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let files: Vec<SourceFile> = paths.iter().zip(&contents).map(|(path, bytes)| source(path, bytes)).collect();
    let options =
        Options { target: Target::Bits(4.0), keep_exact: &|name| name.contains("lm_head"), ..Options::default() };
    let (bytes, report) = encode(&files, None, &options)?;
    std::fs::write(archive, bytes)?;
    println!("{} -> {} bytes", report.original_bytes, report.archive_bytes);
    Ok(())
}

/// A file under the name that it will be restored with.
fn source<'a>(path: &str, bytes: &'a [u8]) -> SourceFile<'a> {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    SourceFile { name: name.into_owned(), bytes }
}
