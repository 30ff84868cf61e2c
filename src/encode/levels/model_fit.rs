//! Statistics -> entropy models: variance classes of rows, columns and taps, and the tables that serve them.

use crate::encode::exact::tables::{normalize, trimmed};
use crate::encode::levels::indices::Indices;
use crate::encode::levels::matrix::Matrix;
use crate::encode::portable::{erf, exp2, log2};
use crate::entropy::Table;
use crate::error::Result;
use crate::format::TOTAL;
use crate::stages::trellis;
use crate::tensor::SIDE_ENTRIES;

/// Classes in an octave of standard deviation. Four instead of two save 0.1 % of the bits, cost small models as much in
/// tables, and slow a decoder by a tenth, because twice the tables compete for its first cache.
pub const CLASSES_PER_OCTAVE: f32 = 2.0;
/// Class of a standard deviation of one level; class 0 is four octaves below.
pub const UNIT_CLASS: i32 = 8;
/// Number of classes: four octaves below one level, five above.
pub const CLASS_COUNT: usize = 19;

/// What an escape costs, in bits: position, value, and the symbol coded in its place.
const ESCAPE_BITS: f64 = 36.0;
/// Weight of the Gaussian that stands in where a class was seen too rarely to be counted on.
const PRIOR_COUNT: f64 = 8.0;

/// Separable model of the standard deviation: `log2 σ(r, c, t) = mean + row[r] + column[c] + tap[t]`.
///
/// A factor that would cost more to send than it saves is empty.
#[derive(Debug, Clone, Default)]
pub struct VarianceModel {
    /// log2 of the typical standard deviation, in units of weights.
    pub mean: f32,
    /// Deviation of each row, in octaves.
    pub row: Vec<f32>,
    /// Deviation of each column.
    pub column: Vec<f32>,
    /// Deviation of each kernel tap.
    pub tap: Vec<f32>,
}

/// Most rows, columns or taps that are told apart, so that readers accept their classes and exponents.
pub const TOLD_MAX: usize = SIDE_ENTRIES as usize / 3;

/// Fewest weights that tell a row, column or tap apart: few differ by chance.
pub const TOLD_BY_MIN: usize = 8;

/// What a class costs to send, in bits.
const CLASS_BITS: f32 = 3.0;
/// What an array of classes costs beside its entries.
const ARRAY_BITS: f32 = 160.0;
const OCTAVES_MAX: f32 = 12.0;

impl VarianceModel {
    /// Fits the factors by alternating averages of squares.
    pub fn fit(weights: &[f32], matrix: Matrix) -> Self {
        let mut factors = [vec![1.0f64; matrix.rows], vec![1.0; matrix.columns], vec![1.0; matrix.taps]];
        for _ in 0..3 {
            for which in 0..3 {
                factors[which] = mean_squares(weights, matrix, &factors, which);
            }
        }
        let mean_square = factors[2].iter().sum::<f64>() / factors[2].len().max(1) as f64;
        let mut model = VarianceModel::default();
        let len = weights.len() as f32;
        let mut total = 0.0;
        for (which, slot) in [&mut model.row, &mut model.column, &mut model.tap].into_iter().enumerate() {
            let octaves = half_log2(&factors[which]);
            let mean = octaves.iter().sum::<f32>() / octaves.len() as f32;
            let average_power = factors[which].iter().sum::<f64>() / factors[which].len() as f64;
            let power_octaves = 0.5 * log2(average_power.max(f64::MIN_POSITIVE)) as f32;
            let gain_bits = (power_octaves - mean) * len;
            let can_be_told = (2..=TOLD_MAX.min(weights.len() / TOLD_BY_MIN)).contains(&octaves.len());
            let pays = can_be_told && gain_bits > CLASS_BITS * octaves.len() as f32 + ARRAY_BITS;
            total += if pays { mean } else { power_octaves };
            *slot = if pays { octaves.iter().map(|octave| octave - mean).collect() } else { Vec::new() };
        }
        model.mean = if mean_square > 0.0 { total } else { -100.0 };
        model
    }

    /// Fits levels.
    ///
    /// # Errors
    /// `Io` if they cannot be read.
    pub fn of_levels(levels: &Indices, matrix: Matrix) -> Result<Self> {
        Ok(VarianceModel::fit(&levels.to_floats()?, matrix))
    }

