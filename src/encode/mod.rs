//! Model files -> archive. Everything here is a choice; what a decoder relies on lives in `container`, `entropy` and
//! `stages`.

#[doc(hidden)]
pub mod align;
#[doc(hidden)]
pub mod exact;
#[doc(hidden)]
pub mod importance;
#[doc(hidden)]
pub mod levels;
#[doc(hidden)]
pub mod motion;
pub mod report;
#[doc(hidden)]
pub mod search;

use std::collections::HashMap;

use rayon::prelude::*;

use crate::container::{FileEntry, Hash, Header, TensorEntry, serialize_chunk_entry, serialize_head};
use crate::decode::Reader;
use crate::entropy::EncoderTable;
use crate::error::{Error, Result};
use crate::format::RAW_CHUNK_BYTES;
use crate::formats::{self, SourceFile};
use crate::tensor::TensorLocation;

use align::alignment::Aligned;
use exact::integers::Integers;
use importance::statistics::{Statistics, WeightStatistics};
use levels::frame::Frame;
use levels::model_fit::{SymbolCosts, SymbolCounts};
use levels::quantizer::Search;
pub use levels::weights::to_f32;
use motion::candidates::Candidate;
use motion::predict::Attempt;
use motion::references::References;
use report::{Report, TensorReport};
use search::refinement::Part;
use search::step::{CodedTensor, Quantization, Quantized};

/// What the archive is to cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Bits for each weight that is coded with loss, with everything those tensors need.
    Bits(f64),
    /// Bytes of the whole archive, at most.
    Size(u64),
    /// Distortion, at most: of the outputs (relative squared error) as far as statistics tell it, else the mean over weights
    /// of the relative squared error of their tensor.
    Quality(f64),
    /// Every byte exact.
    Lossless,
}

/// How to encode.
pub struct Options<'a> {
    /// What the archive is to cost.
    pub target: Target,
    /// Whether levels may follow the trellis: about 4 % fewer bits, and a decoder that is about a fifth slower.
    pub trellis: bool,
    /// What a bit is worth to the trellis, in squared half steps. About 0.37 would be best for the squared error of the
    /// weights; less shrinks them less, which outputs reward.
    pub lambda: f32,
    /// Whether long kernels may be transformed.
    pub transform: bool,
    /// Whether columns make up for each other's errors, where the statistics allow it.
    pub feedback: bool,
    /// The archive that this one is to be a delta to.
    pub base: Option<&'a Reader<'a, [u8]>>,
    /// Whether tensors may be predicted from earlier ones that they resemble.
    pub prediction: bool,
    /// Whether units are matched with those of the reference.
    pub alignment: bool,
    /// Whether the archive may give hidden units, heads and channels in another order. The model computes the same.
    pub unit_order_free: bool,
    /// Whether symbols are coded by how often they occur; if not, all of them as equally likely. To see what that is worth.
    pub entropy_model: bool,
    /// Bits of each layer, each with those before it, coarse to fine; empty for one layer. The target is the last one's.
    pub layers: &'a [f64],
    /// Every how many frames of a chain of predictions one is a key frame. Decoding a frame decodes all before it in its chain.
    pub key_interval: usize,
    /// Tensors that stay exact, by name.
    pub keep_exact: &'a (dyn Fn(&str) -> bool + Sync),
    /// Called with a stage's name and the part of it that is done, 0 to 1. May be called from any thread.
    pub progress: &'a (dyn Fn(&'static str, f64) + Sync),
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            target: Target::Bits(4.0),
            trellis: true,
            lambda: LAMBDA,
            transform: true,
            feedback: true,
            base: None,
            prediction: true,
            alignment: true,
            unit_order_free: false,
            entropy_model: true,
            layers: &[],
            key_interval: 4,
            keep_exact: &|_| false,
            progress: &|_, _| {},
        }
    }
}

/// Default of [`Options::lambda`].
pub const LAMBDA: f32 = 0.06;
/// Fewest elements for which a tensor gets a frame of its own.
const FRAME_LEN_MIN: u64 = 256;
/// Fewest elements of a matrix that is worth coding with loss.
const LOSSY_LEN_MIN: u64 = 1024;

