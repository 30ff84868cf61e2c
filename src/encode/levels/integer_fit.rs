//! 8-bit integers of one tensor -> how they are cut into rows and columns, and the classes of these.

use crate::encode::exact::planes::{encode_plane, entropy_bytes};
use crate::encode::levels::integer_tables::{CLASSES, Counts, IntegerTables};
use crate::encode::levels::matrix::Matrix;
use crate::encode::portable::log2;
use crate::tensor::{DType, TensorLocation};

/// Classes in an octave of mean magnitude.
const CLASSES_PER_OCTAVE: f32 = 4.0;
/// Class of a mean magnitude of one.
const MAGNITUDE_CLASS: f32 = 24.0;
/// No column adds more, or less.
const COLUMN_CLASS_MAX: i8 = 60;
/// Rounds of choosing tables for classes and classes for rows and columns.
const REFINEMENTS: usize = 2;
/// Fewest elements that share a class.
const SHARED_BY_MIN: usize = 8;

/// How a tensor is seen as levels, and the classes of its rows and columns.
pub struct Fit {
    /// What the decoder adds to levels.
    pub zero_point: i32,
    /// Its rows and columns.
    pub matrix: Matrix,
    /// Class of each row.
    pub rows: Vec<i8>,
    /// What each column adds to it.
    pub columns: Vec<i8>,
    /// How often each level occurs in each class.
    pub counts: Counts,
    /// Tables for this tensor alone.
    pub tables: IntegerTables,
    /// Bytes of the classes.
    pub side_bytes: f64,
}

impl Fit {
    /// The classes that cost the fewest bytes. Bytes become levels where they are.
    pub fn of(tensor: &TensorLocation, bytes: &mut [u8]) -> Self {
        let zero_point = zero_point(bytes, tensor.dtype);
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_sub(zero_point as u8));
        let levels: &[i8] = bytemuck::cast_slice(bytes);
        let fits = matrices(&tensor.shape.0).into_iter().map(|matrix| {
            let fit = Fit::start(matrix, zero_point, levels);
            let fit = (0..REFINEMENTS).fold(fit, |fit, _| fit.refined(levels));
            (fit.bytes(), fit)
        });
        let best = fits.min_by(|(a, _), (b, _)| a.total_cmp(b));
        let (_, fit) = best.unwrap_or_else(|| unreachable!("every shape is at least one matrix"));
        Fit { side_bytes: fit.side_bytes(|classes| encode_plane(classes).len() as f64), ..fit }
    }

    /// Bytes of payloads and tables, if no other tensor uses these.
    pub fn bytes(&self) -> f64 {
        self.payload_bytes(&self.tables) + self.tables.header_bytes()
    }

    /// Bytes of payloads under these tables.
    pub fn payload_bytes(&self, tables: &IntegerTables) -> f64 {
        tables.bytes(&self.counts) + self.side_bytes
    }

    /// Classes from mean magnitudes, each factor with the other divided out.
    fn start(matrix: Matrix, zero_point: i32, levels: &[i8]) -> Self {
        let mut by_row = vec![1.0f32; matrix.rows];
        let mut by_column = vec![1.0f32; matrix.columns];
        for _ in 0..2 {
            let inverse: Vec<f32> = by_column.iter().map(|column| column.recip()).collect();
            let mut sums = vec![0.0; matrix.columns];
            for (levels, row) in levels.chunks_exact(matrix.columns).zip(&mut by_row) {
                let scaled = levels.iter().zip(&inverse).map(|(level, inverse)| magnitude(*level) * inverse);
                *row = (scaled.sum::<f32>() / matrix.columns as f32).max(0.01);
                let inverse = row.recip();
                sums.iter_mut().zip(levels).for_each(|(sum, level)| *sum += magnitude(*level) * inverse);
            }
            if has_column_classes(matrix) {
                by_column = sums.into_iter().map(|sum| (sum / matrix.rows as f32).max(0.01)).collect();
            }
        }
        if !has_row_classes(matrix) {
            let mean = by_row.iter().sum::<f32>() / matrix.rows as f32;
            by_row.fill(mean);
        }
        let octaves = |mean: &f32| CLASSES_PER_OCTAVE * log2(*mean);
        let row = |mean: &f32| (octaves(mean) + MAGNITUDE_CLASS).round().clamp(0.0, (CLASSES - 1) as f32) as i8;
        let column_max = f32::from(COLUMN_CLASS_MAX);
        let column = |mean: &f32| octaves(mean).round().clamp(-column_max, column_max) as i8;
        let (rows, columns) = (by_row.iter().map(row).collect(), by_column.iter().map(column).collect());
        Fit::new(matrix, zero_point, rows, columns, levels)
    }

    fn new(matrix: Matrix, zero_point: i32, rows: Vec<i8>, columns: Vec<i8>, levels: &[i8]) -> Self {
        let mut counts = vec![[0; 256]; CLASSES];
        for (levels, &row) in levels.chunks_exact(matrix.columns).zip(&rows) {
            for (&level, &column) in levels.iter().zip(&columns) {
                counts[class(row, column)][usize::from(level as u8)] += 1;
            }
        }
        let counts = Counts::new(counts);
        let tables = IntegerTables::new(&counts);
        let mut fit = Fit { zero_point, matrix, rows, columns, counts, tables, side_bytes: 0.0 };
        fit.side_bytes = fit.side_bytes(entropy_bytes);
        fit
    }

    fn side_bytes(&self, bytes: impl Fn(&[u8]) -> f64) -> f64 {
        [&self.rows, &self.columns].map(|classes| bytes(bytemuck::cast_slice(classes))).iter().sum()
    }

    /// With the cheapest classes under these tables.
    fn refined(self, levels: &[i8]) -> Self {
        let costs = NearbyCosts::new(&self.tables.costs());
        let Fit { zero_point, matrix, mut rows, mut columns, .. } = self;
        if has_row_classes(matrix) {
            for (levels, row) in levels.chunks_exact(matrix.columns).zip(&mut rows) {
                let mut sums = [0.0; NEARBY];
                for (&level, &column) in levels.iter().zip(&columns) {
                    add(&mut sums, costs.of(level, *row, column));
                }
                *row = cheapest(*row, &sums, 0..=CLASSES as i8 - 1);
            }
        }
        if has_column_classes(matrix) {
            for (index, columns) in columns.chunks_mut(COLUMNS_AT_ONCE).enumerate() {
                let first = index * COLUMNS_AT_ONCE;
                let mut sums = vec![[0.0; NEARBY]; columns.len()];
                for (levels, &row) in levels.chunks_exact(matrix.columns).zip(&rows) {
                    for ((&level, &column), sums) in levels[first..].iter().zip(&*columns).zip(&mut sums) {
                        add(sums, costs.of(level, row, column));
                    }
                }
                for (column, sums) in columns.iter_mut().zip(&sums) {
                    *column = cheapest(*column, sums, -COLUMN_CLASS_MAX..=COLUMN_CLASS_MAX);
                }
            }
        }
        Fit::new(matrix, zero_point, rows, columns, levels)
    }
}

