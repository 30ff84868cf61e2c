//! Weights of which few of every four neighbours are left, as 2:4 pruning leaves them.
//!
//! Every four are a row of the matrix. Tables of weights and tables of zeros follow one another in such an order that every pattern of
//! four begins somewhere: the class of a row says where. So patterns take their entropy, and zeros nothing on top.

use crate::encode::levels::indices::Indices;
use crate::encode::levels::matrix::Matrix;
use crate::encode::levels::model_fit::{CLASS_COUNT, Classes, SymbolCounts, TOLD_MAX, TableSet, VarianceModel};
use crate::encode::portable::log2;
use crate::error::Result;
use crate::format::CHUNK_BYTES_MAX;

/// Neighbours that are pruned together.
const LEN: usize = 4;
const PATTERNS: usize = 1 << LEN;
/// The class of what was pruned.
const PRUNED: usize = 0;
/// The class of a row without weights: none of its places reaches the first table of weights.
const EMPTY_ROW: i8 = 1 - LEN as i8;

/// How the weights of quartets are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pruning {
    /// Most weights that are left of four: 1 to 3.
    pub kept: usize,
    /// Class of all weights that are left.
    pub class: usize,
}

/// An order of tables, the first of them in the lowest bit: ones are tables of weights.
struct Order {
    weights: u32,
    len: usize,
}

/// Of one, two and three weights of four: all patterns of as many begin somewhere.
const ORDERS: [Order; LEN - 1] = [
    Order { weights: 0b000_1000, len: 7 },
    Order { weights: 0b01_0100_1100, len: 10 },
    Order { weights: 0b110_1110, len: 7 },
];

impl Order {
    fn of(kept: usize) -> &'static Self {
        &ORDERS[kept - 1]
    }

    /// Whether a table is of weights.
    fn is_of_weights(&self, table: usize) -> bool {
        self.weights >> table & 1 == 1
    }

    /// Where the pattern begins, with tables of weights where it has some, and as few others as can be.
    fn begin(&self, pattern: usize) -> i8 {
        if pattern == 0 {
            return EMPTY_ROW;
        }
        let tables = |begin: &usize| self.weights as usize >> begin & (PATTERNS - 1);
        let fitting = (0..=self.len - LEN).filter(|begin| pattern & !tables(begin) == 0);
        fitting.min_by_key(|begin| tables(begin).count_ones()).map_or(0, |begin| begin as i8)
    }
}

/// A matrix as rows of four, if none of them lies in two of its rows.
pub fn rows_of_four(matrix: Matrix) -> Option<Matrix> {
    let rows = Matrix { rows: matrix.len() / LEN, columns: LEN, taps: 1 };
    matrix.row_len().is_multiple_of(LEN).then_some(rows)
}

/// Which of four are not zero, the first in the lowest bit.
fn pattern<T: PartialEq + Default>(four: &[T]) -> usize {
    four.iter().rev().fold(0, |pattern, weight| pattern << 1 | usize::from(*weight != T::default()))
}

/// A tensor of quartets, as far as it does not depend on the step.
#[derive(Debug, Clone)]
pub struct Quartets {
    /// Bits of all patterns.
    bits: f64,
    kept: usize,
    /// The part of the weights that is left.
    density: f64,
    rows: usize,
    /// log2 of the root of the mean square of the weights that are left.
    octaves: f64,
}

impl Quartets {
    /// Those of a tensor, if telling their patterns saves more than telling apart the variances of rows, columns and taps.
    pub fn of(weights: &[f32], matrix: Matrix) -> Option<Self> {
        let Matrix { rows, .. } = rows_of_four(matrix)?;
        if !(ROWS_MIN..=ROWS_MAX).contains(&rows) {
            return None;
        }
        let mut patterns = [0u64; PATTERNS];
        weights.chunks(LEN).for_each(|four| patterns[pattern(four)] += 1);
        let used = || patterns.into_iter().enumerate().filter(|&(_, count)| count > 0);
        let kept = used().map(|(pattern, _)| pattern.count_ones() as usize).max()?;
        if !(1..LEN).contains(&kept) {
            return None;
        }
        let mut begins = [0u64; PATTERNS];
        used().for_each(|(pattern, count)| begins[(Order::of(kept).begin(pattern) - EMPTY_ROW) as usize] += count);
        let left: u64 = used().map(|(pattern, count)| u64::from(pattern.count_ones()) * count).sum();
        let (bits, len) = (entropy_bits(&begins), weights.len() as f64);
        let saved = entropy_bits(&[left, weights.len() as u64 - left]) - bits;
        if saved < SAVED_MIN * len || bits > 8.0 * SIDE_PART * f64::from(CHUNK_BYTES_MAX) {
            return None;
        }
        let square: f64 = weights.iter().map(|&weight| f64::from(weight) * f64::from(weight)).sum();
        let of_variances = 0.5 * log2(square / len) - f64::from(VarianceModel::fit(weights, matrix).mean);
        let octaves = 0.5 * log2(square / left as f64);
        let is_worth = saved - left as f64 * of_variances > SAVED_MIN * len;
        is_worth.then_some(Quartets { bits, kept, density: left as f64 / len, rows, octaves })
    }

    /// The tensor as rows of four.
    pub fn matrix(&self) -> Matrix {
        Matrix { rows: self.rows, columns: LEN, taps: 1 }
    }

    /// What bits for each weight leave for each that is left.
    pub fn bits_left(&self, bits: f64) -> f64 {
        (bits - self.bits / (LEN * self.rows) as f64) / self.density
    }

