//! Tensors of 8-bit integers -> frames of levels that are the integers themselves, if that is smaller than planes.
//!
//! Quantized weights are spread unevenly over rows and columns: dead channels, narrow filters. Classes by mean magnitude
//! see that. Most tensors share one set of tables, because small ones could not pay for their own; a large one may have
//! its own set.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::encode::exact::frame::{CodedFrame, KeptFrame};
use crate::encode::exact::planes::encode_plane;
use crate::encode::exact::tables::best_table;
use crate::encode::levels::frame::LevelPlan;
use crate::encode::levels::matrix::Matrix;
use crate::encode::levels::model_fit::Classes;
use crate::encode::progress::map_in_parts;
use crate::encode::scratch::Scratch;
use crate::entropy::{EncoderTable, Table};
use crate::error::Result;
use crate::format::TOTAL;
use crate::tensor::{DType, TensorLocation};

/// Classes in an octave of mean magnitude.
const CLASSES_PER_OCTAVE: f32 = 4.0;
/// Class of a mean magnitude of one.
const MAGNITUDE_CLASS: f32 = 24.0;
const MAGNITUDE_CLASSES: usize = 52;
/// Rounds of choosing tables for classes and classes for rows and columns.
const REFINEMENTS: usize = 2;
/// Classes on either side of its own that a row or a column tries.
const REACH: i8 = 3;
/// What a symbol costs that a table does not know yet.
const UNKNOWN_BITS: f32 = 16.0;
/// What a frame of levels costs beside its payloads and tables and a frame of planes does not.
const FRAME_BYTES: f64 = 24.0;
/// Bits of a coded table for each symbol in its range.
const SYMBOL_BITS: f64 = 2.5;

/// Tensors that are shorter are left to the raw stream.
const FRAMED_BYTES_MIN: u64 = 8192;
/// Tensors that are longer never are.
const RAW_BYTES_MAX: u64 = 1 << 17;

/// What a tensor takes in the raw stream, as a part of what it takes with tables of its own.
const SHARED_PART: f64 = 0.985;

type Counts = Vec<[u64; 256]>;

/// Frames that replace frames of planes, and the tables that they count on from 0.
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

/// Codes all tensors of 8-bit integers among `tensors` (index of the frame, place) that get smaller than their frames of planes.
/// `read` gives a tensor's bytes, twice.
///
/// # Errors
/// The first error of `read`; `Io` if there is no room for payloads.
pub fn encode(
    tensors: &[(usize, &TensorLocation)],
    exact: &HashMap<usize, KeptFrame>,
    scratch: &Scratch,
    read: impl Fn(&TensorLocation) -> Result<Vec<u8>> + Sync,
) -> Result<Integers> {
    let candidates: Vec<_> = (tensors.iter().copied())
        .filter(|(_, tensor)| matches!(tensor.dtype, DType::U8 | DType::I8) && tensor.record.is_empty())
        .collect();
    let elements = |(_, tensor): &(usize, &TensorLocation)| tensor.bytes as usize;
    let fitted = |(frame, tensor)| {
        let planes_bytes = exact.get(&frame).map_or(0.0, |frame| frame.bytes() as f64);
        Ok(Fitted { frame, tensor, planes_bytes, fit: Fit::of(tensor, &read(tensor)?) })
    };
    let mut fits: Vec<Fitted> = map_in_parts(candidates, elements, fitted)?;
    let of_shared = |fits: &[Fitted]| sum(fits.iter().map(|fitted| &fitted.fit).filter(|fit| fit.own.is_none()));
    let mut shared = IntegerTables::default();
    for _ in 0..2 {
        shared = IntegerTables::new(&of_shared(&fits));
        fits.par_iter_mut().for_each(|fitted| fitted.fit.choose(&shared));
        fits.retain(|fitted| fitted.fit.bytes(&shared) < fitted.planes_bytes);
    }
    let mut coded = Integers::default();
    if fits.iter().any(|fitted| fitted.fit.own.is_none()) {
        shared = IntegerTables::new(&of_shared(&fits));
        coded.tables.extend(shared.tables.iter().cloned());
    }
    let len = |fitted: &&Fitted| fitted.tensor.bytes as usize;
    let frames =
        map_in_parts(&fits, len, |Fitted { tensor, fit, .. }| fit.encode(&read(tensor)?, &shared)?.kept(scratch))?;
    for (Fitted { frame: index, fit, .. }, mut frame) in fits.into_iter().zip(frames) {
        if let Some(own) = fit.own {
            if let Some([first, _]) = frame.entry.tables.as_deref_mut() {
                *first = coded.tables.len() as u64;
            }
            coded.tables.extend(own.tables);
        }
        coded.frames.insert(index, frame);
    }
    Ok(coded)
}

