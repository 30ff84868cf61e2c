//! Frames of levels with everything in them, against FORMAT.md's formulas written out plainly.

mod common;

use common::{Random, Tensor, safetensors};
use mcwc::container::{Archive, FileEntry, TensorEntry};
use mcwc::decode::Reader;
use mcwc::encode::frame::{Frame, LevelPlan, Prediction};
use mcwc::encode::matrix::Matrix;
use mcwc::encode::model_fit::{CLASS_COUNT, Classes, SymbolCounts, TableSet};
use mcwc::encode::planes::encode_plane;
use mcwc::encode::{ArchiveBuilder, to_f32};
use mcwc::entropy::{EncoderTable, LevelChunk, encode_levels};
use mcwc::stages::permute::Permutation;
use mcwc::tensor::{DType, Limits};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Case {
    dtype: DType,
    plan: LevelPlan,
    levels: Vec<i32>,
    /// Rows of a chunk; 0 for as many as the encoder takes.
    chunk_rows: usize,
    /// What `plan.prediction` refers to.
    reference: Option<Box<Case>>,
}

fn shuffled(len: usize, random: &mut Random) -> Permutation {
    let mut places: Vec<u32> = (0..len as u32).collect();
    (1..len).for_each(|i| places.swap(i, (random.next() % (i as u64 + 1)) as usize));
    Permutation::new(places).unwrap()
}

/// Which optional parts a case has, one bit each.
fn case(matrix: Matrix, dtype: DType, parts: u32, low_bits: u32, seed: u64) -> Case {
    let mut random = Random(seed);
    let random = &mut random;
    let has = |part: u32| parts >> part & 1 == 1;
    let small = |len: usize, on: bool, random: &mut Random| -> Vec<i8> {
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
        classes,
        exponents,
        row_permutation: (has(6) && !has(9)).then(|| shuffled(matrix.rows, random)),
        column_permutation: has(7).then(|| shuffled(matrix.row_len(), random)),
        prediction: None,
    };
    Case { dtype, plan, levels, chunk_rows: 0, reference: None }
}

impl Case {
    /// Appends the frame and its tables.
    fn push(&self, builder: &mut ArchiveBuilder) -> u32 {
        let quantizers = if self.plan.trellis { 2 } else { 1 };
        let mut counts = SymbolCounts::new(quantizers);
        for (quantizer, class) in (0..quantizers).flat_map(|q| (0..CLASS_COUNT).map(move |class| (q, class))) {
            self.levels.iter().take(500).for_each(|&level| counts.add(quantizer, class, level >> self.plan.low_bits));
        }
        let TableSet { first_class, tables, .. } = counts.tables();
        let encoder_tables: Vec<EncoderTable> = tables.iter().map(EncoderTable::new).collect();
        let mut frame = self.plan.encode(&self.levels, first_class, &encoder_tables).unwrap();
        if self.chunk_rows > 0 {
            self.cut(&mut frame, first_class, &encoder_tables);
        }
        let earlier = builder.header.frames.iter().filter_map(|frame| frame.tables.as_ref());
        frame.entry.tables.as_mut().unwrap()[0] = earlier.map(|tables| tables[1]).sum();
        tables.iter().for_each(|table| table.serialize(&mut builder.header.tables));
        builder.push_frame(frame).unwrap()
    }

    /// Cuts a frame into chunks of `chunk_rows` rows.
    fn cut(&self, frame: &mut Frame, first_class: usize, tables: &[EncoderTable]) {
        let LevelPlan { matrix, classes, low_bits, trellis, .. } = &self.plan;
        let cols = matrix.row_len();
        let row_class: Vec<i8> = (0..matrix.rows).map(|row| classes.row_class(row) - first_class as i8).collect();
        let col_class: Vec<i8> = (0..cols).map(|col| classes.col_class(col, matrix.taps)).collect();
        frame.payloads.truncate(usize::from(frame.entry.side.is_some()));
        for (levels, row_class) in self.levels.chunks(self.chunk_rows * cols).zip(row_class.chunks(self.chunk_rows)) {
            let (low_bits, trellis) = (*low_bits, *trellis);
            let chunk = LevelChunk { levels, cols, row_class, col_class: &col_class, low_bits, trellis };
            frame.payloads.push(encode_levels(&chunk, tables).unwrap());
        }
        frame.entry.chunk_len = (self.chunk_rows * cols) as u32;
    }

