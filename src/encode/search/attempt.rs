//! One quantization of all lossy tensors: levels by its tables, then tables by these levels, then payloads.

use std::collections::{BTreeMap, HashSet};

use crate::encode::coded::{CodedTensor, Lossy};
use crate::encode::cost::{Cost, STEP_NEAR_LOSSLESS};
use crate::encode::exact::frame::{CodedFrame, KeptFrame};
use crate::encode::levels::quantizer::Aim;
use crate::encode::levels::table_sets::{SharedCosts, SharedCounts, Sharing};
use crate::encode::motion::candidates::Candidate;
use crate::encode::motion::predict::{Attempt, Motion};
use crate::encode::motion::references::References;
use crate::encode::options::Options;
use crate::encode::progress::{Counter, map_in_parts};
use crate::encode::scratch::Scratch;
use crate::encode::search::refinement::{self, Part};
use crate::entropy::{EncoderTable, Table};
use crate::error::{Error, Result};

/// One step for all tensors, and the costs of symbols under tables that fit it.
pub struct Quantization {
    /// Fraction of each tensor's unit.
    pub step: f64,
    /// Bits of each symbol.
    pub costs: SharedCosts,
    /// About the bits of each tensor, if it is coded with loss; none where the base decides.
    pub bits: Vec<f64>,
}

impl Quantization {
    /// Which tensors are exact, because that is no larger.
    fn exact(&self, lossy: &Lossy, options: &Options) -> Result<Vec<bool>> {
        let is_exact = |index: usize| self.bits.get(index).is_some_and(|&bits| lossy.is_exact(index, bits));
        let promised = (0..lossy.coded.len()).filter(|&index| is_exact(index));
        let len = |&index: &usize| lossy.coded[index].view.matrix.len();
        map_in_parts(promised, len, |index| lossy.exact_frame(index, options).map(|_| ()))?;
        Ok((0..lossy.coded.len()).map(is_exact).collect())
    }
}

/// All tensors that may lose, under one quantization.
pub struct Quantized {
    /// Tables of all their frames.
    pub tables: Vec<Table>,
    /// Their frames, in the order of the coded tensors.
    pub tensors: Vec<QuantizedTensor>,
    /// What they cost.
    pub cost: Cost,
    /// Whether no finer step is worth its bits.
    pub near_lossless: bool,
}

/// The frames of a tensor, coarse to fine.
pub struct QuantizedTensor {
    /// The frames.
    pub frames: Vec<KeptFrame>,
    /// Sum of squared errors of its weights; `None` if they are exact.
    pub squared_error: Option<f64>,
    distortion: f64,
}

impl QuantizedTensor {
    fn exact(frame: &KeptFrame) -> Self {
        QuantizedTensor { frames: vec![frame.clone()], squared_error: None, distortion: 0.0 }
    }

    fn bits(&self) -> f64 {
        self.frames.iter().map(KeptFrame::bits).sum()
    }
}

impl Quantized {
    /// What the errors of all tensors cost the outputs; where that is unknown, their mean relative squared error.
    pub fn distortion(&self, lossy: &Lossy) -> f64 {
        let inexact = lossy.coded.iter().zip(&self.tensors).filter(|(_, tensor)| tensor.squared_error.is_some());
        let sums = inexact.fold((0.0, 0.0), |sums, (coded, tensor)| {
            (sums.0 + tensor.distortion, sums.1 + coded.view.matrix.len() as f64)
        });
        lossy.mean_distortion(sums.0, sums.1)
    }

