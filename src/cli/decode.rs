//! `mcwc decode`

use std::path::PathBuf;

use super::files::{BaseArgument, io_error, write_whole};
use super::output::{json_text, progress_bar};
use super::sizes::human_bytes;
use crate::container::File;
use crate::decode::Reader;
use crate::error::{Error, Result};
use crate::source::FileSource;

/// Restore the files of an archive
///
/// Every file gets its original name and length. Weights coded with loss have their decoded values; all other bytes are
/// the original ones.
#[derive(clap::Args)]
pub struct Arguments {
    /// The archive
    input: PathBuf,
    /// Directory for the files; made if missing
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    base: BaseArgument,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<String> {
    arguments.base.open(&arguments.input, |reader, _| write_files(arguments, reader, json))
}

fn write_files(arguments: &Arguments, reader: &Reader<FileSource>, json: bool) -> Result<String> {
    reader.archive().require_base()?;
    let files = &reader.archive().files;
    let paths: Vec<PathBuf> = files.iter().map(|file| arguments.output.join(&file.name)).collect();
    if let Some(path) = paths.iter().find(|path| path.exists() && !arguments.force) {
        return Err(Error::argument(format!("{}: exists; --force replaces it", path.display())));
    }
    let total = files.iter().map(|file| file.bytes).sum();
    let bar = progress_bar(total, json, "{msg} {bar:40} {bytes:>10} of {total_bytes}, {bytes_per_sec}");
    for (index, path) in paths.iter().enumerate() {
        bar.set_message(files[index].name.clone());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(io_error(directory))?;
        }
        write_whole(path, |out| reader.write_file(index, out, &mut |bytes| bar.inc(bytes)))?;
    }
    bar.finish_and_clear();
    if json {
        let written: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return json_text(&serde_json::json!({ "files": written, "bytes": total }));
    }
    let line = |(path, file): (&PathBuf, &File)| format!("{}  {}\n", path.display(), human_bytes(file.bytes));
    Ok(paths.iter().zip(files).map(line).collect())
}
