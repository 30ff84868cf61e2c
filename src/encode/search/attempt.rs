//! One quantization of all lossy tensors: levels by its tables, then tables by these levels, then payloads.

use crate::encode::coded::Lossy;
use crate::encode::exact::frame::KeptFrame;
use crate::encode::levels::model_fit::{SymbolCosts, SymbolCounts, TableSet};
use crate::encode::levels::quantizer::Aim;
use crate::encode::motion::candidates::Candidate;
use crate::encode::motion::predict::{Attempt, Motion};
use crate::encode::motion::references::References;
use crate::encode::options::Options;
use crate::encode::progress::{Counter, map_in_parts};
use crate::encode::scratch::Scratch;
use crate::encode::search::refinement::{self, Part};
use crate::entropy::EncoderTable;
use crate::error::{Error, Result};

/// One step for all tensors, and the tables that fit it.
pub struct Quantization {
    /// Fraction of each tensor's unit.
    pub step: f64,
    /// Tables of the frames without and with a trellis.
    pub sets: [TableSet; 2],
}

/// All lossy frames under one quantization.
pub struct Quantized {
    /// Tables of the key frames without and with a trellis, then of the predicted ones.
    pub sets: [TableSet; 4],
    /// Frames, coarse to fine, and squared errors, in the order of the coded tensors.
    pub frames: Vec<(Vec<KeptFrame>, f64)>,
    /// What the errors cost the outputs.
    pub distortion: f64,
}

impl Quantized {
    /// Codes every lossy tensor with one quantization.
    ///
    /// # Errors
    /// Whatever is wrong with the weights, the base, or the room for levels and payloads.
    pub fn new(
        lossy: &Lossy,
        quantization: &Quantization,
        candidates: &mut [Option<Candidate>],
        options: &Options,
    ) -> Result<Self> {
        let done = Counter::new(2 * lossy.coded.len());
        let levels = Scratch::new(options.scratch)?;
        let attempts = attempts(lossy, quantization, candidates, &levels, &done, options)?;
        let mut counts = [1, 2, 1, 2].map(SymbolCounts::new);
        let (mut distortion, mut tensors) = (0.0, Vec::new());
        for (coded, attempt) in lossy.coded.iter().zip(attempts) {
            let attempt = attempt.ok_or_else(|| Error::argument("a tensor was not quantized"))?;
            let squared_error = attempt.tally.squared_error;
            distortion += coded.distortion(&attempt.tally);
            let parts = refinement::parts(coded, attempt, options.passes, &levels)?;
            parts.iter().for_each(|part| counts[part.set()].add_all(&part.counts));
            tensors.push((parts, squared_error));
        }
        if !options.entropy_model {
            counts = counts.each_ref().map(SymbolCounts::equal);
        }
        let sets = counts.each_ref().map(SymbolCounts::used_tables);
        let tables = sets.each_ref().map(|set| set.tables.iter().map(EncoderTable::new).collect::<Vec<_>>());
        let payloads = Scratch::new(options.scratch)?;
        let encode = |part: &Part| {
            let set = part.set();
            let mut frame = part.plan.encode(&part.indices, sets[set].first_class, &tables[set])?;
            // The tables of all sets follow one another in the header.
            if let Some([first, _]) = frame.entry.tables.as_deref_mut() {
                *first = tables[..set].iter().map(|tables| tables.len() as u64).sum();
            }
            frame.kept(&payloads)
        };
        let len = |(parts, _): &&(Vec<Part>, f64)| parts.iter().map(|part| part.indices.len()).sum();
        let frames = map_in_parts(&tensors, len, |(parts, squared_error)| {
            let frames = parts.iter().map(encode).collect::<Result<Vec<_>>>()?;
            (options.progress)("coding weights", done.step());
            Ok((frames, *squared_error))
        })?;
        Ok(Quantized { sets, frames, distortion })
    }

    /// Bits of all frames, or of those alone whose step is searched.
    pub fn bits(&self, lossy: &Lossy, all: bool) -> f64 {
        let counted = self.frames.iter().zip(&lossy.coded).filter(|(_, coded)| all || coded.base.is_none());
        counted.flat_map(|((frames, _), _)| frames).map(frame_bits).sum()
    }
}

/// A frame's payloads, and the hashes and lengths that the header keeps for them.
fn frame_bits(frame: &KeptFrame) -> f64 {
    8.0 * frame.payloads.iter().map(|payload| payload.kept.len() + payload.entry.len()).sum::<usize>() as f64
}

/// How each lossy tensor is coded with one quantization. Candidates that resemble their references, and yet are not worth
/// predicting, are dropped: those give nothing for them.
fn attempts(
    lossy: &Lossy,
    quantization: &Quantization,
    candidates: &mut [Option<Candidate>],
    scratch: &Scratch,
    done: &Counter,
    options: &Options,
) -> Result<Vec<Option<Attempt>>> {
    let costs = quantization.sets.each_ref().map(SymbolCosts::new);
    loop {
        let references = References::new(lossy, candidates, quantization.step);
        let mut attempts = key_frames(lossy, &references, &costs, scratch, done, options)?;
        Motion { references: &references, options, scratch }.predict(&mut attempts, &quantization.sets)?;
        let mut dropped = false;
        for (candidate, attempt) in candidates.iter_mut().zip(&attempts) {
            let refused = attempt.as_ref().is_some_and(|attempt| attempt.plan.prediction.is_none());
            dropped |= candidate.take_if(|candidate| refused && candidate.resembles()).is_some();
        }
        if !dropped {
            return Ok(attempts);
        }
    }
}

/// The key frames of all tensors whose step is searched.
fn key_frames(
    lossy: &Lossy,
    references: &References,
    costs: &[SymbolCosts; 2],
    scratch: &Scratch,
    done: &Counter,
    options: &Options,
) -> Result<Vec<Option<Attempt>>> {
    let len = |&index: &usize| lossy.coded[index].view.matrix.len();
    map_in_parts(0..lossy.coded.len(), len, |index| {
        let coded = &lossy.coded[index];
        if coded.base.is_some() {
            return Ok(None);
        }
        let plan = references.plan(index);
        let (weights, pull) = (lossy.weights(index)?, references.pull(index, &plan)?);
        let search = coded.search(&costs[usize::from(plan.trellis)], options, 1);
        let (indices, tally) = plan.quantize(search, scratch, |rows| {
            let weights = weights.rows(rows.clone())?.into_owned();
            Ok(Aim { pull: pull.rows(rows, &weights)?, weights, ..Aim::default() })
        })?;
        (options.progress)("coding weights", done.step());
        Ok(Some(Attempt { plan, indices, tally }))
    })
}