    /// This case and its references, the farthest first.
    fn chain(&self) -> Vec<&Case> {
        let mut chain: Vec<&Case> = std::iter::successors(Some(self), |case| case.reference.as_deref()).collect();
        chain.reverse();
        chain
    }

    /// Appends a file of the frames from `cases`, which follow those of `builder`.
    fn push_file(cases: &[&Case], builder: &mut ArchiveBuilder) {
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

    fn archive(&self) -> Vec<u8> {
        let mut builder = ArchiveBuilder::default();
        Self::push_file(&self.chain(), &mut builder);
        builder.finish().unwrap()
    }

    /// FORMAT.md, sections 5.2 and 5.5: levels from indices, column by column of each chunk, and their prediction.
    fn levels(&self) -> Vec<i32> {
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
    fn expected(&self) -> Vec<u8> {
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

    fn decoded(&self) -> Vec<u8> {
        let archive = self.archive();
        let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
        let tensor = reader.tensor("t").unwrap();
        assert!(reader.file(0).unwrap().ends_with(&tensor));
        tensor
    }
}

/// The first difference, if any.
fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).position(|(a, b)| a != b)
}

const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
const INTEGERS: [DType; 5] = [DType::U8, DType::I8, DType::U16, DType::I16, DType::Bool];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_decode_to_the_format_pages_formulas(
        rows in 1usize..60, columns in 1usize..90, taps in prop_oneof![2 => Just(1usize), 1 => 2usize..10],
        dtype in prop_oneof![3 => Just(DType::F32), 2 => proptest::sample::select(&FLOATS[..]), 1 => proptest::sample::select(&INTEGERS[..])],
        parts in 0u32..1024, low_bits in prop_oneof![3 => Just(0u32), 1 => 1u32..12], seed: u64,
    ) {
        let case = case(Matrix { rows, columns, taps }, dtype, parts, low_bits, seed);
        prop_assert_eq!(difference(&case.decoded(), &case.expected()), None);
    }
}

/// A case that is predicted from others, each with other parts and rows.
fn predicted(rows: &[usize], columns: usize, taps: usize, dtype: DType, seed: u64) -> Case {
    let mut random = Random(seed);
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
            let gain = |random: &mut Random| (random.next() % 1200) as i16 - 600;
            let row_gain = if index % 2 == 0 { Vec::new() } else { (0..rows).map(|_| gain(&mut random)).collect() };
            let gain = if index % 3 == 1 { 256 } else { gain(&mut random).into() };
            case.plan.prediction = Some(Prediction { reference: [0, index as u64 - 1], gain, row_gain });
            case.reference = Some(Box::new(reference));
        }
        chain = Some(case);
    }
    chain.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn predicted_frames_decode_to_the_format_pages_formulas(
        rows in proptest::collection::vec(1usize..60, 2..5), columns in 1usize..40, taps in 1usize..4,
        dtype in proptest::sample::select(&FLOATS[..]), seed: u64,
    ) {
        let case = predicted(&rows, columns, taps, dtype, seed);
        prop_assert_eq!(difference(&case.decoded(), &case.expected()), None);
    }
}

#[test]
fn chunks_are_predicted_from_the_same_chunk() {
    for seed in 0..4 {
        // Three chunks, predicted from two, predicted from four.
        let mut case = predicted(&[3000, 1200, 2100], 300, 1, FLOATS[seed as usize], seed);
        case.plan.prediction.as_mut().unwrap().gain = -300;
        let decoded = case.decoded();
        assert_eq!(difference(&decoded, &case.expected()), None);
        for tamper in [
            |case: &mut Case| case.levels[17] += 1,
            |case: &mut Case| case.plan.prediction.as_mut().unwrap().row_gain[9] += 64,
        ] {
            let mut tampered = case.clone();
            tamper(tampered.reference.as_mut().unwrap());
            assert!(difference(&decoded, &tampered.expected()).is_some());
        }
    }
}

