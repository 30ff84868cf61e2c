//! Frames of levels with everything in them, and FORMAT.md's formulas for them written out plainly.

use super::Noise;
use mcwc::container::{Archive, FileEntry, TensorEntry};
use mcwc::decode::Reader;
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::exact::frame::CodedFrame;
use mcwc::encode::levels::frame::{LevelPlan, Prediction};
use mcwc::encode::levels::matrix::Matrix;
use mcwc::encode::levels::model_fit::{CLASS_COUNT, Classes, SymbolCounts, TableSet};
use mcwc::entropy::{EncoderTable, LevelChunk, encode_levels};
use mcwc::stages::permute::Permutation;
use mcwc::tensor::{DType, Limits};

#[derive(Debug, Clone)]
pub struct Case {
    pub dtype: DType,
    pub plan: LevelPlan,
    pub levels: Vec<i32>,
    /// Rows of a chunk; 0 for as many as the encoder takes.
    pub chunk_rows: usize,
    /// What `plan.prediction` refers to.
    pub reference: Option<Box<Case>>,
}

pub fn shuffled(len: usize, random: &mut Noise) -> Permutation {
    let mut places: Vec<u32> = (0..len as u32).collect();
    (1..len).for_each(|i| places.swap(i, (random.next() % (i as u64 + 1)) as usize));
    Permutation::new(places).unwrap()
}

/// Which optional parts a case has, one bit each.
pub fn case(matrix: Matrix, dtype: DType, parts: u32, low_bits: u32, seed: u64) -> Case {
    let mut random = Noise(seed);
    let random = &mut random;
    let has = |part: u32| parts >> part & 1 == 1;
    let small = |len: usize, on: bool, random: &mut Noise| -> Vec<i8> {
        if on { (0..len).map(|_| (random.next() % 9) as i8 - 4).collect() } else { Vec::new() }
    };
    let taps = matrix.taps > 1;
    let classes = Classes {
        base: 8,
        row: small(matrix.rows, has(0), random).iter().map(|class| class + 8).collect(),
        column: small(matrix.columns, has(1), random),
        tap: small(matrix.taps, has(2) && taps, random),
    };
    let float = dtype.is_float();
    let exponents = [
        small(matrix.rows, has(3) && float, random).iter().map(|e| e * 31).collect(),
        small(matrix.columns, has(4) && float, random).iter().map(|e| e * 5).collect(),
        small(matrix.taps, has(5) && float && taps, random),
    ];
    let level = |_| {
        let level = (random.normal() * 3.0 * (1u32 << low_bits) as f32) as i32;
        if random.next().is_multiple_of(97) { (level * 1000).clamp(1 - (1 << 23), (1 << 23) - 1) } else { level }
    };
    let levels = (0..matrix.len()).map(level).collect();
    let plan = LevelPlan {
        matrix,
        scale: float.then_some(0.0137),
        zero_point: if float { 0 } else { 100 },
        low_bits,
        column_major: has(9),
        dct: false,
        trellis: float && low_bits == 0 && parts >> 8 & 1 == 1,
        sparsity: 0,
        classes,
        exponents,
        row_permutation: (has(6) && !has(9)).then(|| shuffled(matrix.rows, random)),
        column_permutation: has(7).then(|| shuffled(matrix.row_len(), random)),
        prediction: None,
        pruning: None,
        lanes: 16,
    };
    Case { dtype, plan, levels, chunk_rows: 0, reference: None }
}

impl Case {
    /// Appends the frame and its tables.
    pub fn push(&self, builder: &mut ArchiveBuilder) -> u32 {
        let quantizers = if self.plan.trellis { 2 } else { 1 };
        let mut counts = SymbolCounts::new(quantizers);
        for (quantizer, class) in (0..quantizers).flat_map(|q| (0..CLASS_COUNT).map(move |class| (q, class))) {
            self.levels.iter().take(500).for_each(|&level| counts.add(quantizer, class, level >> self.plan.low_bits));
        }
        let TableSet { first_class, tables, .. } = counts.tables();
        let encoder_tables: Vec<EncoderTable> = tables.iter().map(EncoderTable::new).collect();
        let mut frame = self.plan.encode(&self.levels.as_slice().into(), first_class, &encoder_tables).unwrap();
        if self.chunk_rows > 0 {
            self.cut(&mut frame, first_class, &encoder_tables);
        }
        let earlier = builder.header.frames.iter().filter_map(|frame| frame.tables.as_ref());
        frame.entry.tables.as_mut().unwrap()[0] = earlier.map(|tables| tables[1]).sum();
        tables.iter().for_each(|table| table.serialize(&mut builder.header.tables));
        builder.push_frame(frame).unwrap()
    }