/// A tensor that may be coded as levels.
struct Fitted<'a> {
    frame: usize,
    tensor: &'a TensorLocation,
    planes_bytes: f64,
    fit: Fit,
}

/// Whether a tensor is better off with a frame than in the raw stream, where small tensors share tables. Only 8-bit integers may
/// not be: they get one if they are large, or if classes of rows and columns pay.
///
/// # Errors
/// That of `read`, which gives the tensor's bytes.
pub fn are_worth_a_frame(tensor: &TensorLocation, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<bool> {
    let integers = matches!(tensor.dtype, DType::U8 | DType::I8) && tensor.record.is_empty();
    if !integers || tensor.bytes > RAW_BYTES_MAX {
        return Ok(true);
    }
    if tensor.bytes < FRAMED_BYTES_MIN {
        return Ok(false);
    }
    let bytes = read()?;
    let fit = Fit::of(tensor, &bytes);
    let own = IntegerTables::new(&fit.counts);
    let classes_bytes = FRAME_BYTES + fit.payload_bytes(&own) + own.bytes;
    Ok(classes_bytes < SHARED_PART * encode_plane(&bytes).len() as f64)
}

fn sum<'a>(fits: impl Iterator<Item = &'a Fit>) -> Counts {
    fits.map(|fit| &fit.counts).fold(vec![[0; 256]; MAGNITUDE_CLASSES], |mut sum, part| {
        sum.iter_mut().flatten().zip(part.iter().flatten()).for_each(|(sum, count)| *sum += count);
        sum
    })
}

/// Tables of neighbouring classes; neighbours that do not differ enough have the same.
#[derive(Default)]
struct IntegerTables {
    first_class: usize,
    tables: Vec<Table>,
    /// What the tables cost in the header.
    bytes: f64,
}

impl IntegerTables {
    fn new(counts: &Counts) -> Self {
        let used = |counts: &[u64; 256]| counts.iter().any(|&count| count > 0);
        let Some(first_class) = counts.iter().position(used) else { return IntegerTables::default() };
        let last_class = counts.iter().rposition(used).unwrap_or(first_class);
        let mut groups: Vec<Group> =
            counts[first_class..=last_class].iter().map(|&counts| Group::new(1, counts)).collect();
        loop {
            let merged = |index: usize| groups[index].merged(&groups[index + 1]);
            let saving = |index: usize| groups[index].bits + groups[index + 1].bits - merged(index).bits;
            let best = (0..groups.len() - 1).map(|index| (saving(index), index)).max_by(|a, b| a.0.total_cmp(&b.0));
            let Some((_, index)) = best.filter(|(saving, _)| *saving >= 0.0) else { break };
            groups[index] = merged(index);
            groups.remove(index + 1);
        }
        let bytes = groups.iter().map(|group| table_bits(&group.counts)).sum::<f64>() / 8.0;
        let tables = groups.iter().flat_map(|group| std::iter::repeat_n(group.table(), group.classes)).collect();
        IntegerTables { first_class, tables, bytes }
    }

    /// Bits of every symbol in every class.
    fn costs(&self) -> Vec<[f32; 256]> {
        let costs = |class: usize| {
            let mut bits = [UNKNOWN_BITS; 256];
            let index = class.saturating_sub(self.first_class).min(self.tables.len().saturating_sub(1));
            if let Some(table) = self.tables.get(index) {
                for (symbol, &frequency) in (table.first()..).zip(table.frequencies()) {
                    if frequency > 0 {
                        bits[usize::from(symbol as u8)] = (TOTAL as f32 / f32::from(frequency)).log2();
                    }
                }
            }
            bits
        };
        (0..MAGNITUDE_CLASSES).map(costs).collect()
    }
}

/// Neighbouring classes with one table.
struct Group {
    classes: usize,
    counts: [u64; 256],
    /// Of the symbols and the table.
    bits: f64,
}

impl Group {
    fn new(classes: usize, counts: [u64; 256]) -> Self {
        let len: u64 = counts.iter().sum();
        let bits = |&count: &u64| if count == 0 { 0.0 } else { count as f64 * (len as f64 / count as f64).log2() };
        Group { classes, counts, bits: counts.iter().map(bits).sum::<f64>() + table_bits(&counts) }
    }

