//! `mcwc verify`

use std::path::PathBuf;

use serde_json::json;

use super::files::BaseArgument;
#[cfg(feature = "gpu")]
use super::gpu::{Compared, compare};
use super::output::{json_text, progress_bar};
use super::sizes::human_bytes;
use crate::decode::Reader;
use crate::error::Result;
use crate::source::FileSource;

/// Check every hash of an archive, and that every chunk decodes
#[derive(clap::Args)]
pub struct Arguments {
    /// The archive
    input: PathBuf,
    #[command(flatten)]
    base: BaseArgument,
    /// Decode on the GPU too, and compare
    #[cfg(feature = "gpu")]
    #[arg(long)]
    gpu: bool,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<String> {
    arguments.base.open(&arguments.input, |reader, _| {
        #[cfg(feature = "gpu")]
        if arguments.gpu {
            return compare_with_gpu(reader, json);
        }
        check_chunks(reader, json)
    })
}

#[cfg(feature = "gpu")]
fn compare_with_gpu(reader: &Reader<FileSource>, json: bool) -> Result<String> {
    reader.archive().require_base()?;
    let Compared { adapter, tensors, elements, neighbours } = compare(reader, json)?;
    let of = reader.archive().tensors.len();
    if json {
        let found =
            json!({ "adapter": adapter, "tensors": tensors, "of": of, "elements": elements, "neighbours": neighbours });
        return json_text(&found);
    }
    Ok(format!(
        "{tensors} of {of} tensors, {elements} elements, are the same on {adapter}; {neighbours} of them to one unit in the last place\n"
    ))
}

fn check_chunks(reader: &Reader<FileSource>, json: bool) -> Result<String> {
    reader.archive().require_base()?;
    let archive = reader.archive();
    let bar = progress_bar(archive.chunks.len() as u64, json, "checking {bar:40} {pos:>7} of {len} chunks");
    for index in 0..archive.chunks.len() {
        reader.payload(index)?;
        bar.inc(1);
    }
    let total = archive.files.iter().map(|file| file.bytes).sum();
    bar.set_length(total);
    bar.set_position(0);
    bar.set_style(bar.style().template("decoding {bar:40} {bytes:>10} of {total_bytes}").unwrap_or(bar.style()));
    for index in 0..archive.files.len() {
        reader.write_file(index, &mut std::io::sink(), &mut |bytes| bar.inc(bytes))?;
    }
    bar.finish_and_clear();
    if json {
        return json_text(
            &json!({ "chunks": archive.chunks.len(), "bytes": total, "integrity": archive.integrity.to_string() }),
        );
    }
    Ok(format!("{} chunks are intact and decode to {}\n", archive.chunks.len(), human_bytes(total)))
}
