//! `mcwc verify`

use std::path::PathBuf;

use serde_json::json;

use super::files::BaseArgument;
#[cfg(feature = "gpu")]
use super::gpu::{Compared, compare};
use super::output::{Found, progress_bar};
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
        reader.archive().require_base()?;
        let found = check_chunks(reader, json)?;
        #[cfg(feature = "gpu")]
        let found = if arguments.gpu { found.and("gpu", compare_with_gpu(reader, json)?) } else { found };
        found.printed(json)
    })
}

fn check_chunks(reader: &Reader<FileSource>, json: bool) -> Result<Found> {
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
    let chunks = archive.chunks.len();
    Ok(Found {
        json: json!({ "chunks": chunks, "bytes": total, "integrity": archive.integrity.to_string() }),
        text: format!("{chunks} chunks are intact and decode to {}\n", human_bytes(total)),
    })
}

#[cfg(feature = "gpu")]
fn compare_with_gpu(reader: &Reader<FileSource>, json: bool) -> Result<Found> {
    let Compared { share, neighbours, rounded } = compare(reader, json)?;
    let same = match (neighbours, rounded) {
        (0, 0) => ", to the bit".into(),
        (_, 0) => format!(" but for {neighbours} that differ by one unit in the last place"),
        (0, _) => format!(" but for {rounded}, under a transform, that are as close as the format asks"),
        _ => format!(
            " but for {neighbours} that differ by one unit in the last place and {rounded}, under a transform, that are as \
             close as the format asks"
        ),
    };
    let mut json = share.json();
    json["neighbours"] = neighbours.into();
    json["rounded"] = rounded.into();
    Ok(Found { json, text: share.text("are the same", &same) })
}
