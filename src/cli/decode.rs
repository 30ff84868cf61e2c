//! `mcwc decode`

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::destination::Destination;
use super::files::{BaseArgument, io_error};
#[cfg(feature = "gpu")]
use super::gpu::GpuFiles;
use super::names::Naming;
use super::output::{Found, Printed, progress_bar};
use super::part::folder_of;
use super::printable::printable;
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
    /// Folder for the files, made if missing; - writes the only file of an archive to standard output
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    base: BaseArgument,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Decode tensors on the GPU, and on the CPU those that it does not take
    ///
    /// What the GPU makes of floats may differ from what the CPU makes of them: by one unit in the last place, and under
    /// a transform of kernels by the roundings of its sums, at most 2^-16 of the largest weight of a kernel besides;
    /// sums that are out of range may be anything. `mcwc verify --gpu` tells how many differ. Integers, exact tensors, and all
    /// bytes between tensors are the same. It takes memory for 2^24 weights at a time, or for the largest tensor, and fails where
    /// there is no GPU. A file is rarely there sooner: that is for what stays on the GPU.
    #[cfg(feature = "gpu")]
    #[arg(long)]
    gpu: bool,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<Printed> {
    arguments.base.open(&arguments.input, |reader, _| write_files(arguments, reader, json))
}

fn write_files(arguments: &Arguments, reader: &Reader<FileSource>, json: bool) -> Result<Printed> {
    reader.archive().require_base()?;
    #[cfg(feature = "gpu")]
    let mut gpu = arguments.gpu.then(|| GpuFiles::open(reader)).transpose()?;
    let files = &reader.archive().files;
    let destinations = destinations(arguments, files)?;
    let total = files.iter().map(|file| file.bytes).sum();
    let bar = progress_bar(total, json, "{msg} {bar:40} {bytes:>10} of {total_bytes}, {bytes_per_sec}");
    for (index, destination) in destinations.iter().enumerate() {
        bar.set_message(printable(&files[index].name).into_owned());
        let mut progress = |bytes| bar.inc(bytes);
        destination.write(|out| {
            #[cfg(feature = "gpu")]
            if let Some(gpu) = &mut gpu {
                return gpu.write_file(index, out, &mut progress);
            }
            reader.write_file(index, out, &mut progress)
        })?;
    }
    bar.finish_and_clear();
    let paths: Vec<Cow<str>> = destinations.iter().map(|destination| destination.path().to_string_lossy()).collect();
    let line = |(path, file): (&Cow<str>, &File)| format!("{}  {}\n", printable(path), human_bytes(file.bytes));
    let found = Found {
        json: serde_json::json!({ "files": paths, "bytes": total }),
        text: paths.iter().zip(files).map(line).collect(),
    };
    #[cfg(feature = "gpu")]
    let found = match &gpu {
        Some(gpu) => found.and("gpu", Found { json: gpu.share().json(), text: gpu.share().text("were made", "") }),
        None => found,
    };
    let text = found.printed(json)?;
    Ok(match destinations.first() {
        Some(destination) => destination.printed(text),
        None => text.into(),
    })
}

/// Where each file goes; their folders are made.
fn destinations(arguments: &Arguments, files: &[File]) -> Result<Vec<Destination>> {
    let inputs: Vec<&Path> =
        [Some(&arguments.input), arguments.base.base.as_ref()].into_iter().flatten().map(AsRef::as_ref).collect();
    if arguments.output == Path::new("-") {
        if files.len() != 1 {
            return Err(Error::argument(format!(
                "standard output takes one file, and the archive has {}",
                files.len()
            )));
        }
        return Ok(vec![Destination::new(&arguments.output, arguments.force, &inputs)?]);
    }
    Naming::HERE.check(&files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>())?;
    let destination = |file: &File| {
        let path = arguments.output.join(&file.name);
        let folder = folder_of(&path);
        std::fs::create_dir_all(folder).map_err(io_error(folder))?;
        Destination::new(&path, arguments.force, &inputs)
    };
    files.iter().map(destination).collect()
}