    fn merged(&self, other: &Group) -> Group {
        let mut counts = self.counts;
        counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
        Group::new(self.classes + other.classes, counts)
    }

    fn table(&self) -> Table {
        let mut counts = [0; 256];
        (0..256).for_each(|index| counts[index] = self.counts[(index + 128) % 256]);
        let kinds = counts.iter().filter(|&&count| count > 0).count();
        if kinds < 2 {
            // A table has two symbols at least.
            counts.iter_mut().for_each(|count| *count *= u64::from(TOTAL));
            [127, 128].into_iter().for_each(|index| counts[index] += 1);
        }
        let shifted = best_table(&counts);
        let table = shifted.map(|table| Table::new(table.first() - 128, table.frequencies().to_vec()));
        table.and_then(Result::ok).unwrap_or_else(|| unreachable!("two symbols occur"))
    }
}

/// What a table costs in the header.
fn table_bits(counts: &[u64; 256]) -> f64 {
    let symbols = (-128i16..128).filter(|&symbol| counts[usize::from(symbol as u8)] > 0);
    let range = symbols.clone().min().zip(symbols.max());
    range.map_or(0.0, |(first, last)| 24.0 + SYMBOL_BITS * f64::from(last - first + 1))
}

/// How a tensor is seen as levels, and the classes of its rows and columns.
struct Fit {
    zero_point: i32,
    matrix: Matrix,
    rows: Vec<i8>,
    columns: Vec<i8>,
    counts: Counts,
    own: Option<IntegerTables>,
}

impl Fit {
    fn of(tensor: &TensorLocation, bytes: &[u8]) -> Self {
        let zero_point = zero_point(bytes, tensor.dtype);
        let levels = levels(bytes, zero_point);
        let fits = matrices(&tensor.shape.0).into_iter().map(|matrix| {
            let mut fit =
                Fit { zero_point, rows: Vec::new(), columns: Vec::new(), counts: Vec::new(), own: None, matrix };
            fit.start(&levels);
            for _ in 0..REFINEMENTS {
                let costs = IntegerTables::new(&fit.counts).costs();
                fit.refine(&levels, &costs);
            }
            let own = IntegerTables::new(&fit.counts);
            let bytes = fit.payload_bytes(&own) + own.bytes;
            (bytes, fit)
        });
        let (_, best) = fits
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .unwrap_or_else(|| unreachable!("every shape is at least one matrix"));
        best
    }

    /// Classes from mean magnitudes, each factor with the other divided out.
    fn start(&mut self, levels: &[i8]) {
        let (rows, columns) = (self.matrix.rows, self.matrix.columns);
        let mut by_row = vec![1.0f32; rows];
        let mut by_column = vec![1.0f32; columns];
        for _ in 0..2 {
            let mut sums = vec![0.0; columns];
            for (levels, row) in levels.chunks_exact(columns).zip(&mut by_row) {
                let scaled = levels.iter().zip(&by_column).map(|(level, column)| magnitude(*level) / column);
                *row = (scaled.sum::<f32>() / columns as f32).max(0.01);
                sums.iter_mut().zip(levels).for_each(|(sum, level)| *sum += magnitude(*level) / *row);
            }
            by_column = sums.into_iter().map(|sum| (sum / rows as f32).max(0.01)).collect();
        }
        self.rows =
            by_row.iter().map(|row| (CLASSES_PER_OCTAVE * row.log2() + MAGNITUDE_CLASS).round() as i8).collect();
        self.columns = by_column.iter().map(|column| (CLASSES_PER_OCTAVE * column.log2()).round() as i8).collect();
        self.count(levels);
    }

    /// The cheapest classes under these costs.
    fn refine(&mut self, levels: &[i8], costs: &[[f32; 256]]) {
        let columns = self.matrix.columns;
        let nearby = |class: i8| (-REACH..=REACH).map(move |by| class.saturating_add(by));
        let mut by_column = vec![[0.0f32; 2 * REACH as usize + 1]; columns];
        for (levels, row) in levels.chunks_exact(columns).zip(&mut self.rows) {
            let bits = |row: &i8| -> f32 {
                let each = levels.iter().zip(&self.columns);
                each.map(|(&level, &column)| costs[class(*row, column)][usize::from(level as u8)]).sum()
            };
            *row = nearby(*row).min_by(|a, b| bits(a).total_cmp(&bits(b))).unwrap_or(*row);
            for ((level, column), sums) in levels.iter().zip(&self.columns).zip(&mut by_column) {
                for (sum, column) in sums.iter_mut().zip(nearby(*column)) {
                    *sum += costs[class(*row, column)][usize::from(*level as u8)];
                }
            }
        }
        for (column, sums) in self.columns.iter_mut().zip(&by_column) {
            let best = nearby(*column).zip(sums).min_by(|a, b| a.1.total_cmp(b.1));
            *column = best.map_or(*column, |(class, _)| class);
        }
        self.count(levels);
    }

