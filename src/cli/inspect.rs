//! `mcwc inspect` and `mcwc verify`

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{BaseArgument, human_bytes, json_text, progress_bar, table};
use crate::container::{Archive, Coding, Tensor};
use crate::decode::{FileSource, Reader};
use crate::error::Result;
use crate::tensor::Limits;

/// Show what an archive holds
#[derive(clap::Args)]
pub struct Arguments {
    /// The archive
    input: PathBuf,
}

/// Check every hash of an archive, and that every chunk decodes
#[derive(clap::Args)]
pub struct VerifyArguments {
    /// The archive
    input: PathBuf,
    #[command(flatten)]
    base: BaseArgument,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<String> {
    let source = FileSource::open(&arguments.input)?;
    let reader = Reader::open(&source, &Limits::default())?;
    let archive = reader.archive();
    if json {
        return json_text(&describe(archive));
    }
    let mut text = format!(
        "{}  {}, {} chunks\nintegrity  {}\n",
        arguments.input.display(),
        human_bytes(archive.bytes()),
        archive.chunks.len(),
        archive.integrity
    );
    archive.metadata.iter().for_each(|(name, value)| text += &format!("{name}  {value}\n"));
    let files: Vec<Vec<String>> = archive
        .files
        .iter()
        .map(|file| vec![file.name.clone(), human_bytes(file.bytes), human_bytes(file.raw_bytes)])
        .collect();
    let tensors: Vec<Vec<String>> = archive.tensors.iter().map(|tensor| tensor_row(archive, tensor)).collect();
    text += "\n";
    text += &table::text(&["file", "bytes", "outside tensors"], &files, 1);
    text += "\n";
    text += &table::text(&["tensor", "dtype", "shape", "coding", "coded", "bits/element", "scale"], &tensors, 4);
    Ok(text)
}

fn tensor_row(archive: &Archive, tensor: &Tensor) -> Vec<String> {
    let coding = coding(archive, tensor);
    let coded = coded_bytes(archive, tensor);
    let elements = tensor.shape.element_len().unwrap_or(0).max(1);
    vec![
        tensor.name.clone(),
        tensor.dtype.name().into(),
        tensor.shape.to_string(),
        coding.into(),
        coded.map_or(String::new(), human_bytes),
        coded.map_or(String::new(), |bytes| format!("{:.3}", 8.0 * bytes as f64 / elements as f64)),
        scale(archive, tensor).map_or(String::new(), |scale| format!("{scale:.3e}")),
    ]
}

fn coding(archive: &Archive, tensor: &Tensor) -> &'static str {
    match tensor.frames.last().map(|&frame| &archive.frames[frame].coding) {
        None => "raw",
        Some(Coding::Planes(_)) => "exact planes",
        Some(Coding::Levels(levels)) if levels.scale.is_none() => "exact levels",
        Some(Coding::Levels(_)) if archive.frames[tensor.frames[tensor.frames.len() - 1]].reference.is_some() => {
            "predicted levels"
        }
        Some(Coding::Levels(_)) => "key levels",
    }
}

fn scale(archive: &Archive, tensor: &Tensor) -> Option<f32> {
    match &archive.frames[*tensor.frames.last()?].coding {
        Coding::Levels(levels) => levels.scale,
        Coding::Planes(_) => None,
    }
}

fn coded_bytes(archive: &Archive, tensor: &Tensor) -> Option<u64> {
    let frame = &archive.frames[*tensor.frames.last()?];
    let first = frame.side_chunk.unwrap_or(frame.first_chunk);
    let chunks = &archive.chunks[first..frame.first_chunk + frame.chunk_count];
    Some(chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum())
}

fn describe(archive: &Archive) -> Value {
    let files: Vec<Value> = archive
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.bytes, "raw_bytes": file.raw_bytes }))
        .collect();
    let tensors: Vec<Value> = archive
        .tensors
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name,
                "dtype": tensor.dtype.name(),
                "shape": tensor.shape.0,
                "file": archive.files[tensor.file].name,
                "offset": tensor.offset,
                "bytes": tensor.bytes,
                "coding": coding(archive, tensor),
                "coded_bytes": coded_bytes(archive, tensor),
                "scale": scale(archive, tensor),
                "frame": tensor.frames.last(),
            })
        })
        .collect();
    json!({
        "bytes": archive.bytes(),
        "head_bytes": archive.head_bytes,
        "integrity": archive.integrity.to_string(),
        "chunks": archive.chunks.len(),
        "tables": archive.tables.len(),
        "metadata": archive.metadata.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "files": files,
        "tensors": tensors,
    })
}

pub fn verify(arguments: &VerifyArguments, json: bool) -> Result<String> {
    arguments.base.open(&arguments.input, |reader| check_chunks(reader, json))
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