#[test]
fn a_delta_decodes_with_its_base_alone() {
    let mut delta = predicted(&[40, 50], 30, 1, DType::F32, 2);
    let base = delta.reference.take().unwrap();
    let base_archive = base.archive();
    let base_reader = Reader::open(base_archive.as_slice(), &Limits::default()).unwrap();
    let archive_of = |frame: u64, integrity: [u8; 16]| {
        let mut builder = ArchiveBuilder::default();
        builder.header.base = Some(integrity.to_vec());
        let mut delta = delta.clone();
        delta.plan.prediction.as_mut().unwrap().reference = [1, frame];
        Case::push_file(&[&delta], &mut builder);
        builder.finish().unwrap()
    };
    let open = |archive: &'static [u8]| Reader::open(archive, &Limits::default()).unwrap();
    let integrity = base_reader.archive().integrity;
    let archive: &[u8] = archive_of(0, integrity.0).leak();
    let tensor = open(archive).with_base(&base_reader).unwrap().tensor("t").unwrap();
    let whole = Case { reference: Some(base.clone()), ..delta.clone() };
    assert_eq!(difference(&tensor, &whole.expected()), None);

    let missing = open(archive).tensor("t").unwrap_err();
    assert!(missing.to_string().contains(&format!("needs its base, of integrity {integrity}")), "{missing}");
    let other: &[u8] = archive_of(0, [7; 16]).leak();
    let refused = open(other).with_base(&base_reader).err().unwrap();
    assert!(refused.to_string().contains("not the base of this archive"), "{refused}");
    let absent: &[u8] = archive_of(1, integrity.0).leak();
    let refused = open(absent).with_base(&base_reader).err().unwrap();
    assert!(refused.to_string().contains("invalid reference: the base has no such frame"), "{refused}");
}

#[test]
fn a_wrong_exponent_permutation_or_level_is_seen() {
    let matrix = Matrix { rows: 23, columns: 7, taps: 5 };
    let original = case(matrix, DType::F32, 0x1ff, 0, 1);
    let decoded = original.decoded();
    assert_eq!(difference(&decoded, &original.expected()), None);
    for part in 0..3 {
        let mut tampered = original.clone();
        tampered.plan.exponents[part][1] += 1;
        assert!(difference(&decoded, &tampered.expected()).is_some());
    }
    let mut tampered = original.clone();
    tampered.levels[50] ^= 1;
    assert!(difference(&decoded, &tampered.expected()).is_some());
    let mut places = original.plan.row_permutation.as_ref().unwrap().places().to_vec();
    places.swap(3, 4);
    let mut tampered = original.clone();
    tampered.plan.row_permutation = Some(Permutation::new(places).unwrap());
    assert!(difference(&decoded, &tampered.expected()).is_some());
}

