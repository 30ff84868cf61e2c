//! Tensors of 8-bit integers -> frames of levels that are the integers themselves, or of planes if those are smaller.
//!
//! Quantized weights are spread unevenly over rows and columns: dead channels, narrow filters. Classes by mean magnitude
//! see that. Most tensors share one set of tables, because small ones could not pay for their own; a large one may have
//! its own set.

use std::cmp::Reverse;
use std::collections::HashMap;

use rayon::prelude::*;

use crate::encode::exact::frame::{CodedFrame, KeptFrame};
use crate::encode::exact::planes::{encode_plane, entropy_bytes, estimated_bytes};
use crate::encode::levels::frame::LevelPlan;
use crate::encode::levels::indices::Indices;
use crate::encode::levels::integer_fit::Fit;
use crate::encode::levels::integer_tables::{Counts, IntegerTables};
use crate::encode::levels::model_fit::Classes;
use crate::encode::progress::map_in_parts;
use crate::encode::scratch::Scratch;
use crate::entropy::{EncoderTable, LANES, Table};
use crate::error::Result;
use crate::format::CHUNK_LEN_MAX;
use crate::tensor::{DType, TensorLocation};

/// What a frame of levels costs beside its payloads and tables and a frame of planes does not.
const FRAME_BYTES: f64 = 24.0;
/// How far an estimate may be off: planes that are expected to be larger than levels by this factor are not tried.
const DOUBT: f64 = 1.02;
/// How far the estimate for a small tensor may be off, either way: within that, its plane is coded to see.
const SMALL_DOUBT: f64 = 1.01;

/// Tensors that are shorter are left to the raw stream.
const FRAMED_BYTES_MIN: u64 = 8192;
/// Tensors that are longer never are.
const RAW_BYTES_MAX: u64 = 1 << 17;

/// What a tensor takes in the raw stream, as a part of what it takes with tables of its own.
const SHARED_PART: f64 = 0.985;

/// The frames of integers, and the tables that they count on from 0.
#[derive(Default)]
pub struct Integers {
    /// The tables of all frames.
    pub tables: Vec<Table>,
    /// The frames, by index.
    pub frames: HashMap<usize, KeptFrame>,
}

impl Integers {
    /// Frame `index`, if it is one of these, for a header in which `first_table` tables come before theirs.
    pub fn frame(&self, index: usize, first_table: usize) -> Option<KeptFrame> {
        let mut frame = self.frames.get(&index)?.clone();
        if let Some([first, _]) = frame.entry.tables.as_deref_mut() {
            *first += first_table as u64;
        }
        Some(frame)
    }
}

/// Whether a tensor's elements may be levels themselves.
pub fn are_levels(tensor: &TensorLocation) -> bool {
    matches!(tensor.dtype, DType::U8 | DType::I8) && tensor.record.is_empty()
}

/// How tensors are read, and coded as planes.
pub struct Coders<R, P> {
    /// The bytes of a tensor.
    pub read: R,
    /// The frame of planes of a tensor.
    pub planes: P,
    /// Whether planes may take fewer bytes than their own values tell, because they are predicted.
    pub predicted: bool,
}

/// Codes tensors whose elements [are levels](are_levels), by index of the frame, as levels or as planes.
///
/// # Errors
/// The first error of the coders; `Io` if there is no room for payloads.
pub fn encode<R, P>(tensors: &[(usize, &TensorLocation)], scratch: &Scratch, coders: &Coders<R, P>) -> Result<Integers>
where
    R: Fn(&TensorLocation) -> Result<Vec<u8>> + Sync,
    P: Fn(&TensorLocation) -> Result<KeptFrame> + Sync,
{
    let elements = |(_, tensor): &(usize, &TensorLocation)| tensor.bytes as usize;
    let fitted = |(frame, tensor)| {
        let mut bytes = (coders.read)(tensor)?;
        // Shorter ones have frames because planes would be larger.
        let planes_bytes = match coders.predicted {
            true => 0.0,
            false if tensor.bytes <= RAW_BYTES_MAX => f64::INFINITY,
            false => estimated_planes(&bytes),
        };
        let fit = Fit::of(tensor, &mut bytes);
        drop(bytes);
        let planes = (planes_bytes < DOUBT * (fit.bytes() + FRAME_BYTES)).then(|| (coders.planes)(tensor));
        Ok(Fitted { frame, tensor, planes: planes.transpose()?, fit, own: false })
    };
    // The largest first: what is kept of others would leave gaps in memory that are too small for them.
    let mut largest_first = tensors.to_vec();
    largest_first.sort_by_key(|tensor| Reverse(elements(tensor)));
    let mut fits: Vec<Fitted> = map_in_parts(largest_first, elements, fitted)?;
    fits.sort_by_key(|fitted| fitted.frame);
    let mut coded = Integers::default();
    let of_shared = |fits: &[Fitted]| {
        let counts = fits.iter().filter(|fitted| !fitted.own).map(|fitted| &fitted.fit.counts);
        IntegerTables::new(&Counts::sum(counts))
    };
    for _ in 0..2 {
        let shared = of_shared(&fits);
        fits.par_iter_mut().for_each(|fitted| fitted.own = fitted.fit.bytes() < fitted.fit.payload_bytes(&shared));
        for fitted in fits.extract_if(.., |fitted| fitted.planes_are_smaller(&shared)) {
            coded.frames.extend(fitted.planes.map(|planes| (fitted.frame, planes)));
        }
    }
    let shared = of_shared(&fits);
    coded.push_levels(fits, &shared, scratch, &coders.read)?;
    Ok(coded)
}