    /// Cuts a frame into chunks of `chunk_rows` rows.
    fn cut(&self, frame: &mut CodedFrame, first_class: usize, tables: &[EncoderTable]) {
        let LevelPlan { matrix, classes, low_bits, trellis, lanes, .. } = &self.plan;
        let cols = matrix.row_len();
        let row_class: Vec<i8> = (0..matrix.rows).map(|row| classes.row_class(row) - first_class as i8).collect();
        let col_class: Vec<i8> = (0..cols).map(|col| classes.col_class(col, matrix.taps)).collect();
        frame.payloads.truncate(usize::from(frame.entry.side.is_some()));
        for (levels, row_class) in self.levels.chunks(self.chunk_rows * cols).zip(row_class.chunks(self.chunk_rows)) {
            let (low_bits, trellis, lanes) = (*low_bits, *trellis, *lanes);
            let chunk = LevelChunk { levels, cols, row_class, col_class: &col_class, low_bits, trellis, lanes };
            frame.payloads.push(encode_levels(&chunk, tables).unwrap());
        }
        frame.entry.chunk_len = (self.chunk_rows * cols) as u32;
    }

    /// This case and its references, the farthest first.
    pub fn chain(&self) -> Vec<&Case> {
        let mut chain: Vec<&Case> = std::iter::successors(Some(self), |case| case.reference.as_deref()).collect();
        chain.reverse();
        chain
    }

    /// Appends a file of the frames from `cases`, which follow those of `builder`.
    pub fn push_file(cases: &[&Case], builder: &mut ArchiveBuilder) {
        let byte_len = |case: &Case| case.dtype.byte_len(case.levels.len() as u64).unwrap();
        let bytes = cases.iter().map(|case| byte_len(case)).sum();
        builder.header.files.push(FileEntry { name: "f".into(), bytes, first_raw_chunk: 0 });
        let mut offset = 0;
        for (index, case) in cases.iter().enumerate() {
            let frame = case.push(builder);
            builder.header.tensors.push(TensorEntry {
                name: if index + 1 == cases.len() { "t".into() } else { format!("reference {index}") },
                dtype: case.dtype as u32,
                shape: vec![case.levels.len() as u64],
                file: 0,
                offset,
                frames: Some(vec![frame.into()]),
            });
            offset += byte_len(case);
        }
    }

    pub fn archive(&self) -> Vec<u8> {
        let mut builder = ArchiveBuilder::default();
        Self::push_file(&self.chain(), &mut builder);
        builder.finish().unwrap()
    }

    /// FORMAT.md, sections 5.2 and 5.5: levels from indices, column by column of each chunk, and their prediction.
    pub fn levels(&self) -> Vec<i32> {
        let row_len = self.plan.matrix.row_len();
        let archive = self.archive();
        let parsed = Archive::parse(&archive, &Limits::default()).unwrap();
        let mut levels = self.levels.clone();
        let chunk_len = parsed.frames[parsed.frames.len() - 1].chunk_len as usize;
        for chunk in levels.chunks_mut(chunk_len).filter(|_| self.plan.trellis) {
            for column in 0..row_len.min(chunk.len()) {
                let mut state = 0usize;
                for level in chunk.iter_mut().skip(column).step_by(row_len) {
                    const NEXT: [[usize; 2]; 8] = [[0, 2], [5, 7], [1, 3], [6, 4], [2, 0], [4, 6], [3, 1], [7, 5]];
                    let (q, k) = ((state & 1) as i32, *level);
                    *level = 2 * k - q * k.signum();
                    state = NEXT[state][(k & 1) as usize];
                }
            }
        }
        let Some((prediction, reference)) = self.plan.prediction.as_ref().zip(self.reference.as_ref()) else {
            return levels;
        };
        for (at, (level, reference)) in levels.iter_mut().zip(reference.levels()).enumerate() {
            let gain = prediction.row_gain.get(at / row_len).map_or(prediction.gain, |&gain| gain.into());
            *level += (f64::from(gain) * f64::from(reference) / 256.0 + 0.5).floor() as i32;
        }
        levels
    }