/// FORMAT.md, section 5.3: the taps that the coefficients of a case stand for, in its matrix.
fn taps(case: &Case) -> Vec<f64> {
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

#[test]
fn kernels_under_a_transform_agree_with_the_formula() {
    let alone = [
        (Matrix { rows: 5, columns: 3, taps: 8 }, 0b0011_1111, 0),
        (Matrix { rows: 40, columns: 1, taps: 512 }, 0b1_0110_0101, 0),
        (Matrix { rows: 130, columns: 37, taps: 64 }, 0b1_0000_1111, 0),
        (Matrix { rows: 9, columns: 4, taps: 31 }, 0b0000_0000, 5),
    ];
    let alone = alone.map(|(matrix, parts, low_bits)| case(matrix, DType::F32, parts, low_bits, 11));
    // Of the seeds those whose frames are row-major.
    let predicted = [4, 6, 8].map(|seed| predicted(&[20, 31, 25], 5, 8, DType::F32, seed));
    for mut case in alone.into_iter().chain(predicted) {
        let matrix = case.plan.matrix;
        case.plan.dct = true;
        case.plan.column_permutation = None;
        let row_len = matrix.row_len();
        let expected = taps(&case);
        let decoded: Vec<f32> = case.decoded().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        for (kernel, decoded) in expected.chunks(matrix.taps).zip(decoded.chunks(matrix.taps)) {
            let largest = kernel.iter().fold(0.0f64, |largest, tap| largest.max(tap.abs()));
            let close = |(&tap, &found): (&f64, &f32)| (tap - f64::from(found)).abs() <= largest / f64::from(1 << 16);
            assert!(kernel.iter().zip(decoded).all(close), "{matrix:?}");
        }
        case.levels[row_len] += 3;
        assert_ne!(taps(&case), expected);
    }
}

#[test]
fn chunks_of_many_lanes_and_many_chunks_agree_with_the_formulas() {
    for (matrix, parts) in [
        (Matrix { rows: 1500, columns: 384, taps: 1 }, 0b0001_1011),
        (Matrix { rows: 40, columns: 101, taps: 81 }, 0b0111_1111),
        (Matrix { rows: 3, columns: 1 << 17, taps: 3 }, 0b0001_0011),
        (Matrix { rows: 200_000, columns: 3, taps: 1 }, 0b0100_1001),
        (Matrix { rows: 1500, columns: 384, taps: 1 }, 0b10_1001_1011),
    ] {
        for (dtype, trellis) in [(DType::F32, 0), (DType::BF16, 0), (DType::F32, 1 << 8), (DType::F16, 1 << 8)] {
            let case = case(matrix, dtype, parts | trellis, 0, 9);
            assert_eq!(difference(&case.decoded(), &case.expected()), None, "{matrix:?} {dtype:?}");
        }
    }
}

/// Columns that lie apart in the tensor, kernels under a transform, and both: in many chunks of odd sizes.
const SCATTERED: &str = "tests/vectors/valid/scattered-and-transformed.mcwc";
const SCATTERED_FILE: &str = "frames.safetensors";

fn scattered() -> Vec<(&'static str, Case)> {
    // Parts of `case`.
    const EVERY: u32 = 0b1011_1111;
    const TRELLIS: u32 = 1 << 8;
    const COLUMNS: u32 = 1 << 9;
    // A transform has no permutation of columns.
    const KERNELS: u32 = 0b0111_1111;
    const ROWS: u32 = 1 << 6;
    let frames = [
        ("columns.f32", DType::F32, [83, 59, 1], COLUMNS | EVERY, 0, 7),
        ("columns.f32.trellis", DType::F32, [83, 59, 1], COLUMNS | EVERY | TRELLIS, 0, 11),
        ("columns.f32.low", DType::F32, [61, 47, 1], COLUMNS | EVERY, 5, 9),
        ("columns.f32.single", DType::F32, [257, 33, 1], COLUMNS, 0, 1),
        ("columns.f32.taps", DType::F32, [29, 7, 9], COLUMNS | EVERY, 0, 5),
        ("columns.f32.large", DType::F32, [701, 899, 1], COLUMNS | EVERY, 0, 0),
        ("columns.f16", DType::F16, [45, 71, 1], COLUMNS | EVERY | TRELLIS, 0, 8),
        ("columns.bf16", DType::BF16, [33, 65, 1], COLUMNS | EVERY, 0, 13),
        ("columns.f64", DType::F64, [31, 43, 1], COLUMNS | EVERY, 0, 6),
        ("columns.u8", DType::U8, [101, 37, 1], COLUMNS | EVERY, 0, 10),
        ("columns.i16", DType::I16, [41, 53, 1], COLUMNS | EVERY, 3, 12),
        ("kernels.f32.8", DType::F32, [40, 9, 8], KERNELS, 0, 6),
        ("kernels.f32.8.columns", DType::F32, [27, 5, 8], COLUMNS | KERNELS & !ROWS, 0, 4),
        ("kernels.f32.31.low", DType::F32, [22, 6, 31], KERNELS, 5, 5),
        ("kernels.f32.64.trellis", DType::F32, [30, 3, 64], KERNELS | TRELLIS, 0, 7),
        ("kernels.f32.large", DType::F32, [501, 20, 64], KERNELS, 0, 0),
        ("kernels.bf16.8.trellis", DType::BF16, [40, 9, 8], KERNELS | TRELLIS, 0, 9),
        ("kernels.bf16.31.columns", DType::BF16, [23, 4, 31], COLUMNS | KERNELS & !ROWS, 0, 6),
        ("kernels.bf16.64.low", DType::BF16, [19, 3, 64], KERNELS, 4, 4),
    ];
    let mut cases = Vec::new();
    for (name, dtype, [rows, columns, taps], parts, low_bits, chunk_rows) in frames {
        let mut case = case(Matrix { rows, columns, taps }, dtype, parts, low_bits, 100 + cases.len() as u64);
        case.plan.dct = name.starts_with("kernels");
        case.chunk_rows = chunk_rows;
        if chunk_rows == 0 {
            // Large but few bytes.
            (0..).zip(&mut case.levels).for_each(|(at, level)| *level = if at % 61 == 0 { at / 61 % 5 - 2 } else { 0 });
        }
        cases.push((name, case));
    }
    cases
}

/// The archive of these frames in one safetensors file.
fn scattered_archive() -> Vec<u8> {
    let cases = scattered();
    let tensors: Vec<_> = cases.iter().map(|(name, case)| (name.to_string(), case)).collect();
    let mut builder = ArchiveBuilder::default();
    push_safetensors(SCATTERED_FILE, &tensors, &mut builder);
    for (index, case) in cases.iter().enumerate() {
        builder.header.tensors[index].frames = Some(vec![case.1.push(&mut builder).into()]);
    }
    builder.finish().unwrap()
}

/// Appends a file of these tensors, whose frames are still to come.
fn push_safetensors(file: &str, tensors: &[(String, &Case)], builder: &mut ArchiveBuilder) {
    let tensor = |(name, case): &(String, &Case)| {
        let Matrix { rows, columns, taps } = case.plan.matrix;
        let shape = if case.plan.column_major { [columns * taps, rows] } else { [rows, columns * taps] };
        let bytes = case.dtype.byte_len(case.levels.len() as u64).unwrap();
        Tensor::bytes(name, case.dtype, &shape.map(|extent| extent as u64), vec![0; bytes as usize])
    };
    let tensors: Vec<Tensor> = tensors.iter().map(tensor).collect();
    let bytes = safetensors(&tensors);
    let mut offset = bytes.len() - tensors.iter().map(|tensor| tensor.bytes.len()).sum::<usize>();
    let first_raw_chunk = builder.push_chunks(&[encode_plane(&bytes[..offset])]).unwrap();
    builder.header.files.push(FileEntry { name: file.into(), bytes: bytes.len() as u64, first_raw_chunk });
    let file = builder.header.files.len() as u32 - 1;
    for Tensor { name, dtype, shape, bytes } in tensors {
        let entry = TensorEntry { name, dtype: dtype as u32, shape, file, offset: offset as u64, frames: None };
        builder.header.tensors.push(entry);
        offset += bytes.len();
    }
}

#[test]
fn scattered_and_transformed_frames_of_past_and_present_agree_with_the_formulas() {
    let archive = scattered_archive();
    check_scattered(&archive);
    check_scattered(&vector(SCATTERED, &archive));
}

/// A vector of the past: it is written anew only when someone asks for it, under a version of the format that is not released yet.
fn vector(path: &str, archive: &[u8]) -> Vec<u8> {
    if std::env::var_os("MCWC_WRITE_VECTORS").is_some() {
        std::fs::write(path, archive).unwrap();
    }
    std::fs::read(path).unwrap()
}

fn check_scattered(archive: &[u8]) {
    let reader = Reader::open(archive, &Limits::default()).unwrap();
    let cases = scattered();
    assert_eq!(reader.archive().tensors.len(), cases.len());
    for ((name, case), frame) in cases.iter().zip(&reader.archive().frames) {
        assert!(frame.chunk_count > 2, "{name}");
        let decoded = reader.tensor(name).unwrap();
        if !case.plan.dct {
            assert_eq!(difference(&decoded, &case.expected()), None, "{name}");
            continue;
        }
        let Matrix { rows, taps: len, .. } = case.plan.matrix;
        let row_len = case.plan.matrix.row_len();
        let decoded = to_f32(&decoded, case.dtype);
        let place = |at: usize| if case.plan.column_major { at % row_len * rows + at / row_len } else { at };
        let rounding = if case.dtype == DType::BF16 { 1.0 / 256.0 } else { 0.0 };
        for (kernel, expected) in taps(case).chunks(len).enumerate() {
            let largest = expected.iter().fold(0.0f64, |largest, tap| largest.max(tap.abs()));
            for (tap, expected) in expected.iter().enumerate() {
                let found = f64::from(decoded[place(kernel * len + tap)]);
                let tolerance = largest / f64::from(1 << 16) + rounding * expected.abs();
                assert!((found - expected).abs() <= tolerance, "{name}: {found} for {expected}");
            }
        }
    }
}

/// Frames predicted from one another, farthest first in each tensor's name; in chunks of odd sizes.
fn chains() -> Vec<(&'static str, Case)> {
    let chains = [
        ("f32", DType::F32, &[40, 30, 61][..], [37, 1], 16, 2),
        ("f32.columns", DType::F32, &[33, 47, 20], [29, 1], 9, 3),
        ("f32.taps", DType::F32, &[21, 30, 25], [5, 9], 7, 4),
        ("f32.large", DType::F32, &[120, 90, 130], [61, 1], 50, 6),
        ("f16", DType::F16, &[20, 45, 31], [40, 1], 11, 8),
        ("bf16.columns", DType::BF16, &[30, 30, 30], [17, 1], 7, 5),
        ("f64", DType::F64, &[12, 26, 19], [21, 1], 5, 10),
        ("u8", DType::U8, &[20, 30, 41], [23, 1], 8, 12),
    ];
    let chain = |(name, dtype, rows, [columns, taps], chunk_rows, seed): (_, _, &[usize], [usize; 2], _, _)| {
        (name, cut(predicted(rows, columns, taps, dtype, seed), chunk_rows))
    };
    chains.into_iter().map(chain).collect()
}

/// A case in chunks of this many rows, and whatever it is predicted from.
fn cut(case: Case, chunk_rows: usize) -> Case {
    Case { chunk_rows, reference: case.reference.map(|reference| Box::new(cut(*reference, chunk_rows))), ..case }
}

/// The frames of each chain, by their distance from the key frame.
fn generations<'c>(chains: &'c [(&str, Case)], distance: usize) -> Vec<(String, &'c Case)> {
    chains.iter().map(|(name, case)| (format!("{name}, generation {distance}"), case.chain()[distance])).collect()
}

