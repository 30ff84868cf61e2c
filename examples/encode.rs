//! Model files -> one archive, at four bits for each weight.
//!
//! `cargo run --release --example encode -- model.mcwc model.safetensors`

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use mcwc::encode::{Options, Target, encode};
use mcwc::formats::SourceFile;
use mcwc::source::FileSource;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [archive, paths @ ..] = &arguments[..] else { return Err("usage: encode ARCHIVE FILE…".into()) };
    let sources = paths.iter().map(|path| FileSource::open(Path::new(path))).collect::<mcwc::Result<Vec<_>>>()?;
    let files: Vec<SourceFile> = paths.iter().zip(&sources).map(|(path, source)| named(path, source)).collect();
    let options = Options {
        target: Target::Bits(4.0),
        keep_exact: &|name| name.contains("lm_head"),
        // Keeps levels and payloads out of memory.
        scratch: Some(&std::env::temp_dir()),
        ..Options::default()
    };
    let report = encode(&files, None, &options, &mut BufWriter::new(File::create(archive)?))?;
    println!("{} -> {} bytes", report.original_bytes, report.archive_bytes);
    Ok(())
}

/// A file under the name that it will be restored with.
fn named<'a>(path: &str, source: &'a FileSource) -> SourceFile<'a> {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    SourceFile { name: name.into_owned(), source }
}