/// Encodes files into one archive. `statistics` tell what is known of the weights.
///
/// # Errors
/// Whatever is wrong with the files or the statistics; `Argument` if the target cannot be met.
pub fn encode(files: &[SourceFile], statistics: Option<Statistics>, options: &Options) -> Result<(Vec<u8>, Report)> {
    if options.base.is_some() && !options.layers.is_empty() {
        return Err(Error::argument("a delta has no layers: refine its base, or leave the base out"));
    }
    let mut tensors = formats::find_tensors(files)?;
    tensors.sort_by_key(|tensor| (tensor.file, tensor.offset));
    (options.progress)("reading", 0.0);
    let aligned = if options.alignment && (options.base.is_some() || options.unit_order_free && options.prediction) {
        Some(align::alignment::align(files, &tensors, options)?)
    } else {
        None
    };
    let mut files: Vec<SourceFile> = files.to_vec();
    if let Some(aligned) = aligned.as_ref().filter(|_| options.unit_order_free) {
        files.iter_mut().zip(&aligned.files).for_each(|(file, bytes)| file.bytes = bytes);
    }
    let model = Model::new(&files, tensors, aligned.as_ref(), statistics, options)?;
    let fixed = model.encode_exact(options)?;
    let Target::Size(size) = options.target else {
        return model.assemble(&fixed, search::step::search(&model, 0, options)?);
    };
    // The header's length is known only once it is written: search again with what the last one took.
    let mut other_bytes = fixed.bytes() + 4096;
    let mut best: Option<(Vec<u8>, Report)> = None;
    for _ in 0..4 {
        let found = search::step::search(&model, other_bytes, options).and_then(|found| model.assemble(&fixed, found));
        let (archive, report) = match found {
            Ok(assembled) => assembled,
            Err(error) => return best.ok_or(error),
        };
        let slack = size as i64 - archive.len() as i64;
        if slack >= 0 && best.as_ref().is_none_or(|(smaller, _)| archive.len() > smaller.len()) {
            best = Some((archive, report));
        }
        if (0..=size as i64 / 500).contains(&slack) || model.coded.is_empty() {
            break;
        }
        other_bytes = other_bytes.saturating_add_signed(size as i64 / 2000 - slack);
    }
    best.ok_or_else(|| Error::argument(format!("{size} bytes are too few for these files")))
}

/// The files, their tensors, and how each tensor is to travel.
pub struct Model<'a> {
    files: &'a [SourceFile<'a>],
    tensors: Vec<TensorLocation>,
    /// For each tensor, the index of the frame it uses.
    frame_of: Vec<Option<usize>>,
    /// For each frame, the first tensor that uses it.
    framed: Vec<usize>,
    /// The frames that are coded with loss.
    coded: Vec<CodedTensor>,
    calibrated: bool,
    /// Integrity of the base.
    base: Option<Hash>,
    notes: Vec<String>,
}

/// Payloads that do not depend on the quantization.
pub struct Fixed {
    raw: Vec<Vec<Vec<u8>>>,
    exact: HashMap<usize, Frame>,
    integers: Integers,
}

impl Fixed {
    fn bytes(&self) -> u64 {
        let raw: u64 = self.raw.iter().flatten().map(|payload| payload.len() as u64).sum();
        let exact = self.exact.iter().map(|(index, exact)| self.integers.frames.get(index).unwrap_or(exact).bytes());
        raw + exact.sum::<u64>()
    }
}