/// Appends a frame that is predicted from another place than its case says.
fn push_predicted(case: &Case, reference: Option<[u64; 2]>, builder: &mut ArchiveBuilder) -> u64 {
    let mut case = case.clone();
    if let Some((prediction, reference)) = case.plan.prediction.as_mut().zip(reference) {
        prediction.reference = reference;
    }
    case.push(builder).into()
}

const GENERATIONS: [&str; 3] = ["first.safetensors", "second.safetensors", "third.safetensors"];

/// One file for each generation; all in one archive, or each in one whose base is that of the generation before.
fn predicted_archives() -> [Vec<u8>; 4] {
    let chains = chains();
    let push = |distance: usize, whole: bool, builder: &mut ArchiveBuilder| {
        let cases = generations(&chains, distance);
        let first = builder.header.frames.len() as u64;
        push_safetensors(GENERATIONS[distance], &cases, builder);
        let first_tensor = builder.header.tensors.len() - cases.len();
        for (index, (_, case)) in cases.iter().enumerate() {
            let reference =
                if whole { [0, (first + index as u64).saturating_sub(cases.len() as u64)] } else { [1, index as u64] };
            let frame = push_predicted(case, Some(reference), builder);
            builder.header.tensors[first_tensor + index].frames = Some(vec![frame]);
        }
    };
    let mut whole = ArchiveBuilder::default();
    (0..3).for_each(|distance| push(distance, true, &mut whole));
    let mut base = None;
    let deltas = [0, 1, 2].map(|distance| {
        let mut builder = ArchiveBuilder::default();
        builder.header.base = base.take();
        push(distance, false, &mut builder);
        let archive = builder.finish().unwrap();
        base = Some(archive[16..32].to_vec());
        archive
    });
    let [first, second, third] = deltas;
    [whole.finish().unwrap(), first, second, third]
}

