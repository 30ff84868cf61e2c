//! `mcwc verify`

#[cfg(feature = "gpu")]
use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

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

/// What was found, for programs and for people.
struct Found {
    json: Value,
    text: String,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<String> {
    arguments.base.open(&arguments.input, |reader, _| {
        reader.archive().require_base()?;
        let found = check_chunks(reader, json)?;
        #[cfg(feature = "gpu")]
        let found = if arguments.gpu { found.and("gpu", compare_with_gpu(reader, json)?) } else { found };
        if json { json_text(&found.json) } else { Ok(found.text) }
    })
}

#[cfg(feature = "gpu")]
impl Found {
    fn and(mut self, key: &str, other: Found) -> Self {
        self.json[key] = other.json;
        self.text += &other.text;
        self
    }
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
    let Compared { adapter, tensors, elements, neighbours, rounded, left } = compare(reader, json)?;
    let of = reader.archive().tensors.len();
    let same = match (neighbours, rounded) {
        (0, 0) => ", to the bit".into(),
        (_, 0) => format!(" but for {neighbours} that differ by one unit in the last place"),
        (0, _) => format!(" but for {rounded}, under a transform, that are as close as the format asks"),
        _ => format!(
            " but for {neighbours} that differ by one unit in the last place and {rounded}, under a transform, that are as \
             close as the format asks"
        ),
    };
    let mut text = format!("{tensors} of {of} tensors, {elements} elements, are the same on {adapter}{same}\n");
    let reasons: BTreeSet<&str> = left.iter().map(|tensor| &*tensor.reason).collect();
    for reason in reasons {
        let elements = left.iter().filter(|tensor| tensor.reason == reason).map(|tensor| tensor.elements);
        let (tensors, elements) = (elements.clone().count(), elements.sum::<u64>());
        text += &format!("left to the CPU: {tensors} of {of}, {elements} elements ({reason})\n");
    }
    let json = json!({
        "adapter": adapter, "tensors": tensors, "of": of, "elements": elements, "neighbours": neighbours, "rounded": rounded,
        "leftToCpu": left,
    });
    Ok(Found { json, text })
}