    /// Codes every lossy tensor with one quantization, or exactly where that is no larger.
    ///
    /// # Errors
    /// Whatever is wrong with the weights, the base, or the room for levels and payloads.
    pub fn new(
        lossy: &Lossy,
        quantization: &Quantization,
        candidates: &mut [Option<Candidate>],
        options: &Options,
    ) -> Result<Self> {
        let weights: usize = lossy.coded.iter().map(|coded| coded.view.matrix.len()).sum();
        let begun = Counter::new("coding weights", 2 * weights as u64);
        let levels = Scratch::new(options.scratch)?;
        let exact = quantization.exact(lossy, options)?;
        let attempts = attempts(lossy, quantization, candidates, &exact, &begun, options)?;
        let (mut counts, mut leveled) = (SharedCounts::default(), Vec::new());
        for (coded, attempt) in lossy.coded.iter().zip(attempts) {
            let tensor = match attempt {
                Some(attempt) => LeveledTensor::new(coded, attempt, options, &levels)?,
                None => LeveledTensor::default(),
            };
            tensor.parts.iter().for_each(|part| counts.add(part.plan.sharing(), &part.counts));
            leveled.push(tensor);
        }
        if !options.entropy_model {
            counts = counts.equal();
        }
        let referenced: HashSet<u64> = leveled.iter().filter_map(LeveledTensor::reference).collect();
        let coder = Coder::new(&counts);
        let payloads = Scratch::new(options.scratch)?;
        let len = |(_, tensor): &(usize, &LeveledTensor)| tensor.parts.iter().map(|part| part.indices.len()).sum();
        let tensors = map_in_parts(leveled.iter().enumerate(), len, |(index, tensor)| {
            (options.progress)(begun.begin(Some(lossy.name(index)), lossy.coded[index].view.matrix.len() as u64));
            let coded = if exact[index] { None } else { Some(tensor.coded(&coder, &payloads)?) };
            let is_reference = referenced.contains(&(lossy.coded[index].frame as u64));
            smaller(lossy, index, coded, is_reference, options)
        })?;
        let near_lossless = quantization.step <= STEP_NEAR_LOSSLESS * 1.01 && options.target.bounds_bits();
        Ok(Quantized { tables: coder.tables, cost: cost(lossy, &tensors), tensors, near_lossless })
    }
}

/// A tensor's levels; none if it is exact.
#[derive(Default)]
struct LeveledTensor {
    parts: Vec<Part>,
    squared_error: f64,
    distortion: f64,
}

impl LeveledTensor {
    fn new(coded: &CodedTensor, attempt: Attempt, options: &Options, levels: &Scratch) -> Result<Self> {
        let (squared_error, distortion) = (attempt.tally.squared_error, coded.distortion(&attempt.tally));
        Ok(LeveledTensor {
            parts: refinement::parts(coded, attempt, options.passes, levels)?,
            squared_error,
            distortion,
        })
    }

    /// The earlier frame that it is predicted from. References of refinements are known later.
    fn reference(&self) -> Option<u64> {
        let prediction = self.parts.first()?.plan.prediction.as_ref()?;
        (prediction.reference[0] == 0).then_some(prediction.reference[1])
    }

    fn coded(&self, coder: &Coder, payloads: &Scratch) -> Result<QuantizedTensor> {
        let frames = self.parts.iter().map(|part| coder.encode(part)?.kept(payloads)).collect::<Result<_>>()?;
        Ok(QuantizedTensor { frames, squared_error: Some(self.squared_error), distortion: self.distortion })
    }
}

/// A tensor as it is coded with loss, or its exact frame if that is no larger. A reference stays what others are predicted from.
fn smaller(
    lossy: &Lossy,
    index: usize,
    coded: Option<QuantizedTensor>,
    is_reference: bool,
    options: &Options,
) -> Result<QuantizedTensor> {
    let Some(coded) = coded else { return Ok(QuantizedTensor::exact(lossy.exact_frame(index, options)?)) };
    if is_reference || lossy.exact_bits(index) * EXACT_SURE > coded.bits() {
        return Ok(coded);
    }
    let frame = lossy.exact_frame(index, options)?;
    Ok(if frame.bits() <= coded.bits() { QuantizedTensor::exact(frame) } else { coded })
}

/// What a part of a tensor tells of its exact frame is off by this factor at most.
const EXACT_SURE: f64 = 0.75;

fn cost(lossy: &Lossy, tensors: &[QuantizedTensor]) -> Cost {
    let mut cost = Cost::default();
    let (mut searched, mut inexact) = (0.0, 0.0);
    for (coded, tensor) in lossy.coded.iter().zip(tensors) {
        let (len, is_searched) = (coded.view.matrix.len() as f64, coded.base.is_none());
        searched += if is_searched { len } else { 0.0 };
        if is_searched && tensor.squared_error.is_some() {
            inexact += len;
            cost.bits += tensor.bits();
            cost.distortion += tensor.distortion;
            cost.uncalibrated += coded.uncalibrated_cost;
        } else {
            cost.other_bits += tensor.bits();
        }
    }
    cost.lossy_part = if searched > 0.0 { inexact / searched } else { 0.0 };
    cost.distortion = lossy.mean_distortion(cost.distortion, inexact);
    cost
}