    /// Bits of the patterns of its levels, of which these are like all: where few are not zero, less than those of its weights.
    pub fn bits(&self, counts: &SymbolCounts) -> f64 {
        let zeros = counts.zeros();
        let apart = entropy_bits(&[zeros, counts.total() - zeros]) * (LEN * self.rows) as f64;
        self.bits.min(apart / counts.total().max(1) as f64)
    }

    /// All weights that are left as of one variance.
    pub fn variances(&self) -> VarianceModel {
        VarianceModel { mean: self.octaves as f32, ..VarianceModel::default() }
    }

    /// How they are coded with classes of that variance.
    pub fn pruning(&self, classes: &Classes) -> Pruning {
        let class = usize::try_from(classes.base).unwrap_or(0).clamp(PRUNED + 1, CLASS_COUNT - 1);
        Pruning { kept: self.kept, class }
    }
}

/// Fewer rows do not save what the tables take.
const ROWS_MIN: usize = 1 << 13;
/// With more, readers refuse the side arrays of a frame.
const ROWS_MAX: usize = 2 * TOLD_MAX;
/// What must be saved, in bits for each weight: rows of four have fewer lanes, and take twice the time to decode.
const SAVED_MIN: f64 = 0.1;
/// The part of the largest chunk that patterns may fill.
const SIDE_PART: f64 = 0.9;

fn entropy_bits(counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let bits = |&count: &u64| if count == 0 { 0.0 } else { count as f64 * log2(total / count as f64) };
    counts.iter().map(bits).sum()
}

impl Pruning {
    /// Class of a weight.
    pub fn class_of(&self, weight: f32) -> usize {
        if weight == 0.0 { PRUNED } else { self.class }
    }

    /// Tables in the order that rows refer to.
    pub fn tables(&self, counts: &SymbolCounts) -> TableSet {
        let (order, set) = (Order::of(self.kept), counts.tables());
        let class = |table: usize| if order.is_of_weights(table) { self.class } else { PRUNED };
        let of_quantizer = |quantizer| (0..order.len).map(move |table| (quantizer, class(table)));
        let tables = (0..set.quantizers).flat_map(of_quantizer).map(|(quantizer, class)| set.table(quantizer, class));
        TableSet { first_class: 0, tables: tables.cloned().collect(), quantizers: set.quantizers }
    }

    /// The classes that rows and columns store. Levels tell the patterns.
    ///
    /// # Errors
    /// `Io` if they cannot be read.
    pub fn stored_classes(&self, levels: &Indices) -> Result<Classes> {
        let order = Order::of(self.kept);
        let rows = |_, levels: &[i32]| levels.chunks(LEN).map(|four| order.begin(pattern(four))).collect::<Vec<_>>();
        let row = levels.for_each_piece(rows)?.concat();
        Ok(Classes { row, column: (0..LEN as i8).collect(), ..Classes::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    #[test]
    fn every_pattern_begins_where_its_weights_have_tables_of_weights() {
        for kept in 1..LEN {
            let order = Order::of(kept);
            for pattern in (0..PATTERNS).filter(|pattern| pattern.count_ones() as usize <= kept) {
                let table = |place: usize| (order.begin(pattern) + place as i8).clamp(0, order.len as i8 - 1) as usize;
                let is_of_weights = |place: usize| order.is_of_weights(table(place));
                let of_weights = (0..LEN).filter(|&place| is_of_weights(place)).count();
                assert!(
                    (0..LEN).all(|place| pattern >> place & 1 == 0 || is_of_weights(place)),
                    "{kept} {pattern:04b}"
                );
                let full = pattern == 0 || pattern.count_ones() as usize == kept;
                assert!(!full || of_weights == pattern.count_ones() as usize, "{kept} {pattern:04b}");
            }
        }
    }

    /// Noise of which `kept` of four weights are left.
    fn pruned(len: usize, kept: usize) -> Vec<f32> {
        let mut noise = Noise(kept as u64);
        let four = |_| {
            let first = noise.next() as usize % LEN;
            std::array::from_fn::<_, LEN, _>(|place| if (place + first) % LEN < kept { noise.normal() } else { 0.0 })
        };
        (0..len / LEN).flat_map(four).collect()
    }

    #[test]
    fn quartets_are_told_from_other_zeros() {
        let matrix = Matrix { rows: 256, columns: 256, taps: 1 };
        let found = |weights: &[f32], matrix| Quartets::of(weights, matrix).map(|quartets| quartets.kept);
        for kept in 1..LEN {
            assert_eq!(found(&pruned(matrix.len(), kept), matrix), Some(kept));
        }
        assert_eq!(found(&pruned(matrix.len(), LEN), matrix), None);
        let odd = Matrix { rows: 256, columns: 255, taps: 1 };
        assert_eq!(found(&pruned(matrix.len(), 2)[..odd.len()], odd), None);
        let mut noise = Noise(7);
        let scattered: Vec<f32> =
            (0..matrix.len()).map(|_| if noise.next().is_multiple_of(64) { noise.normal() } else { 0.0 }).collect();
        assert_eq!(found(&scattered, matrix), None);
        let mut uneven = pruned(matrix.len(), 2);
        uneven.chunks_mut(256).skip(1).step_by(2).flatten().for_each(|weight| *weight *= 1e-3);
        assert_eq!(found(&uneven, matrix), None);
    }
}