#[test]
fn predicted_frames_of_past_and_present_agree_with_the_formulas() {
    let names = ["predicted", "delta-base", "delta", "delta-of-delta"];
    let written = predicted_archives();
    let stored: Vec<Vec<u8>> = (names.iter().zip(&written))
        .map(|(name, archive)| vector(&format!("tests/vectors/valid/{name}.mcwc"), archive))
        .collect();
    check_generations(&written.each_ref().map(Vec::as_slice));
    check_generations(&[&stored[0], &stored[1], &stored[2], &stored[3]]);
}

fn check_generations([whole, deltas @ ..]: &[&[u8]; 4]) {
    let open = |archive| Reader::open(archive, &Limits::default()).unwrap();
    let whole = open(*whole);
    let [first, second, third] = deltas.map(open);
    let second = second.with_base(&first).unwrap();
    let third = third.with_base(&second).unwrap();
    let chains = chains();
    for (distance, delta) in [&first, &second, &third].into_iter().enumerate() {
        for (name, case) in generations(&chains, distance) {
            let decoded = whole.tensor(&name).unwrap();
            assert_eq!(difference(&decoded, &case.expected()), None, "{name}");
            assert_eq!(delta.tensor(&name).unwrap(), decoded, "{name}");
        }
        assert_eq!(delta.file(0).unwrap(), whole.file(distance).unwrap());
        assert!(delta.archive().frames.iter().all(|frame| frame.chunk_count > 1));
    }
}

