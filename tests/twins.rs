//! The WGSL stages against their CPU twins, on whatever adapter there is (in CI: lavapipe).
//!
//! Integers must be identical, weights within one unit in the last place of the element type. Every comparison is also
//! shown a frame that was tampered with on one side, and must notice. Without an adapter these tests fail, unless
//! `MCWC_NO_GPU=1` says that there is none.
#![cfg(feature = "gpu")]

#[path = "../src/noise.rs"]
mod noise;

use std::sync::OnceLock;

use mcwc::Error;
use mcwc::format::LEVEL_END;
use mcwc::gpu::{Device, LevelFrame, Reconstructor};
use mcwc::stages::pack::{LEVEL_BITS, level_bits, pack};
use mcwc::stages::permute::Permutation;
use mcwc::stages::quantize::scales;
use mcwc::tensor::DType;
use noise::Noise;

const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
const INTEGERS: [DType; 5] = [DType::I8, DType::U8, DType::I16, DType::U16, DType::Bool];

fn reconstructor() -> Option<&'static Reconstructor> {
    static RECONSTRUCTOR: OnceLock<Option<Reconstructor>> = OnceLock::new();
    let request = || {
        if std::env::var_os("MCWC_NO_GPU").is_some_and(|value| value == "1") {
            eprintln!("skipped: MCWC_NO_GPU=1");
            return None;
        }
        let create = async { Reconstructor::new(Device::request().await?).await };
        Some(pollster::block_on(create).expect("an adapter, or MCWC_NO_GPU=1"))
    };
    RECONSTRUCTOR.get_or_init(request).as_ref()
}

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
struct Case {
    dtype: DType,
    shape: [usize; 3],
    scales: Vec<f32>,
    first_exponent: i32,
    zero_point: i32,
    exponents: [Vec<i8>; 3],
    permutations: [Option<Permutation>; 2],
    column_major: bool,
    levels: Vec<i32>,
    level_bits: u32,
}

impl Case {
    /// `arrays` has a bit for each side array: exponents of rows, columns and taps, permutations of rows and columns; then
    /// one for the column-major layout.
    fn new(dtype: DType, shape: [usize; 3], level_bits: u32, arrays: u32, scale: f32, seed: u64) -> Self {
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
            column_major: arrays >> 5 & 1 == 1,
            levels: random.levels(shape[0] * row_len, level_bits),
            level_bits,
        };
        if dtype.is_float() {
            case.set_scale(scale);
        }
        case
    }

    fn set_scale(&mut self, scale: f32) {
        let sum = |extreme: fn(i32, i32) -> i32| -> i32 {
            let of = |array: &Vec<i8>| array.iter().map(|&e| i32::from(e)).reduce(extreme).unwrap_or(0);
            self.exponents.iter().map(of).sum()
        };
        self.first_exponent = sum(Ord::min);
        self.scales = scales(scale, self.first_exponent, sum(Ord::max)).unwrap();
    }

    fn frame(&self) -> LevelFrame<'_> {
        LevelFrame {
            dtype: self.dtype,
            rows: self.shape[0],
            columns: self.shape[1],
            taps: self.shape[2],
            scales: &self.scales,
            first_exponent: self.first_exponent,
            zero_point: self.zero_point,
            row_exponent: &self.exponents[0],
            column_exponent: &self.exponents[1],
            tap_exponent: &self.exponents[2],
            column_major: self.column_major,
            row_permutation: self.permutations[0].as_ref(),
            column_permutation: self.permutations[1].as_ref(),
        }
    }

    fn on_cpu(&self) -> Vec<u8> {
        self.frame().reconstruct(&self.levels).unwrap()
    }

    fn on_gpu(&self, gpu: &Reconstructor) -> Vec<u8> {
        let mut packed = Vec::new();
        assert!(pack(&self.levels, self.level_bits, &mut packed));
        on_gpu(gpu, &self.frame(), &packed, self.level_bits)
    }

    fn name(&self) -> String {
        let arrays = self.exponents.each_ref().map(|array| !array.is_empty());
        let permutations = self.permutations.each_ref().map(Option::is_some);
        let (dtype, shape, bits) = (self.dtype, self.shape, self.level_bits);
        format!("{dtype:?} {shape:?}, {bits}-bit levels, exponents {arrays:?}, permutations {permutations:?}")
    }
}