impl<'a> Model<'a> {
    fn new(
        files: &'a [SourceFile<'a>],
        tensors: Vec<TensorLocation>,
        aligned: Option<&Aligned>,
        statistics: Option<Statistics>,
        options: &Options,
    ) -> Result<Self> {
        for file in files {
            if !crate::container::is_file_name(&file.name) {
                return Err(Error::argument(format!("{:?} cannot be a file name in an archive", file.name)));
            }
        }
        let mut model = Model {
            files,
            frame_of: vec![None; tensors.len()],
            framed: Vec::new(),
            coded: Vec::new(),
            calibrated: statistics.is_some(),
            base: options.base.map(|base| base.archive().integrity),
            notes: Vec::new(),
            tensors,
        };
        model.assign_frames();
        let lossy: Vec<usize> = if options.target == Target::Lossless {
            Vec::new()
        } else {
            (0..model.framed.len()).filter(|&frame| model.may_lose(frame, options)).collect()
        };
        let mut statistics = statistics.unwrap_or_default();
        statistics.check(&model.tensors)?;
        let done = search::step::Counter::new(lossy.len());
        let known = lossy.into_iter().map(|frame| (frame, model.known(frame, &mut statistics)));
        // Moments are large, and gone once they are factored.
        let (first, then): (Vec<_>, Vec<_>) = known.partition(|(_, statistics)| statistics.has_moments());
        for part in [first, then] {
            let coded = part.into_par_iter().filter_map(|(frame, statistics)| {
                let coded = model.measure(frame, statistics, aligned, options).transpose();
                (options.progress)("reading", done.step());
                coded
            });
            let coded = coded.collect::<Result<Vec<_>>>()?;
            model.coded.extend(coded);
        }
        model.coded.sort_by_key(|coded| coded.frame);
        search::step::balance(&mut model.coded);
        model.notes = model.notes();
        Ok(model)
    }

    /// A frame to be coded with loss, if it can be.
    fn measure(
        &self,
        frame: usize,
        statistics: WeightStatistics,
        aligned: Option<&Aligned>,
        options: &Options,
    ) -> Result<Option<CodedTensor>> {
        let index = self.framed[frame];
        let tensor = &self.tensors[index];
        let bytes = self.bytes(tensor);
        let moved = aligned.map_or(&[None, None], |aligned| &aligned.orders[index]);
        let statistics = match moved {
            [None, None] => statistics,
            _ => statistics.permuted(moved),
        };
        let orders = if options.unit_order_free { &[None, None] } else { moved };
        let base =
            options.base.map(|base| motion::predict::base_frame(base, tensor, bytes, orders)).transpose()?.flatten();
        let by_column = aligned.is_some_and(|aligned| aligned.columns.contains(&index));
        Ok(CodedTensor::new(frame, tensor, bytes, statistics, base, by_column, options))
    }

    /// What statistics lacked.
    fn notes(&self) -> Vec<String> {
        let name = |coded: &CodedTensor| self.tensors[self.framed[coded.frame]].name.clone();
        let names = |which: &dyn Fn(&CodedTensor) -> bool| {
            let names: Vec<String> = self.coded.iter().filter(|coded| which(coded)).map(name).collect();
            (names.len(), names.into_iter().take(3).collect::<Vec<_>>().join(", "))
        };
        let note = |(count, names): (usize, String), what: &str| {
            let (tensors, more) = (if count == 1 { "tensor" } else { "tensors" }, if count > 3 { ", …" } else { "" });
            (count > 0).then(|| format!("{count} {tensors} {what}: {names}{more}"))
        };
        let on_trellis = names(&|coded| coded.base.as_ref().is_some_and(|base| base.trellis));
        let base =
            note(on_trellis, "follow the base's trellis; a base made with --quantizer uniform makes a smaller delta");
        if !self.calibrated {
            return base.into_iter().collect();
        }
        [
            base,
            note(
                names(&|coded| coded.importance.tensor.is_none()),
                "without an importance, taken to matter as much as the others on average",
            ),
            note(
                names(&|coded| coded.importance.tensor == Some(0.0)),
                "without any effect on the outputs, coded coarsely",
            ),
            note(
                names(&|coded| coded.importance.unused_moments),
                "without error feedback, moments being all zero or no such thing",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What is known of a frame: of the first of its tensors of which anything is.
    fn known(&self, frame: usize, statistics: &mut Statistics) -> WeightStatistics {
        let named = self.tensors.iter().zip(&self.frame_of).filter(|&(_, of)| *of == Some(frame));
        named.map(|(tensor, _)| &tensor.name).find_map(|name| statistics.take(name)).unwrap_or_default()
    }

    fn bytes(&self, tensor: &TensorLocation) -> &'a [u8] {
        &self.files[tensor.file].bytes[tensor.offset as usize..(tensor.offset + tensor.bytes) as usize]
    }

    /// Gives frames to tensors that are large enough, one to all tensors of equal bytes. Where two tensors share a part
    /// of a file, the later one is left without: its bytes come from the earlier.
    fn assign_frames(&mut self) {
        let mut by_content = HashMap::new();
        let mut end = (0, 0);
        for index in 0..self.tensors.len() {
            let tensor = &self.tensors[index];
            let overlaps = tensor.file == end.0 && tensor.offset < end.1;
            let len = tensor.shape.element_len().unwrap_or(0);
            if overlaps || len < FRAME_LEN_MIN || !exact::integers::are_worth_a_frame(tensor, self.bytes(tensor)) {
                continue;
            }
            end = (tensor.file, tensor.offset + tensor.bytes);
            let content = (tensor.dtype, tensor.shape.clone(), Hash::of(&[self.bytes(tensor)]));
            let frame = *by_content.entry(content).or_insert_with(|| {
                self.framed.push(index);
                self.framed.len() - 1
            });
            self.frame_of[index] = Some(frame);
        }
    }

    /// Matrices of floats may be coded with loss; vectors, small tensors and integers stay exact.
    fn may_lose(&self, frame: usize, options: &Options) -> bool {
        let excluded = |(index, tensor): (usize, &TensorLocation)| {
            self.frame_of[index] == Some(frame) && (options.keep_exact)(&tensor.name)
        };
        let tensor = &self.tensors[self.framed[frame]];
        let axes = tensor.shape.0.iter().filter(|&&extent| extent > 1).count();
        let large = tensor.shape.element_len().unwrap_or(0) >= LOSSY_LEN_MIN;
        tensor.dtype.is_float() && axes >= 2 && large && !self.tensors.iter().enumerate().any(excluded)
    }

    fn encode_exact(&self, options: &Options) -> Result<Fixed> {
        let raw_streams: Vec<Vec<u8>> = (0..self.files.len()).map(|file| self.raw_stream(file)).collect();
        let chunk = RAW_CHUNK_BYTES as usize;
        let coded: std::collections::HashSet<usize> = self.coded.iter().map(|coded| coded.frame).collect();
        let exact: Vec<usize> = (0..self.framed.len()).filter(|frame| !coded.contains(frame)).collect();
        let done = search::step::Counter::new(exact.len() + raw_streams.len());
        let raw = raw_streams
            .par_iter()
            .map(|stream| {
                let payloads = stream.par_chunks(chunk).map(exact::planes::encode_plane).collect();
                (options.progress)("packing exact bytes", done.step());
                payloads
            })
            .collect();
        let tensor = |frame: usize| {
            let tensor = &self.tensors[self.framed[frame]];
            (frame, tensor, self.bytes(tensor))
        };
        let frames: HashMap<usize, Frame> = exact
            .par_iter()
            .map(|&frame| {
                let (frame, tensor, bytes) = tensor(frame);
                let mut coded = levels::frame::exact(bytes, tensor.dtype, tensor.record, None);
                let predicted =
                    options.base.map(|base| motion::predict::predict_exact(base, tensor, bytes)).transpose()?;
                if let Some(predicted) = predicted.flatten().filter(|predicted| predicted.bytes() < coded.bytes()) {
                    coded = predicted;
                }
                (options.progress)("packing exact bytes", done.step());
                Ok((frame, coded))
            })
            .collect::<Result<_>>()?;
        let integers = exact::integers::encode(
            exact.into_iter().map(tensor).filter(|(_, tensor, _)| tensor.record.is_empty()),
            &frames,
        )?;
        Ok(Fixed { raw, exact: frames, integers })
    }

    /// The bytes of a file that belong to no frame.
    fn raw_stream(&self, file: usize) -> Vec<u8> {
        let bytes = self.files[file].bytes;
        let mut stream = Vec::new();
        let mut end = 0;
        let framed = self.tensors.iter().zip(&self.frame_of);
        for (tensor, _) in framed.filter(|(tensor, frame)| frame.is_some() && tensor.file == file) {
            stream.extend_from_slice(&bytes[end..tensor.offset as usize]);
            end = (tensor.offset + tensor.bytes) as usize;
        }
        stream.extend_from_slice(&bytes[end..]);
        stream
    }

    /// Weights of a coded tensor in coded order, in units of 2^exponent.
    fn unit_weights(&self, coded: &CodedTensor) -> Vec<f32> {
        let tensor = &self.tensors[self.framed[coded.frame]];
        let mut weights = coded.weights(self.bytes(tensor), tensor.dtype).into_owned();
        coded.view.divide_by_exponents(&mut weights);
        weights
    }

    /// Weights of the tensors whose step is searched.
    fn searched_len(&self) -> usize {
        let searched = self.coded.iter().filter(|coded| coded.base.is_none());
        searched.map(|coded| coded.view.matrix.len()).sum()
    }

    /// How each lossy tensor is coded with one quantization. Candidates that resemble their references, and yet are not worth
    /// predicting, are dropped: those give nothing for them.
    fn attempts(
        &self,
        quantization: &Quantization,
        candidates: &mut [Option<Candidate>],
        done: &search::step::Counter,
        options: &Options,
    ) -> Vec<Option<Attempt>> {
        let costs = quantization.sets.each_ref().map(SymbolCosts::new);
        let references = References::new(self, candidates, quantization.step);
        let mut attempts: Vec<Option<Attempt>> = (self.coded.par_iter().enumerate())
            .map(|(index, coded)| {
                if coded.base.is_some() {
                    return None;
                }
                let tensor = &self.tensors[self.framed[coded.frame]];
                let weights = coded.weights(self.bytes(tensor), tensor.dtype);
                let plan = references.plan(index);
                let pull = references.pull(index, &plan, &weights);
                let search = coded.search(&costs[usize::from(plan.trellis)], options, 1);
                let (indices, tally) = plan.quantize(&weights, Search { pull: &pull, ..search });
                (options.progress)("coding weights", done.step());
                Some(Attempt::key(plan, indices, tally))
            })
            .collect();
        motion::predict::predict(&references, &mut attempts, &quantization.sets, options);
        let mut dropped = false;
        for (candidate, attempt) in candidates.iter_mut().zip(&attempts) {
            let refused = attempt.as_ref().is_some_and(|attempt| attempt.plan.prediction.is_none());
            dropped |= candidate.take_if(|candidate| refused && candidate.resembles()).is_some();
        }
        if dropped {
            drop(attempts);
            return self.attempts(quantization, candidates, done, options);
        }
        attempts
    }

    /// Codes every lossy tensor with one quantization: levels by its tables, then tables by these levels.
    fn encode_coded(
        &self,
        quantization: &Quantization,
        candidates: &mut [Option<Candidate>],
        options: &Options,
    ) -> Result<Quantized> {
        let done = search::step::Counter::new(2 * self.coded.len());
        let attempts = self.attempts(quantization, candidates, &done, options);
        let mut counts = [1, 2, 1, 2].map(SymbolCounts::new);
        let (mut distortion, mut coded_parts) = (0.0, Vec::new());
        for (coded, attempt) in self.coded.iter().zip(attempts.into_iter().flatten()) {
            let squared_error = attempt.tally.squared_error;
            distortion += coded.distortion(&attempt.tally);
            let parts = search::refinement::parts(coded, attempt, options.layers);
            parts.iter().for_each(|part| counts[part.set()].add_all(&part.counts));
            coded_parts.push((parts, squared_error));
        }
        if !options.entropy_model {
            counts = counts.each_ref().map(SymbolCounts::equal);
        }
        let sets = counts.each_ref().map(SymbolCounts::used_tables);
        let tables = sets.each_ref().map(|set| set.tables.iter().map(EncoderTable::new).collect::<Vec<_>>());
        let encode = |part: Part| {
            let set = part.set();
            let mut frame = part.plan.encode(&part.indices, sets[set].first_class, &tables[set])?;
            // The tables of all sets follow one another in the header.
            if let Some([first, _]) = frame.entry.tables.as_deref_mut() {
                *first = tables[..set].iter().map(|tables| tables.len() as u64).sum();
            }
            Ok(frame)
        };
        let frames = coded_parts.into_par_iter().map(|(parts, squared_error)| {
            let frames = parts.into_iter().map(encode).collect::<Result<Vec<_>>>()?;
            (options.progress)("coding weights", done.step());
            Ok((frames, squared_error))
        });
        let frames = frames.collect::<Result<Vec<_>>>()?;
        Ok(Quantized { sets, frames, distortion })
    }

    /// Puts header and chunks together: raw streams first, so that what describes a model arrives before its weights.
    fn assemble(&self, fixed: &Fixed, quantized: search::step::Quantized) -> Result<(Vec<u8>, Report)> {
        let mut builder = ArchiveBuilder::default();
        for (file, payloads) in self.files.iter().zip(&fixed.raw) {
            let first_raw_chunk = builder.push_chunks(payloads.clone())?;
            let entry = FileEntry { name: file.name.clone(), bytes: file.bytes.len() as u64, first_raw_chunk };
            builder.header.files.push(entry);
        }
        let mut coded: HashMap<usize, (Vec<Frame>, f64)> =
            self.coded.iter().map(|coded| coded.frame).zip(quantized.frames).collect();
        let lossy_tables: Vec<_> = quantized.sets.iter().flat_map(|set| &set.tables).collect();
        for table in lossy_tables.iter().copied().chain(&fixed.integers.tables) {
            table.serialize(&mut builder.header.tables);
        }
        let mut report = Report::new(&fixed.raw);
        report.distortion = quantized.distortion;
        report.calibrated = self.calibrated;
        report.notes.clone_from(&self.notes);
        let mut refinements: Vec<std::vec::IntoIter<Frame>> = Vec::new();
        for (index, &tensor) in self.framed.iter().enumerate() {
            let lossy = coded.remove(&index);
            let error = lossy.as_ref().map(|(_, error)| *error);
            let integers = fixed.integers.frame(index, lossy_tables.len());
            let frames: Vec<Frame> = match lossy {
                Some((frames, _)) => frames,
                None => integers.or_else(|| fixed.exact.get(&index).cloned()).into_iter().collect(),
            };
            let bytes = frames.iter().map(Frame::bytes).sum();
            let mut frames = frames.into_iter();
            let frame = frames.next().ok_or_else(|| Error::argument("a frame was not coded"))?;
            report.tensors.push(TensorReport::new(
                &self.tensors[tensor],
                self.bytes(&self.tensors[tensor]),
                bytes,
                error,
            ));
            if frame.entry.reference.as_deref().is_some_and(|reference| reference[0] == 1) {
                builder.header.base = self.base.map(|integrity| integrity.0.to_vec());
            }
            builder.push_frame(frame)?;
            refinements.push(frames);
        }
        let mut frames_of: Vec<Vec<u64>> = (0..refinements.len() as u64).map(|frame| vec![frame]).collect();
        // Layer after layer, so that all tensors can be used before any is refined.
        while refinements.iter().any(|frames| frames.len() > 0) {
            report.layer_bytes.push(builder.bytes);
            for (frames, refinements) in frames_of.iter_mut().zip(&mut refinements) {
                if let Some(mut refinement) = refinements.next() {
                    refinement.entry.reference = frames.last().map(|&frame| vec![0, frame]);
                    frames.push(builder.push_frame(refinement)?.into());
                }
            }
        }
        for (tensor, frame) in self.tensors.iter().zip(&self.frame_of) {
            builder.header.tensors.push(TensorEntry {
                name: tensor.name.clone(),
                dtype: tensor.dtype as u32,
                shape: tensor.shape.0.clone(),
                file: tensor.file as u32,
                offset: tensor.offset,
                frames: frame.map(|frame| frames_of[frame].clone()),
            });
        }
        let payload_bytes = builder.bytes;
        let archive = builder.finish()?;
        let head_bytes = archive.len() as u64 - payload_bytes;
        report.layer_bytes.iter_mut().for_each(|bytes| *bytes += head_bytes);
        report.finish(self.files, &archive);
        Ok((archive, report))
    }
}

/// Collects chunks and header entries into an archive.
#[derive(Default)]
pub struct ArchiveBuilder {
    /// The header so far; `chunks` is filled in as payloads come.
    pub header: Header,
    payloads: Vec<Vec<u8>>,
    bytes: u64,
}

impl ArchiveBuilder {
    /// Appends chunks; returns the index of the first.
    ///
    /// # Errors
    /// `LimitExceeded` if one is too long.
    pub fn push_chunks(&mut self, payloads: Vec<Vec<u8>>) -> Result<u32> {
        let first = self.payloads.len() as u32;
        for payload in &payloads {
            serialize_chunk_entry(payload, &mut self.header.chunks)?;
            self.bytes += payload.len() as u64;
        }
        self.payloads.extend(payloads);
        Ok(first)
    }

    /// Appends a frame and its chunks; returns its index.
    ///
    /// # Errors
    /// `LimitExceeded` if a chunk is too long.
    pub fn push_frame(&mut self, mut frame: Frame) -> Result<u32> {
        frame.entry.first_chunk = self.push_chunks(frame.payloads)?;
        self.header.frames.push(frame.entry);
        Ok(self.header.frames.len() as u32 - 1)
    }

    /// The archive.
    ///
    /// # Errors
    /// `LimitExceeded` if the header is too long.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let generator = ("generator".to_string(), concat!("mcwc ", env!("CARGO_PKG_VERSION")).to_string());
        self.header.metadata.get_or_insert_default().push(generator);
        let mut archive = serialize_head(&self.header, Some(exact::planes::encode_plane))?;
        archive.reserve_exact(self.bytes as usize);
        // One by one, as there may be no room for all of them twice.
        self.payloads.into_iter().for_each(|payload| archive.extend_from_slice(&payload));
        Ok(archive)
    }
}