    /// Classes under a step between levels of `scale · 2^low_bits`.
    pub fn classes(&self, scale: f32, low_bits: u32) -> Classes {
        let class = |octaves: f32| (CLASSES_PER_OCTAVE * octaves).round().clamp(-127.0, 127.0) as i8;
        let base = self.mean - log2(scale) - low_bits as f32 + UNIT_CLASS as f32 / CLASSES_PER_OCTAVE;
        Classes {
            base: class(base).into(),
            row: self.row.iter().map(|octaves| class(base + octaves)).collect(),
            column: self.column.iter().map(|&octaves| class(octaves)).collect(),
            tap: self.tap.iter().map(|&octaves| class(octaves)).collect(),
        }
    }
}

/// Mean of the squares along one factor, with the other two divided out.
fn mean_squares(weights: &[f32], matrix: Matrix, factors: &[Vec<f64>; 3], which: usize) -> Vec<f64> {
    let floor = |factor: f64| factor.max(1e-30);
    let inverse_column: Vec<f64> = (0..matrix.row_len())
        .map(|j| {
            let (column, tap) = (j / matrix.taps, j % matrix.taps);
            let others = match which {
                0 => floor(factors[1][column]) * floor(factors[2][tap]),
                1 => floor(factors[2][tap]),
                _ => floor(factors[1][column]),
            };
            others.recip()
        })
        .collect();
    let mut sums = vec![0.0; factors[which].len()];
    for (row, weights) in weights.chunks_exact(matrix.row_len().max(1)).enumerate() {
        let inverse_row = if which == 0 { 1.0 } else { floor(factors[0][row]).recip() };
        for (j, (&weight, inverse)) in weights.iter().zip(&inverse_column).enumerate() {
            let index = match which {
                0 => row,
                1 => j / matrix.taps,
                _ => j % matrix.taps,
            };
            sums[index] += f64::from(weight) * f64::from(weight) * inverse * inverse_row;
        }
    }
    let per_entry = weights.len() as f64 / sums.len().max(1) as f64;
    sums.iter().map(|sum| sum / per_entry).collect()
}

fn half_log2(squares: &[f64]) -> Vec<f32> {
    let largest = squares.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let octave = |&square: &f64| {
        let relative = (square / largest).max(f64::MIN_POSITIVE);
        (0.5 * log2(relative) as f32).max(-OCTAVES_MAX) + 0.5 * log2(largest) as f32
    };
    squares.iter().map(octave).collect()
}

/// Variance classes of one frame. An empty array means that all its entries are zero (for rows: `base`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Classes {
    /// Class of every row, if `row` is empty.
    pub base: i32,
    /// Class of each row.
    pub row: Vec<i8>,
    /// Added for each column.
    pub column: Vec<i8>,
    /// Added for each tap.
    pub tap: Vec<i8>,
}

impl Classes {
    /// Class of row `row` alone.
    pub fn row_class(&self, row: usize) -> i8 {
        self.row.get(row).copied().unwrap_or(self.base.clamp(-128, 127) as i8)
    }

    /// What matrix column `col` adds.
    pub fn col_class(&self, col: usize, taps: usize) -> i8 {
        let at = |array: &[i8], index: usize| array.get(index).map_or(0, |&class| i32::from(class));
        (at(&self.column, col / taps) + at(&self.tap, col % taps)).clamp(-128, 127) as i8
    }
}

/// Tables of neighbouring classes: all of quantizer 0, then, under the trellis, all of quantizer 1.
#[derive(Debug, Clone, Default)]
pub struct TableSet {
    /// Class of the first table of each quantizer.
    pub first_class: usize,
    /// The tables.
    pub tables: Vec<Table>,
    /// 1, or 2 under the trellis.
    pub quantizers: usize,
}

impl TableSet {
    fn class_count(&self) -> usize {
        self.tables.len() / self.quantizers.max(1)
    }

    /// The table of a class, or of the nearest that has one.
    pub fn table(&self, quantizer: usize, class: usize) -> &Table {
        let last = self.class_count() - 1;
        &self.tables[quantizer * self.class_count() + class.saturating_sub(self.first_class).min(last)]
    }
}

/// How often each symbol occurred under each quantizer and class.
#[derive(Clone)]
pub struct SymbolCounts {
    counts: Vec<[u64; 256]>,
    quantizers: usize,
}