fn on_gpu(gpu: &Reconstructor, frame: &LevelFrame, packed: &[u8], level_bits: u32) -> Vec<u8> {
    let run = async {
        let tensor = gpu.reconstruct(frame, packed, level_bits).await?;
        assert_eq!(tensor.size(), frame.bytes().next_multiple_of(16));
        let bytes = gpu.device().read(&tensor, tensor.size()).await?;
        let (bytes, padding) = bytes.split_at(frame.bytes() as usize);
        assert!(padding.iter().all(|&byte| byte == 0), "the padding is zeros");
        mcwc::Result::Ok(bytes.to_vec())
    };
    pollster::block_on(run).unwrap()
}

/// Elements further apart than the contract allows.
fn differences(dtype: DType, expected: &[u8], found: &[u8]) -> usize {
    assert_eq!(expected.len(), found.len());
    let element_bytes = (dtype.bits() / 8) as usize;
    let elements = expected.chunks_exact(element_bytes).zip(found.chunks_exact(element_bytes));
    elements.filter(|(expected, found)| distance(dtype, expected, found) > u64::from(dtype.is_float())).count()
}

/// Steps between two elements: units in the last place for floats. A float64 holds a widened float32, and counts as that.
fn distance(dtype: DType, a: &[u8], b: &[u8]) -> u64 {
    let ordered = |bytes: &[u8]| {
        let raw = bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        let (raw, bits) = match dtype {
            DType::F64 if f64::from(f64::from_bits(raw) as f32).to_bits() != raw => return i64::MIN / 2,
            DType::F64 => (u64::from((f64::from_bits(raw) as f32).to_bits()), 32),
            _ => (raw, dtype.bits()),
        };
        let sign = 1 << (bits - 1);
        if dtype.is_float() && raw & sign != 0 { -((raw & !sign) as i64) } else { raw as i64 }
    };
    ordered(a).abs_diff(ordered(b))
}

#[track_caller]
fn assert_twins(case: &Case) {
    let Some(gpu) = reconstructor() else { return };
    let (expected, found) = (case.on_cpu(), case.on_gpu(gpu));
    assert_eq!(differences(case.dtype, &expected, &found), 0, "{}", case.name());
}

/// For products that need no rounding: then everything else is integer arithmetic, and must be identical.
#[track_caller]
fn assert_identical(case: &Case) {
    let Some(gpu) = reconstructor() else { return };
    let same = case.on_cpu() == case.on_gpu(gpu);
    assert!(same, "{}", case.name());
}

const SHAPES: [[usize; 3]; 8] =
    [[1, 1, 1], [1, 257, 1], [257, 1, 1], [13, 17, 1], [7, 11, 9], [1, 3, 25], [31, 1, 3], [64, 96, 1]];

#[test]
fn floats_agree_over_shapes_packings_and_arrays() {
    let mut seed = 0;
    for dtype in FLOATS {
        for shape in SHAPES {
            for level_bits in LEVEL_BITS {
                for arrays in [0b00000, 0b00111, 0b11000, 0b01010, 0b10101, 0b11111, 0b100000, 0b111111] {
                    seed += 1;
                    assert_twins(&Case::new(dtype, shape, level_bits, arrays, 0.0123, seed));
                }
            }
        }
    }
}

#[test]
fn integers_agree_over_shapes_packings_and_permutations() {
    let mut seed = 1000;
    for dtype in INTEGERS {
        for shape in SHAPES {
            for level_bits in LEVEL_BITS {
                for arrays in [0b00000, 0b01000, 0b10000, 0b11000, 0b100000] {
                    seed += 1;
                    assert_identical(&Case::new(dtype, shape, level_bits, arrays, 1.0, seed));
                }
            }
        }
    }
}

#[test]
fn casts_agree_from_the_smallest_scale_to_the_largest() {
    // Exponents reach from 2^-24 to 2^24; f16 and bf16 saturate at one end, f16 turns subnormal and zero at the other.
    for dtype in FLOATS {
        for octave in [-76, -60, -36, -30, -24, -20, -12, 0, 12, 40, 76] {
            let scale = 1.1 * (octave as f32).exp2();
            assert_twins(&Case::new(dtype, [19, 23, 3], 32, 0b11111, scale, octave as u64));
        }
    }
}