    fn count(&mut self, levels: &[i8]) {
        self.counts = vec![[0; 256]; MAGNITUDE_CLASSES];
        for (levels, &row) in levels.chunks_exact(self.matrix.columns).zip(&self.rows) {
            for (&level, &column) in levels.iter().zip(&self.columns) {
                self.counts[class(row, column)][usize::from(level as u8)] += 1;
            }
        }
    }

    /// Its own tables, where they pay for themselves.
    fn choose(&mut self, shared: &IntegerTables) {
        let own = IntegerTables::new(&self.counts);
        self.own = (self.payload_bytes(&own) + own.bytes < self.payload_bytes(shared)).then_some(own);
    }

    fn bytes(&self, shared: &IntegerTables) -> f64 {
        FRAME_BYTES + self.payload_bytes(shared) + self.own.as_ref().map_or(0.0, |own| own.bytes)
    }

    /// Bytes of the chunks with these tables, or its own if it has any.
    fn payload_bytes(&self, tables: &IntegerTables) -> f64 {
        let costs = self.own.as_ref().unwrap_or(tables).costs();
        let pairs = self.counts.iter().flatten().zip(costs.iter().flatten());
        let bits: f64 = pairs.map(|(&count, &bits)| count as f64 * f64::from(bits)).sum();
        let side = [&self.rows, &self.columns].map(|classes| encode_plane(&as_bytes(classes)).len());
        bits / 8.0 + side.iter().sum::<usize>() as f64
    }

    fn encode(&self, bytes: &[u8], shared: &IntegerTables) -> Result<CodedFrame> {
        let set = self.own.as_ref().unwrap_or(shared);
        let tables: Vec<EncoderTable> = set.tables.iter().map(EncoderTable::new).collect();
        let clamped = |&class: &i8| class.clamp(0, MAGNITUDE_CLASSES as i8 - 1);
        let plan = LevelPlan {
            matrix: self.matrix,
            scale: None,
            zero_point: self.zero_point,
            low_bits: 0,
            column_major: false,
            dct: false,
            trellis: false,
            sparsity: 0,
            classes: Classes {
                base: 0,
                row: self.rows.iter().map(clamped).collect(),
                column: self.columns.clone(),
                tap: Vec::new(),
            },
            exponents: Default::default(),
            row_permutation: None,
            column_permutation: None,
            prediction: None,
        };
        let levels: Vec<i32> = levels(bytes, self.zero_point).into_iter().map(i32::from).collect();
        plan.encode(&levels.as_slice().into(), set.first_class, &tables)
    }
}

fn levels(bytes: &[u8], zero_point: i32) -> Vec<i8> {
    bytes.iter().map(|&byte| byte.wrapping_sub(zero_point as u8) as i8).collect()
}

fn class(row: i8, column: i8) -> usize {
    (i32::from(row.clamp(0, MAGNITUDE_CLASSES as i8 - 1)) + i32::from(column)).clamp(0, MAGNITUDE_CLASSES as i32 - 1)
        as usize
}

fn magnitude(level: i8) -> f32 {
    f32::from(level.unsigned_abs())
}

fn as_bytes(classes: &[i8]) -> Vec<u8> {
    classes.iter().map(|&class| class as u8).collect()
}

/// The median: where weights of zero are, most likely.
fn zero_point(bytes: &[u8], dtype: DType) -> i32 {
    let value = |byte: u8| if dtype == DType::I8 { i32::from(byte as i8) } else { i32::from(byte) };
    let mut values: Vec<i32> = bytes.iter().map(|&byte| value(byte)).collect();
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

/// The ways to cut a shape into rows and columns.
fn matrices(shape: &[u64]) -> Vec<Matrix> {
    let extents: Vec<usize> = shape.iter().map(|&extent| extent as usize).collect();
    let cut =
        |at: usize| Matrix { rows: extents[..at].iter().product(), columns: extents[at..].iter().product(), taps: 1 };
    let mut matrices: Vec<Matrix> = (0..extents.len().max(1)).map(cut).collect();
    matrices.dedup();
    matrices
}