    /// FORMAT.md, section 5.1, element by element.
    pub fn expected(&self) -> Vec<u8> {
        let Matrix { rows, columns: _, taps } = self.plan.matrix;
        let row_len = self.plan.matrix.row_len();
        let levels = self.levels();
        let element_bytes = (self.dtype.bits() / 8) as usize;
        let mut bytes = vec![0; self.levels.len() * element_bytes];
        for i in 0..rows {
            for j in 0..row_len {
                let at = |array: &[i8], index: usize| array.get(index).map_or(0, |&e| i32::from(e));
                let [row, column, tap] = &self.plan.exponents;
                let exponent = at(row, i) + at(column, j / taps) + at(tap, j % taps);
                let r = self.plan.row_permutation.as_ref().map_or(i, |p| p.places()[i] as usize);
                let k = self.plan.column_permutation.as_ref().map_or(j, |p| p.places()[j] as usize);
                let level = levels[i * row_len + j];
                let place = if self.plan.column_major { k * rows + r } else { r * row_len + k };
                let start = place * element_bytes;
                let element = &mut bytes[start..start + element_bytes];
                let Some(scale) = self.plan.scale else {
                    element.copy_from_slice(&(level + self.plan.zero_point).to_le_bytes()[..element_bytes]);
                    continue;
                };
                let root = (f64::from(exponent.rem_euclid(16)) / 16.0).exp2() as f32;
                let step = scale * root * (exponent.div_euclid(16) as f32).exp2();
                let weight = level as f32 * step;
                match self.dtype {
                    DType::F16 => {
                        element.copy_from_slice(&half::f16::from_f32(weight.clamp(-65504.0, 65504.0)).to_le_bytes())
                    }
                    DType::BF16 => element.copy_from_slice(&half::bf16::from_f32(weight).to_le_bytes()),
                    DType::F64 => element.copy_from_slice(&f64::from(weight).to_le_bytes()),
                    _ => element.copy_from_slice(&weight.to_le_bytes()),
                }
            }
        }
        bytes
    }

    pub fn decoded(&self) -> Vec<u8> {
        let archive = self.archive();
        let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
        let tensor = reader.tensor("t").unwrap();
        assert!(reader.file(0).unwrap().ends_with(&tensor));
        tensor
    }
}

/// The first difference, if any.
pub fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).position(|(a, b)| a != b)
}

pub const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
pub const INTEGERS: [DType; 5] = [DType::U8, DType::I8, DType::U16, DType::I16, DType::Bool];

/// A case that is predicted from others, each with other parts and rows.
pub fn predicted(rows: &[usize], columns: usize, taps: usize, dtype: DType, seed: u64) -> Case {
    let mut random = Noise(seed);
    let mut chain: Option<Case> = None;
    for (index, &rows) in rows.iter().enumerate() {
        let matrix = Matrix { rows, columns, taps };
        // All are column-major, or none is.
        let parts = (random.next() & 0x1ff) as u32 | (seed as u32 & 1) << 9;
        let low_bits = if random.next().is_multiple_of(5) { 2 } else { 0 };
        let mut case = case(matrix, dtype, parts, low_bits, random.next());
        // Far from the bound on levels, whatever the gains.
        case.levels.iter_mut().for_each(|level| *level %= 300);
        if let Some(reference) = chain.take() {
            let gain = |random: &mut Noise| (random.next() % 1200) as i16 - 600;
            let row_gain = if index % 2 == 0 { Vec::new() } else { (0..rows).map(|_| gain(&mut random)).collect() };
            let gain = if index % 3 == 1 { 256 } else { gain(&mut random).into() };
            case.plan.prediction = Some(Prediction { reference: [0, index as u64 - 1], gain, row_gain });
            case.reference = Some(Box::new(reference));
        }
        chain = Some(case);
    }
    chain.unwrap()
}

/// FORMAT.md, section 5.3: the taps that the coefficients of a case stand for, in its matrix.
pub fn taps(case: &Case) -> Vec<f64> {
    let plan = LevelPlan { dct: false, column_major: false, ..case.plan.clone() };
    let plain = Case { plan, dtype: DType::F32, ..case.clone() };
    let coefficients: Vec<f32> =
        plain.expected().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let len = case.plan.matrix.taps;
    let tap = |kernel: &[f32], t: usize| -> f64 {
        let term = |(k, &coefficient): (usize, &f32)| {
            let norm = (if k == 0 { 1.0 } else { 2.0 } / len as f64).sqrt();
            let angle = std::f64::consts::PI * ((2 * t + 1) * k) as f64 / (2 * len) as f64;
            f64::from(coefficient) * norm * angle.cos()
        };
        kernel.iter().enumerate().map(term).sum()
    };
    coefficients.chunks(len).flat_map(|kernel| (0..len).map(move |t| tap(kernel, t))).collect()
}