/// The tables of all frames.
struct Coder {
    /// Of each set: the place of its first table, the class of that, and the tables.
    sets: BTreeMap<Sharing, (u64, usize, Vec<EncoderTable>)>,
    tables: Vec<Table>,
}

impl Coder {
    fn new(counts: &SharedCounts) -> Self {
        let (mut sets, mut tables) = (BTreeMap::new(), Vec::new());
        for (sharing, set) in counts.sets() {
            let encoders = set.tables.iter().map(EncoderTable::new).collect();
            sets.insert(sharing, (tables.len() as u64, set.first_class, encoders));
            tables.extend(set.tables);
        }
        Coder { sets, tables }
    }

    fn encode(&self, part: &Part) -> Result<CodedFrame> {
        let set = self.sets.get(&part.plan.sharing());
        let (place, first_class, tables) = set.ok_or_else(|| Error::argument("a frame has no tables"))?;
        let mut frame = part.plan.encode(&part.indices, *first_class, tables)?;
        // The tables of all sets follow one another in the header.
        if let Some([first, _]) = frame.entry.tables.as_deref_mut() {
            *first = *place;
        }
        Ok(frame)
    }
}

/// How each tensor but the exact ones is coded with one quantization. Candidates that resemble their references, and yet are not worth
/// predicting, are dropped: those give nothing for them.
fn attempts(
    lossy: &Lossy,
    quantization: &Quantization,
    candidates: &mut [Option<Candidate>],
    exact: &[bool],
    begun: &Counter,
    options: &Options,
) -> Result<Vec<Option<Attempt>>> {
    loop {
        let scratch = &Scratch::new(options.scratch)?;
        let mut inexact = candidates.to_vec();
        for (index, candidate) in inexact.iter_mut().enumerate() {
            candidate.take_if(|candidate| exact[index] || exact[candidate.reference]);
        }
        let references = References::new(lossy, &inexact, quantization.step);
        let mut attempts = key_frames(lossy, &references, &quantization.costs, exact, scratch, begun, options)?;
        Motion { references: &references, options, scratch }.predict(&mut attempts, &quantization.costs)?;
        let mut dropped = false;
        for ((candidate, tried), attempt) in candidates.iter_mut().zip(&inexact).zip(&attempts) {
            let is_key = attempt.as_ref().is_some_and(|attempt| attempt.plan.prediction.is_none());
            let refused = tried.is_some() && is_key;
            dropped |= candidate.take_if(|candidate| refused && candidate.resembles()).is_some();
        }
        if !dropped {
            return Ok(attempts);
        }
    }
}

/// The key frames of all tensors whose step is searched, but for exact ones.
fn key_frames(
    lossy: &Lossy,
    references: &References,
    costs: &SharedCosts,
    exact: &[bool],
    scratch: &Scratch,
    begun: &Counter,
    options: &Options,
) -> Result<Vec<Option<Attempt>>> {
    let len = |&index: &usize| lossy.coded[index].view.matrix.len();
    map_in_parts(0..lossy.coded.len(), len, |index| {
        let coded = &lossy.coded[index];
        if coded.base.is_some() || exact[index] {
            return Ok(None);
        }
        (options.progress)(begun.begin(Some(lossy.name(index)), len(&index) as u64));
        let plan = references.plan(index);
        let (weights, pull) = (lossy.weights(index)?, references.pull(index, &plan)?);
        let search = coded.search(costs.of(plan.sharing()), options, 1);
        let (indices, tally) = plan.quantize(search, scratch, |rows| {
            let weights = weights.rows(rows.clone())?.into_owned();
            Ok(Aim { pull: pull.rows(rows, &weights)?, weights, ..Aim::default() })
        })?;
        Ok(Some(Attempt { plan, indices, tally }))
    })
}