/// Tensors of up to three layers.
fn layered() -> Vec<(&'static str, Case)> {
    let tensors = [
        ("f32", DType::F32, 3, 42, [33, 1], 17, 2),
        ("f32.columns", DType::F32, 3, 25, [41, 1], 10, 7),
        ("f32.two", DType::F32, 2, 31, [5, 7], 9, 4),
        ("f32.one", DType::F32, 1, 20, [20, 1], 7, 6),
        ("bf16", DType::BF16, 3, 22, [23, 1], 8, 8),
        ("u8.two", DType::U8, 2, 30, [21, 1], 11, 10),
    ];
    let chain = |(name, dtype, layers, rows, [columns, taps], chunk_rows, seed): (_, _, _, _, [usize; 2], _, _)| {
        (name, cut(predicted(&vec![rows; layers], columns, taps, dtype, seed), chunk_rows))
    };
    tensors.into_iter().map(chain).collect()
}

/// These tensors in one file; and each layer in a file of its own, if they are wanted apart. All frames of a layer lie before
/// those of the next.
fn layers_archive(apart: bool) -> Vec<u8> {
    let tensors = layered();
    let mut builder = ArchiveBuilder::default();
    let named: Vec<_> = tensors.iter().map(|(name, case)| (name.to_string(), case)).collect();
    push_safetensors("model.safetensors", &named, &mut builder);
    let chains: Vec<_> = tensors.iter().map(|(name, case)| (*name, case.chain())).collect();
    let layers = [0, 1, 2].map(|layer| {
        let deep_enough = chains.iter().filter(move |(_, chain)| layer < chain.len());
        deep_enough.map(move |(name, chain)| (format!("{name}, layer {layer}"), chain[layer])).collect::<Vec<_>>()
    });
    for (layer, cases) in layers.iter().enumerate().filter(|_| apart) {
        push_safetensors(&format!("layer-{layer}.safetensors"), cases, &mut builder);
    }
    for (name, case) in layers.iter().flatten() {
        let tensor = name.split(", ").next().unwrap();
        let coarser = builder.header.tensors.iter().find(|entry| entry.name == tensor).unwrap().frames.clone();
        let reference = coarser.and_then(|frames| frames.last().copied());
        let frame = push_predicted(case, reference.map(|frame| [0, frame]), &mut builder);
        let entries = builder.header.tensors.iter_mut().filter(|entry| entry.name == *name || entry.name == tensor);
        entries.for_each(|entry| entry.frames.get_or_insert_default().push(frame));
    }
    builder.finish().unwrap()
}

#[test]
fn layers_of_past_and_present_agree_with_the_formulas() {
    let written = [false, true].map(layers_archive);
    let stored = [("layers", &written[0]), ("layers-apart", &written[1])]
        .map(|(name, archive)| vector(&format!("tests/vectors/valid/{name}.mcwc"), archive));
    for archives in [written, stored] {
        let [layers, apart] =
            archives.each_ref().map(|archive| Reader::open(archive.as_slice(), &Limits::default()).unwrap());
        for (name, case) in layered() {
            let chain = case.chain();
            for (layer, case) in chain.iter().enumerate() {
                let decoded = apart.tensor(&format!("{name}, layer {layer}")).unwrap();
                assert_eq!(difference(&decoded, &case.expected()), None, "{name}, layer {layer}");
            }
            let finest = apart.tensor(&format!("{name}, layer {}", chain.len() - 1)).unwrap();
            assert_eq!(layers.tensor(name).unwrap(), finest);
        }
        let file = |layer: usize| {
            let mut bytes = Vec::new();
            layers.write_layer(0, layer, &mut bytes, &mut |_| {}).unwrap();
            bytes
        };
        assert_eq!(file(2), layers.file(0).unwrap());
        for layer in 0..3 {
            assert!(file(layer).ends_with(&apart.tensor(&format!("u8.two, layer {}", layer.min(1))).unwrap()));
        }
    }
}