#[test]
fn exact_products_are_cast_identically() {
    // Scales are powers of two: significands of up to 24 bits with all the ties between those of f16 and bf16, from where
    // f16 is zero to where it saturates.
    for dtype in FLOATS {
        let mut case = Case::new(dtype, [2, 1 << 15, 1], 32, 0, 1.0, 5);
        case.levels = (0..1 << 16).map(|i| if i % 2 == 0 { i / 2 } else { -(i / 2) * 511 }).collect();
        for octave in [-90, -40, -36, -32, -28, -24, -12, 0, 8, 90] {
            case.set_scale((octave as f32).exp2());
            assert_identical(&case);
        }
    }
}

#[test]
fn dispatches_of_more_than_one_row_agree() {
    // One row of the dispatch makes 65535 workgroups of 64 words.
    let mut case = Case::new(DType::F32, [1, 65535 * 64 / 3 + 77, 3], 8, 0b00110, 0.01, 6);
    assert_twins(&case);
    case.shape = [case.shape[1], 1, 3];
    case.exponents[1].clear();
    case.set_scale(0.01);
    assert_twins(&case);
}

#[test]
fn every_tampered_field_is_noticed() {
    let Some(gpu) = reconstructor() else { return };
    let swapped = |permutation: &mut Option<Permutation>| {
        let mut places = permutation.as_ref().unwrap().places().to_vec();
        places.swap(0, 1);
        *permutation = Some(Permutation::new(places).unwrap());
    };
    type Tamper<'a> = (&'a str, &'a dyn Fn(&mut Case));
    let tampers: [Tamper; 8] = [
        ("a level", &|case| case.levels[4] += 1),
        ("the last level", &|case| *case.levels.last_mut().unwrap() += 1),
        ("a row exponent", &|case| case.exponents[0][4] += 1),
        ("a column exponent", &|case| case.exponents[1][4] += 1),
        ("a tap exponent", &|case| case.exponents[2][2] += 1),
        ("the row permutation", &|case| swapped(&mut case.permutations[0])),
        ("the column permutation", &|case| swapped(&mut case.permutations[1])),
        ("the zero point", &|case| case.zero_point += 1),
    ];
    for dtype in FLOATS.into_iter().chain(INTEGERS) {
        for level_bits in LEVEL_BITS {
            let mut case = Case::new(dtype, [7, 11, 3], level_bits, 0b11111, 1.0, 7);
            case.levels = (0..7 * 11 * 3).map(|i| 1 + i % 100).collect();
            if dtype.is_float() {
                // Values that no dtype saturates, and one more step of exponent within the table.
                case.exponents.iter_mut().flatten().for_each(|exponent| *exponent /= 16);
                case.set_scale(0.01);
                case.scales = scales(0.01, case.first_exponent, case.first_exponent + 60).unwrap();
            }
            let found = case.on_gpu(gpu);
            assert_eq!(differences(dtype, &case.on_cpu(), &found), 0, "{}", case.name());
            for (name, tamper) in &tampers {
                let applies = match *name {
                    "the zero point" => !dtype.is_float(),
                    name => dtype.is_float() || !name.contains("exponent"),
                };
                if applies {
                    let mut tampered = case.clone();
                    tamper(&mut tampered);
                    assert!(differences(dtype, &tampered.on_cpu(), &found) > 0, "{name}: {}", case.name());
                }
            }
        }
    }
}

#[test]
fn comparison_allows_one_unit_in_the_last_place_and_no_more() {
    let steps = |value: f32, steps: u32| f32::from_bits(value.to_bits() + steps).to_le_bytes();
    let differ = |a: &[u8], b: &[u8]| differences(DType::F32, a, b);
    assert_eq!(differ(&steps(1.5, 0), &steps(1.5, 1)), 0);
    assert_eq!(differ(&steps(1.5, 0), &steps(1.5, 2)), 1);
    assert_eq!(differ(&steps(1.5, 0), &(-1.5f32).to_le_bytes()), 1);
    let widened = |value: f32| f64::from(value).to_le_bytes();
    let next = f32::from_bits(1.5f32.to_bits() + 1);
    assert_eq!(differences(DType::F64, &widened(1.5), &widened(next)), 0);
    assert_eq!(differences(DType::F64, &widened(1.5), &1.500_000_000_1f64.to_le_bytes()), 1);
    assert_eq!(differences(DType::U8, &[7], &[8]), 1);
}

#[test]
fn self_test_passes() {
    let Some(gpu) = reconstructor() else { return };
    eprintln!("{} (fallback: {})", gpu.device().name(), gpu.device().is_fallback());
    pollster::block_on(gpu.self_test()).unwrap();
}

