//! Random frames of every kind, with the extremes in them.

use crate::Noise;
use mcwc::format::LEVEL_END;
use mcwc::gpu::LevelFrame;
use mcwc::stages::permute::Permutation;
use mcwc::stages::quantize::scales;
use mcwc::tensor::DType;

pub const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
pub const OUTPUTS: [DType; 2] = [DType::F32, DType::F16];
pub const INTEGERS: [DType; 5] = [DType::I8, DType::U8, DType::I16, DType::U16, DType::Bool];

/// Parts of frames.
trait Parts {
    fn permutation(&mut self, len: usize) -> Permutation;
    fn exponents(&mut self, len: usize) -> Vec<i8>;
    fn levels(&mut self, len: usize, bits: u32) -> Vec<i32>;
}

impl Parts for Noise {
    fn permutation(&mut self, len: usize) -> Permutation {
        let mut places: Vec<u32> = (0..len as u32).collect();
        for last in (1..len).rev() {
            places.swap(last, self.below(last + 1));
        }
        Permutation::new(places).unwrap()
    }

    fn exponents(&mut self, len: usize) -> Vec<i8> {
        // Both extremes in every array that is long enough.
        let exponent = |index| if index < 2 { [i8::MIN, i8::MAX][index] } else { self.next() as i8 };
        (0..len).map(exponent).collect()
    }

    fn levels(&mut self, len: usize, bits: u32) -> Vec<i32> {
        let limit = if bits == 32 { LEVEL_END - 1 } else { (1 << (bits - 1)) - 1 };
        let level = |index| match index {
            0 => limit,
            1 => -limit,
            2 => 0,
            // Log-uniform in size, so that small levels occur at every width.
            _ => (self.next() as i32 >> (32 - bits) >> self.below(bits as usize)).clamp(-limit, limit),
        };
        (0..len).map(level).collect()
    }
}

/// A frame that owns its arrays, and its levels.
#[derive(Clone)]
pub struct Case {
    pub dtype: DType,
    pub shape: [usize; 3],
    pub scales: Vec<f32>,
    pub first_exponent: i32,
    pub zero_point: i32,
    pub exponents: [Vec<i8>; 3],
    pub permutations: [Option<Permutation>; 2],
    pub dct: bool,
    pub column_major: bool,
    pub levels: Vec<i32>,
    /// The type that the elements are to have.
    pub output: DType,
}

impl Case {
    /// `arrays` has a bit for each side array: exponents of rows, columns and taps, permutations of rows and columns; then
    /// one for the column-major layout. Levels have up to `level_bits` bits.
    pub fn new(dtype: DType, shape: [usize; 3], level_bits: u32, arrays: u32, scale: f32, seed: u64) -> Self {
        let mut random = Noise(seed);
        let row_len = shape[1] * shape[2];
        let exponents = std::array::from_fn(|i| match dtype.is_float() && arrays >> i & 1 == 1 {
            true => random.exponents(shape[i]),
            false => Vec::new(),
        });
        let permutations =
            [(3, shape[0]), (4, row_len)].map(|(bit, len)| (arrays >> bit & 1 == 1).then(|| random.permutation(len)));
        let mut case = Case {
            dtype,
            shape,
            scales: Vec::new(),
            first_exponent: 0,
            zero_point: if dtype.is_float() { 0 } else { random.next() as i32 >> 20 },
            exponents,
            permutations,
            dct: false,
            column_major: arrays >> 5 & 1 == 1,
            levels: random.levels(shape[0] * row_len, level_bits),
            output: dtype,
        };
        if dtype.is_float() {
            case.set_scale(scale);
        }
        case
    }

    pub fn set_scale(&mut self, scale: f32) {
        let sum = |extreme: fn(i32, i32) -> i32| -> i32 {
            let of = |array: &Vec<i8>| array.iter().map(|&e| i32::from(e)).reduce(extreme).unwrap_or(0);
            self.exponents.iter().map(of).sum()
        };
        self.first_exponent = sum(Ord::min);
        self.scales = scales(scale, self.first_exponent, sum(Ord::max)).unwrap();
    }

    pub fn frame(&self) -> LevelFrame<'_> {
        LevelFrame {
            dtype: self.dtype,
            output: self.output,
            level_at: 0,
            rows: self.shape[0],
            columns: self.shape[1],
            taps: self.shape[2],
            scales: &self.scales,
            first_exponent: self.first_exponent,
            zero_point: self.zero_point,
            row_exponent: &self.exponents[0],
            column_exponent: &self.exponents[1],
            tap_exponent: &self.exponents[2],
            dct: self.dct,
            column_major: self.column_major,
            row_permutation: self.permutations[0].as_ref(),
            column_permutation: self.permutations[1].as_ref(),
        }
    }

    pub fn on_cpu(&self) -> Vec<u8> {
        self.frame().reconstruct(&self.levels).unwrap()
    }

    pub fn name(&self) -> String {
        let arrays = self.exponents.each_ref().map(|array| !array.is_empty());
        let permutations = self.permutations.each_ref().map(Option::is_some);
        let (dtype, output, shape) = (self.dtype, self.output, self.shape);
        let dct = if self.dct { ", under a transform" } else { "" };
        format!("{dtype:?} as {output:?} {shape:?}, exponents {arrays:?}, permutations {permutations:?}{dct}")
    }
}