impl SymbolCounts {
    /// No symbols of one quantizer, or of the two of the trellis.
    pub fn new(quantizers: usize) -> Self {
        SymbolCounts { counts: vec![[0; 256]; quantizers * CLASS_COUNT], quantizers }
    }

    /// Counts one symbol; those outside i8 are escapes and counted as the nearest.
    pub fn add(&mut self, quantizer: usize, class: usize, symbol: i32) {
        self.counts[quantizer * CLASS_COUNT + class][(symbol.clamp(-128, 127) + 128) as usize] += 1;
    }

    /// Adds the counts of another part.
    pub fn add_all(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().flatten().zip(other.counts.iter().flatten()) {
            *mine += theirs;
        }
    }

    /// Number of symbols.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// How many of them are zero.
    pub fn zeros(&self) -> u64 {
        self.counts.iter().map(|counts| counts[128]).sum()
    }

    /// Tables for the classes from the first to the last that occur; for all classes if none does.
    pub fn tables(&self) -> TableSet {
        let used = |class: &usize| {
            let mut quantizers = self.counts.chunks(CLASS_COUNT);
            quantizers.any(|counts| counts[*class].iter().any(|&count| count > 0))
        };
        let first_class = (0..CLASS_COUNT).find(used).unwrap_or(0);
        let last = (0..CLASS_COUNT).rfind(used).unwrap_or(CLASS_COUNT - 1);
        let of_quantizer = |(quantizer, counts): (usize, &[[u64; 256]])| {
            let kind = if self.quantizers == 1 { Cells::Uniform } else { Cells::Trellis(quantizer as u8) };
            (first_class..=last).map(|class| level_table(&counts[class], class, kind)).collect::<Vec<_>>()
        };
        let tables = self.counts.chunks(CLASS_COUNT).enumerate().flat_map(of_quantizer).collect();
        TableSet { first_class, tables, quantizers: self.quantizers }
    }

    /// As many of every symbol from the smallest to the largest that occurs, in every class that occurs.
    pub fn equal(&self) -> Self {
        let occurs = |symbol: &usize| self.counts.iter().any(|counts| counts[*symbol] > 0);
        let range = (0..256).find(occurs).unwrap_or(0)..(0..256).rfind(occurs).map_or(0, |last| last + 1);
        let mut equal = SymbolCounts::new(self.quantizers);
        for (counts, equal) in self.counts.iter().zip(&mut equal.counts) {
            if counts.iter().any(|&count| count > 0) {
                equal[range.clone()].fill(1 << 32);
            }
        }
        equal
    }

    /// Bits that these symbols take, escapes included.
    pub fn cost_bits(&self, costs: &SymbolCosts) -> f64 {
        let cost = |(index, counts): (usize, &[u64; 256])| {
            let (quantizer, class) = (index / CLASS_COUNT, index % CLASS_COUNT);
            let bits = |(symbol, &count): (usize, &u64)| {
                if count == 0 {
                    0.0
                } else {
                    count as f64 * f64::from(costs.bits(quantizer, class, symbol as i32 - 128))
                }
            };
            counts.iter().enumerate().map(bits).sum::<f64>()
        };
        self.counts.iter().enumerate().map(cost).sum()
    }
}

/// Bits of every symbol under every quantizer and class.
pub struct SymbolCosts(Vec<[f32; 256]>);

impl SymbolCosts {
    /// The costs under these tables.
    pub fn new(set: &TableSet) -> Self {
        let costs = |index: usize| {
            let table = set.table(index / CLASS_COUNT, index % CLASS_COUNT);
            let mut bits = [ESCAPE_BITS as f32; 256];
            for (symbol, &frequency) in
                (table.first()..).zip(table.frequencies()).filter(|(_, frequency)| **frequency > 0)
            {
                bits[(symbol + 128) as usize] = log2(TOTAL as f32 / f32::from(frequency));
            }
            bits
        };
        SymbolCosts((0..set.quantizers * CLASS_COUNT).map(costs).collect())
    }

    /// Bits of a symbol, or of an escape if it has none.
    pub fn bits(&self, quantizer: usize, class: usize, symbol: i32) -> f32 {
        let bits =
            usize::try_from(symbol + 128).ok().and_then(|index| self.0[quantizer * CLASS_COUNT + class].get(index));
        bits.copied().unwrap_or(ESCAPE_BITS as f32)
    }
}