/// Classes that a row or a column tries: from so many below its own on.
const NEARBY: usize = 8;
const BELOW: i8 = 4;
/// Columns whose sums are in memory at once.
const COLUMNS_AT_ONCE: usize = 1 << 12;

/// Bits of each level in neighbouring classes, side by side: a row tries all of them at once.
struct NearbyCosts(Vec<[f32; NearbyCosts::WIDTH]>);

impl NearbyCosts {
    /// The sum of two classes below which, with all that are tried, the class is the first; and above which it is the last.
    const MIN: i32 = BELOW as i32 - NEARBY as i32 + 1;
    const MAX: i32 = CLASSES as i32 - 1 + BELOW as i32;
    const WIDTH: usize = (Self::MAX - Self::MIN) as usize + NEARBY;

    fn new(costs: &[[f32; 256]]) -> Self {
        let class = |index: usize| (index as i32 + Self::MIN - i32::from(BELOW)).clamp(0, CLASSES as i32 - 1) as usize;
        let of_level = |level: usize| std::array::from_fn(|index| costs[class(index)][level]);
        NearbyCosts((0..256).map(of_level).collect())
    }

    fn of(&self, level: i8, row: i8, column: i8) -> &[f32; NEARBY] {
        let sum = (i32::from(row) + i32::from(column)).clamp(Self::MIN, Self::MAX);
        let first = (sum - Self::MIN) as usize;
        self.0[usize::from(level as u8)][first..].first_chunk().unwrap_or_else(|| unreachable!("sums are clamped"))
    }
}

fn add(sums: &mut [f32; NEARBY], costs: &[f32; NEARBY]) {
    sums.iter_mut().zip(costs).for_each(|(sum, cost)| *sum += cost);
}

/// The class near `class`, of those that are allowed, that costs least.
fn cheapest(class: i8, sums: &[f32; NEARBY], allowed: std::ops::RangeInclusive<i8>) -> i8 {
    let classes = (class - BELOW..).zip(sums).filter(|(class, _)| allowed.contains(class));
    classes.min_by(|a, b| a.1.total_cmp(b.1)).map_or(class, |(class, _)| class)
}

/// Whether rows have enough elements for classes of their own; and columns.
fn has_row_classes(matrix: Matrix) -> bool {
    matrix.columns >= SHARED_BY_MIN
}

fn has_column_classes(matrix: Matrix) -> bool {
    matrix.rows >= SHARED_BY_MIN
}

fn class(row: i8, column: i8) -> usize {
    (i32::from(row) + i32::from(column)).clamp(0, CLASSES as i32 - 1) as usize
}

fn magnitude(level: i8) -> f32 {
    f32::from(level.unsigned_abs())
}

/// The median: where weights of zero are, most likely.
fn zero_point(bytes: &[u8], dtype: DType) -> i32 {
    let value = |byte: u8| if dtype == DType::I8 { i32::from(byte as i8) } else { i32::from(byte) };
    let mut counts = [0u64; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let mut ascending: [u8; 256] = std::array::from_fn(|byte| byte as u8);
    ascending.sort_by_key(|&byte| value(byte));
    let mut below = 0;
    let median = ascending.into_iter().find(|&byte| {
        below += counts[usize::from(byte)];
        2 * below > bytes.len() as u64
    });
    median.map_or(0, value)
}

/// The ways to cut a shape into rows and columns.
fn matrices(shape: &[u64]) -> Vec<Matrix> {
    let extents: Vec<usize> = shape.iter().map(|&extent| extent as usize).collect();
    let cut =
        |at: usize| Matrix { rows: extents[..at].iter().product(), columns: extents[at..].iter().product(), taps: 1 };
    let mut matrices: Vec<Matrix> = (0..extents.len().max(1)).map(cut).collect();
    matrices.dedup();
    if matrices.len() > 1 {
        // A single row has nothing to tell apart.
        matrices.retain(|matrix| matrix.rows > 1);
    }
    matrices
}