/// Bytes of a tensor's planes, as far as its first and its middle chunk tell.
fn estimated_planes(bytes: &[u8]) -> f64 {
    let chunks: Vec<&[u8]> = bytes.chunks(CHUNK_LEN_MAX as usize).collect();
    let seen = if chunks.len() > 2 { vec![chunks[0], chunks[chunks.len() / 2]] } else { chunks };
    let seen_len: usize = seen.iter().map(|chunk| chunk.len()).sum();
    let sum: f64 = seen.into_iter().map(estimated_bytes).sum();
    sum * bytes.len() as f64 / seen_len.max(1) as f64
}

/// A tensor that may be coded as levels.
struct Fitted<'a> {
    frame: usize,
    tensor: &'a TensorLocation,
    planes: Option<KeptFrame>,
    fit: Fit,
    /// Whether it has tables of its own.
    own: bool,
}

impl Fitted<'_> {
    fn planes_are_smaller(&self, shared: &IntegerTables) -> bool {
        let fit = &self.fit;
        let levels_bytes = FRAME_BYTES + if self.own { fit.bytes() } else { fit.payload_bytes(shared) };
        self.planes.as_ref().is_some_and(|planes| planes.bytes() as f64 <= levels_bytes)
    }
}

impl Integers {
    fn push_levels(
        &mut self,
        fits: Vec<Fitted>,
        shared: &IntegerTables,
        scratch: &Scratch,
        read: impl Fn(&TensorLocation) -> Result<Vec<u8>> + Sync,
    ) -> Result<()> {
        let shared_tables = shared.tables();
        let len = |fitted: &Fitted| fitted.tensor.bytes as usize;
        let frames = map_in_parts(fits, len, |Fitted { frame, tensor, fit, own, .. }| {
            let own_tables = own.then(|| fit.tables.tables());
            let (tables, first_class) = match &own_tables {
                Some(tables) => (tables, fit.tables.first_class),
                None => (&shared_tables, shared.first_class),
            };
            let coded = encode_levels(fit, read(tensor)?, first_class, tables)?.kept(scratch)?;
            Ok((frame, coded, own_tables))
        })?;
        if frames.iter().any(|(_, _, own)| own.is_none()) {
            self.tables.extend(shared_tables);
        }
        for (index, mut frame, own) in frames {
            if let Some(own) = own {
                if let Some([first, _]) = frame.entry.tables.as_deref_mut() {
                    *first = self.tables.len() as u64;
                }
                self.tables.extend(own);
            }
            self.frames.insert(index, frame);
        }
        Ok(())
    }
}

/// Whether a tensor is better off with a frame than in the raw stream, where small tensors share tables. Only 8-bit integers may
/// not be: they get one if they are large, or if classes of rows and columns pay.
///
/// # Errors
/// That of `read`, which gives the tensor's bytes.
pub fn are_worth_a_frame(tensor: &TensorLocation, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<bool> {
    if !are_levels(tensor) || tensor.bytes > RAW_BYTES_MAX {
        return Ok(true);
    }
    if tensor.bytes < FRAMED_BYTES_MIN {
        return Ok(false);
    }
    let bytes = read()?;
    let levels_bytes = FRAME_BYTES + Fit::of(tensor, &mut bytes.clone()).bytes();
    // The estimate is never above the entropy: it could not change this.
    if levels_bytes >= SMALL_DOUBT * SHARED_PART * entropy_bytes(&bytes) {
        return Ok(false);
    }
    let ratio = levels_bytes / (SHARED_PART * estimated_bytes(&bytes));
    let in_doubt = (SMALL_DOUBT.recip()..SMALL_DOUBT).contains(&ratio);
    Ok(if in_doubt { levels_bytes < SHARED_PART * encode_plane(&bytes).len() as f64 } else { ratio < 1.0 })
}

fn encode_levels(fit: Fit, mut bytes: Vec<u8>, first_class: usize, tables: &[Table]) -> Result<CodedFrame> {
    let tables: Vec<EncoderTable> = tables.iter().map(EncoderTable::new).collect();
    let plan = LevelPlan {
        matrix: fit.matrix,
        scale: None,
        zero_point: fit.zero_point,
        low_bits: 0,
        column_major: false,
        dct: false,
        trellis: false,
        sparsity: 0,
        classes: Classes { base: 0, row: fit.rows, column: fit.columns, tap: Vec::new() },
        exponents: Default::default(),
        row_permutation: None,
        column_permutation: None,
        prediction: None,
        lanes: LANES,
        pruning: None,
    };
    bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_sub(fit.zero_point as u8));
    plan.encode(&Indices::of_bytes(bytes), first_class, &tables)
}
