//! `mcwc inspect`: an archive's header -> what its frames are, and what prediction saves them.
//!
//! Only predicted frames are decoded.

mod film;
mod json;
mod names;
mod report;
mod tables;
mod unpredicted;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::destination::Destination;
use super::files::{BaseArgument, io_error};
use super::output::{Printed, json_text, progress_bar};
use super::printable::printable;
use super::sizes::human_bytes;
use crate::container::Archive;
use crate::decode::Reader;
use crate::encode::search::key_rate::{KeyFrame, key_bits};
use crate::error::Result;
use crate::source::FileSource;
use report::{FrameReport, Inspection, Mode, report};
use unpredicted::{Without, without_prediction};

/// Show what an archive holds: its files, its tensors, and how each of their frames is coded
#[derive(clap::Args)]
pub struct Arguments {
    /// The archive
    input: PathBuf,
    #[command(flatten)]
    base: BaseArgument,
    /// Draw the sequence of frames into a page of its own
    #[arg(long, value_name = "REPORT.html")]
    html: Option<PathBuf>,
    /// Replace a page that exists
    #[arg(long, requires = "html")]
    force: bool,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<Printed> {
    let inputs: Vec<&Path> =
        [Some(&arguments.input), arguments.base.base.as_ref()].into_iter().flatten().map(AsRef::as_ref).collect();
    let html = arguments.html.as_deref().map(|path| Destination::new(path, arguments.force, &inputs)).transpose()?;
    arguments.base.open(&arguments.input, |reader, base| {
        let inspection = inspect(reader, base, json)?;
        let text = if json { json_text(&json::describe(&inspection))? } else { String::new() };
        let Some(destination) = &html else {
            let text = if json { text } else { tables::tables(&inspection, &arguments.input.display().to_string()) };
            return Ok(text.into());
        };
        let name = arguments.input.file_name().unwrap_or_default().to_string_lossy();
        let page = film::html(&inspection, &name);
        destination.write(|out| out.write_all(page.as_bytes()).map_err(io_error(destination.path())))?;
        let line =
            format!("{}  {}\n", printable(&destination.path().to_string_lossy()), human_bytes(page.len() as u64));
        Ok(destination.printed(if json { text } else { line }))
    })
}

/// Reads the header, and decodes predicted frames to see what they would take without a prediction.
fn inspect<'a>(reader: &'a Reader<FileSource>, base: Option<&Archive>, json: bool) -> Result<Inspection<'a>> {
    let archive = reader.archive();
    let mut frames: Vec<FrameReport> = Vec::new();
    let mut places = HashMap::new();
    for tensor in &archive.tensors {
        for (pass, &index) in tensor.frames.iter().enumerate() {
            let place = *places.entry(index).or_insert(frames.len());
            if place == frames.len() {
                frames.push(report(archive, base, tensor, pass));
            }
            frames[place].tensors.push(tensor.name.clone());
        }
    }
    let is_here = |&reference: &usize| reference < archive.frames.len();
    let decodable = |place: &usize| archive.references(frames[*place].frame).last().is_some_and(is_here);
    let predicted: Vec<usize> = (0..frames.len()).filter(decodable).collect();
    let bar = progress_bar(predicted.len() as u64, json, "reading {bar:40} {pos:>5} of {len} predicted frames");
    let without: Vec<Without> = predicted
        .par_iter()
        .map(|&place| {
            let without = without_prediction(reader, &frames[place]);
            bar.inc(1);
            without
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let keys: Vec<&KeyFrame> = without.iter().filter_map(|without| without.key.as_ref()).collect();
    let mut bits = key_bits(&keys).into_iter();
    for (place, without) in predicted.into_iter().zip(&without) {
        let report = &mut frames[place];
        let bits = without.bits.or_else(|| without.key.as_ref().and_then(|_| bits.next()));
        report.residual_energy = without.residual_energy;
        report.key_bits = bits.filter(|_| report.mode == Mode::Predicted).map(|bits| bits / report.elements as f64);
    }
    Ok(Inspection { archive, frames })
}
