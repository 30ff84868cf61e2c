//! An archive -> its files.
//!
//! `cargo run --release --example decode -- model.mcwc restored`

use std::fs::File;
use std::path::Path;

use mcwc::decode::Reader;
use mcwc::source::FileSource;
use mcwc::tensor::Limits;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [archive, folder] = &arguments[..] else { return Err("usage: decode ARCHIVE FOLDER".into()) };
    // Only the header is read now, and later one chunk at a time.
    let source = FileSource::open(Path::new(archive))?;
    let reader = Reader::open(&source, &Limits::default())?;
    for tensor in &reader.archive().tensors {
        println!("{} {} {}", tensor.name, tensor.dtype.name(), tensor.shape);
    }
    for (index, file) in reader.archive().files.iter().enumerate() {
        // Names may contain folders, but never lead out of this one: such archives are refused.
        let path = Path::new(folder).join(&file.name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(folder)))?;
        reader.write_file(index, &mut File::create(&path)?, &mut |_| {})?;
        println!("{}: {} bytes", path.display(), file.bytes);
    }
    Ok(())
}