/// Which weights a symbol stands for.
#[derive(Clone, Copy)]
enum Cells {
    Uniform,
    Trellis(u8),
}

/// A table for levels of one class. Rare symbols are left to escapes where a slot would cost the others more.
fn level_table(counts: &[u64; 256], class: usize, cells: Cells) -> Table {
    let sigma = exp2((class as f64 - f64::from(UNIT_CLASS)) / f64::from(CLASSES_PER_OCTAVE));
    let total: u64 = counts.iter().sum();
    let slot_bits = total as f64 / f64::from(TOTAL) * std::f64::consts::LOG2_E;
    let keep_from = slot_bits / (ESCAPE_BITS - 12.0);
    let weighted: Vec<f64> = (0..256)
        .map(|index| {
            let count = if counts[index] as f64 > keep_from { counts[index] as f64 } else { 0.0 };
            count + PRIOR_COUNT * gaussian_mass(index as i32 - 128, sigma, cells)
        })
        .collect();
    let sum: f64 = weighted.iter().sum();
    // Under the trellis both parities must stay possible, for the symbols that stand in for escapes.
    let always = |index: usize| matches!(cells, Cells::Trellis(_)) && (127..=129).contains(&index);
    let frequencies = normalize(&weighted, |index, weight| always(index) || weight / sum * f64::from(TOTAL) > 0.3);
    trimmed(-128, frequencies)
}

/// Probability that a Gaussian of this deviation, in steps, takes `symbol`.
fn gaussian_mass(symbol: i32, sigma: f64, cells: Cells) -> f64 {
    let center = match cells {
        Cells::Uniform => f64::from(symbol),
        Cells::Trellis(quantizer) => f64::from(trellis::level(symbol, quantizer)) / 2.0,
    };
    let cdf = |x: f64| 0.5 * (1.0 + erf(x / (sigma * std::f64::consts::SQRT_2)));
    (cdf(center + 0.5) - cdf(center - 0.5)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    #[test]
    fn every_class_has_a_table_even_without_counts() {
        for class in 0..CLASS_COUNT {
            for cells in [Cells::Uniform, Cells::Trellis(0), Cells::Trellis(1)] {
                assert!(level_table(&[0; 256], class, cells).is_possible(0));
            }
        }
    }

    #[test]
    fn finds_separable_variances() {
        let matrix = Matrix { rows: 64, columns: 32, taps: 9 };
        let sigma = |r: usize, c: usize, t: usize| ((r % 4) as f32 + (c % 3) as f32 - 2.0 * (t % 2) as f32).exp2();
        let mut noise = Noise(3);
        let len = matrix.rows * matrix.row_len();
        let weights: Vec<f32> = (0..len).map(|i| noise.normal() * sigma(i / 288, i % 288 / 9, i % 9)).collect();
        let model = VarianceModel::fit(&weights, matrix);
        for (r, c, t) in [(0, 0, 0), (3, 2, 0), (5, 1, 1), (63, 31, 8)] {
            let fitted = model.mean + model.row[r] + model.column[c] + model.tap[t];
            assert!((fitted - sigma(r, c, t).log2()).abs() < 0.15, "{r} {c} {t}: {fitted}");
        }
    }

    #[test]
    fn tells_no_more_rows_apart_than_readers_accept_and_none_of_few_weights() {
        let told = |rows: usize, columns: usize| {
            let weight = |at: usize| if (at / columns).is_multiple_of(2) { 1.0 } else { 0.001 };
            let weights: Vec<f32> = (0..rows * columns).map(weight).collect();
            VarianceModel::fit(&weights, Matrix { rows, columns, taps: 1 }).row.len()
        };
        assert_eq!(told(4096, TOLD_BY_MIN), 4096);
        assert_eq!(told(4096, TOLD_BY_MIN - 1), 0);
        assert_eq!(told(TOLD_MAX + 1, TOLD_BY_MIN), 0);
    }

    #[test]
    fn sends_no_classes_for_even_noise() {
        let mut noise = Noise(2);
        let weights: Vec<f32> = (0..4096).map(|_| noise.normal()).collect();
        let model = VarianceModel::fit(&weights, Matrix { rows: 64, columns: 64, taps: 1 });
        assert!(model.row.is_empty() && model.column.is_empty());
    }
}