#[test]
fn refuses_what_does_not_fit() {
    let Some(gpu) = reconstructor() else { return };
    let case = Case::new(DType::F32, [4, 4, 1], 8, 0b11111, 1.0, 8);
    let error = |frame: &LevelFrame, packed: &[u8], bits| {
        pollster::block_on(gpu.reconstruct(frame, packed, bits)).expect_err("must be refused")
    };
    let frame = case.frame();
    assert!(matches!(error(&frame, &[0; 15], 8), Error::Argument(_)));
    assert!(matches!(error(&frame, &[0; 17], 8), Error::Argument(_)));
    assert!(matches!(error(&frame, &[0; 16], 12), Error::Argument(_)));
    let short = LevelFrame { scales: &case.scales[1..], ..frame.clone() };
    assert!(matches!(error(&short, &[0; 16], 8), Error::Argument(_)));
    let low = LevelFrame { first_exponent: frame.first_exponent + 1, ..frame.clone() };
    assert!(matches!(error(&low, &[0; 16], 8), Error::Argument(_)));
    let steps = vec![1.0; 1 << 17];
    let far = LevelFrame { scales: &steps, first_exponent: -1 << 16, ..frame.clone() };
    assert!(matches!(error(&far, &[0; 16], 8), Error::Argument(_)));
    let long = LevelFrame { columns: 5, ..frame.clone() };
    assert!(matches!(error(&long, &[0; 20], 8), Error::Argument(_)));
    let whole = LevelFrame { dtype: DType::I64, scales: &[], ..frame.clone() };
    assert!(matches!(error(&whole, &[0; 16], 8), Error::Unsupported { .. }));
    let huge = LevelFrame { rows: 1 << 20, columns: 1 << 12, row_exponent: &[], column_exponent: &[], ..frame.clone() };
    assert!(matches!(error(&huge, &[], 8), Error::Unsupported { .. }));
    let empty = LevelFrame { rows: 0, ..frame };
    assert!(matches!(error(&empty, &[], 8), Error::Unsupported { .. }));
}

#[test]
fn refuses_a_tensor_above_the_binding_limit() {
    let Some(gpu) = reconstructor() else { return };
    let rows = (gpu.device().binding_bytes_max() / (1 << 20)) as usize + 1;
    let case = Case::new(DType::F64, [1, 1, 1], 8, 0, 1.0, 9);
    let frame = LevelFrame { rows, columns: 1 << 17, ..case.frame() };
    let begun = pollster::block_on(gpu.begin(&frame, 8));
    assert!(matches!(begun, Err(Error::Unsupported { .. })), "{begun:?}");
}

#[test]
fn a_lost_device_is_an_error() {
    if reconstructor().is_none() {
        return;
    }
    let lost = async {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance.request_adapter(&Default::default()).await.unwrap();
        let (device, queue) = adapter.request_device(&Default::default()).await.unwrap();
        let gpu = Reconstructor::new(Device::new(device.clone(), queue, &adapter.get_info())).await.unwrap();
        gpu.self_test().await.expect("a device of the host serves as well as our own");
        device.destroy();
        gpu.self_test().await
    };
    let error = pollster::block_on(lost).expect_err("the device is gone");
    assert_eq!(error.code(), "gpu", "{error}");
}

#[test]
fn levels_may_be_written_in_parts() {
    let Some(gpu) = reconstructor() else { return };
    let case = Case::new(DType::F16, [8, 24, 1], 16, 0b11011, 0.01, 10);
    assert_eq!(level_bits(&case.levels), 16);
    let mut packed = Vec::new();
    assert!(pack(&case.levels, 16, &mut packed));
    let run = async {
        let begun = gpu.begin(&case.frame(), 16).await?;
        for (part, index) in packed.chunks(48).zip(0..) {
            gpu.write_levels(&begun, 48 * index, part)?;
        }
        gpu.device().read(&gpu.finish(begun).await?, case.frame().bytes()).await
    };
    assert_eq!(differences(DType::F16, &case.on_cpu(), &pollster::block_on(run).unwrap()), 0);
}

#[cfg(feature = "encoder")]
mod from_archive_to_tensor {
    use super::*;
    use mcwc::container::{FileEntry, FrameEntry, Header, Side, TensorEntry, serialize_chunk_entry, serialize_head};
    use mcwc::decode::Reader;
    use mcwc::entropy::{EncoderTable, LevelChunk, Table, encode_levels, raw_plane};
    use mcwc::format;
    use mcwc::tensor::Limits;

    const ROWS_PER_CHUNK: usize = 2;

    /// An archive whose one tensor, "w", is this case: plain tables, all classes 0, large levels as escapes. Under the
    /// trellis the case's levels are indices.
    fn archive(case: &Case, scale: f32, trellis: bool) -> Vec<u8> {
        let table = Table::new(-8, [vec![240; 16], vec![256]].concat()).unwrap();
        let tables = vec![table; 1 + usize::from(trellis)];
        let models: Vec<EncoderTable> = tables.iter().map(EncoderTable::new).collect();
        let [rows, columns, taps] = case.shape;
        let row_len = columns * taps;
        let arrays = [Side::RowExponent, Side::ColumnExponent, Side::TapExponent];
        let mut side: Vec<u8> = Vec::new();
        for exponents in &case.exponents {
            side.extend(raw_plane(&exponents.iter().map(|&exponent| exponent as u8).collect::<Vec<_>>()));
        }
        case.permutations.iter().flatten().for_each(|permutation| side.extend(permutation.serialize()));
        let mut payloads = vec![side];
        for levels in case.levels.chunks(ROWS_PER_CHUNK * row_len) {
            let (row_class, col_class) = (vec![0; levels.len() / row_len], vec![0; row_len]);
            let (row_class, col_class) = (&row_class, &col_class);
            let chunk = LevelChunk { levels, cols: row_len, row_class, col_class, low_bits: 0, trellis };
            payloads.push(encode_levels(&chunk, &models).unwrap());
        }
        let bits = arrays.into_iter().chain([Side::RowPermutation, Side::ColumnPermutation]).map(Side::bit).sum();
        let frame = FrameEntry {
            coding: format::CODING_LEVELS,
            chunk_len: (ROWS_PER_CHUNK * row_len) as u32,
            matrix: Some([rows, columns, taps].map(|extent| extent as u64).to_vec()),
            tables: Some(vec![0, tables.len() as u64]),
            scale: Some(scale),
            side: Some(bits),
            quantizer: trellis.then_some(format::QUANTIZER_TRELLIS),
            ..FrameEntry::default()
        };
        let bytes = case.frame().bytes();
        let shape = case.shape.map(|extent| extent as u64).to_vec();
        let (dtype, frames) = (case.dtype as u32, Some(vec![0]));
        let mut header = Header {
            files: vec![FileEntry { name: "model".into(), bytes, first_raw_chunk: 0 }],
            tensors: vec![TensorEntry { name: "w".into(), dtype, shape, file: 0, offset: 0, frames }],
            frames: vec![frame],
            ..Header::default()
        };
        tables.iter().for_each(|table| table.serialize(&mut header.tables));
        payloads.iter().for_each(|payload| serialize_chunk_entry(payload, &mut header.chunks).unwrap());
        [serialize_head(&header, None).unwrap(), payloads.concat()].concat()
    }

    #[test]
    fn gpu_gives_what_reading_the_archive_gives() {
        let Some(gpu) = reconstructor() else { return };
        for (dtype, trellis) in FLOATS.into_iter().flat_map(|dtype| [(dtype, false), (dtype, true)]) {
            let mut case = Case::new(dtype, [7, 11, 3], 16, 0b11111, 0.02, 20);
            case.levels.iter_mut().skip(3).for_each(|level| *level %= 12);
            case.levels.iter_mut().take(3).for_each(|level| *level /= 2);
            let archive = archive(&case, 0.02, trellis);
            let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
            let mut decoder = reader.frame(0).unwrap();
            let (mut levels, mut packed) = (Vec::new(), Vec::new());
            for index in 0..decoder.frame().chunk_count {
                let payload = reader.payload(decoder.frame().first_chunk + index).unwrap();
                let decoded = decoder.decode_levels(index, &payload).unwrap();
                assert!(pack(&decoded, 16, &mut packed));
                levels.extend(decoded);
            }
            assert_eq!(levels == case.levels, !trellis);
            let frame = LevelFrame::new(&decoder).unwrap();
            let found = on_gpu(gpu, &frame, &packed, 16);
            let mut expected = reader.tensor("w").unwrap();
            assert_eq!(frame.reconstruct(&levels).unwrap(), expected, "the plain twin is the normative result");
            assert_eq!(differences(dtype, &expected, &found), 0, "{}", case.name());
            let last = expected.len() - 1;
            expected[last] ^= 1;
            assert_eq!(differences(dtype, &expected, &found), 1);
        }
    }
}
