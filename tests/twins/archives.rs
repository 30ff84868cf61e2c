//! From archives to tensors: what the GPU makes of payloads is what reading the archive gives.

use crate::Noise;
use crate::common::changed::with_chunk;
use crate::common::frames::{self, Case, case, predicted};
use crate::compare::{gpu_decoder, read};
use crate::differences::{differences, transform_differences};
use mcwc::Result;
use mcwc::container::{Coding, Hash};
use mcwc::decode::Reader;
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::levels::frame::Prediction;
use mcwc::encode::levels::matrix::Matrix;
use mcwc::gpu::{Decoder, cast};
use mcwc::tensor::{DType, Limits};

type Tensors = Vec<(String, DType, Vec<u8>)>;

/// The tensors of frames that the GPU takes, each as `dtype` or as its own type: by the GPU all at once, and by the CPU.
fn both(gpu: &Decoder, reader: &Reader<[u8]>, dtype: Option<DType>) -> (Result<Vec<Vec<u8>>>, Result<Tensors>) {
    let archive = reader.archive();
    let takes = |frame: usize| matches!(&archive.frames[frame].coding, Coding::Levels(_));
    let tensors: Vec<_> =
        archive.tensors.iter().filter(|tensor| tensor.frames.last().is_some_and(|&f| takes(f))).collect();
    let frames: Vec<usize> = tensors.iter().map(|tensor| *tensor.frames.last().unwrap()).collect();
    let on_cpu = tensors.iter().map(|tensor| {
        let bytes = reader.tensor(&tensor.name)?;
        let bytes = dtype.map_or(Ok(bytes.clone()), |dtype| cast(&bytes, tensor.dtype, dtype))?;
        Ok((tensor.name.clone(), dtype.unwrap_or(tensor.dtype), bytes))
    });
    let on_cpu: Result<Tensors> = on_cpu.collect();
    let on_gpu = async {
        let buffers = gpu.decode(archive, &frames, dtype, |chunk| reader.payload(chunk)).await?;
        assert_eq!(buffers.len(), tensors.len());
        let mut bytes = Vec::new();
        for (buffer, tensor) in buffers.iter().zip(&tensors) {
            let elements = tensor.bytes / tensor.dtype.element_bytes() as u64;
            let element_bytes = dtype.unwrap_or(tensor.dtype).element_bytes() as u64;
            bytes.push(read(gpu, buffer, elements * element_bytes).await?);
        }
        Ok(bytes)
    };
    (pollster::block_on(on_gpu), on_cpu)
}

/// Gives the number of tensors that both decoded.
#[track_caller]
fn assert_both(gpu: &Decoder, archive: &[u8], base: Option<&Reader<[u8]>>, what: &str) -> usize {
    let reader = Reader::open(archive, &Limits::default()).unwrap();
    let reader = match base {
        Some(base) => reader.with_base(base).unwrap(),
        None => reader,
    };
    let mut count = 0;
    for dtype in [None, Some(DType::F32), Some(DType::F16)] {
        let (on_gpu, on_cpu) = both(gpu, &reader, dtype);
        let (on_gpu, on_cpu) = (on_gpu.unwrap(), on_cpu.unwrap());
        for (found, (name, dtype, expected)) in on_gpu.iter().zip(&on_cpu) {
            let tensor = reader.archive().tensors.iter().find(|tensor| tensor.name == *name).unwrap();
            let differences = match &reader.archive().frames[*tensor.frames.last().unwrap()].coding {
                Coding::Levels(levels) if levels.dct => {
                    let kernels = (levels.taps, levels.column_major.then_some(levels.rows));
                    transform_differences([tensor.dtype, *dtype], kernels, expected, found)
                }
                _ => differences(*dtype, expected, found),
            };
            assert_eq!(differences, 0, "{name} as {dtype:?} of {what}");
        }
        count = on_cpu.len();
    }
    count
}

#[test]
fn frames_of_every_kind_decode_as_on_the_cpu() {
    let Some(gpu) = gpu_decoder() else { return };
    let mut random = Noise(30);
    let shapes = [[1, 1, 1], [3, 200, 1], [59, 7, 1], [40, 33, 3], [130, 64, 1], [2, 3, 25]];
    for (index, dtype) in (0..).zip(frames::FLOATS.into_iter().chain(frames::INTEGERS).cycle().take(36)) {
        let [rows, columns, taps] = shapes[index % shapes.len()];
        let parts = random.next() as u32 & 0x3ff;
        let low_bits = if index % 3 == 0 { random.below(12) as u32 } else { 0 };
        let case = case(Matrix { rows, columns, taps }, dtype, parts, low_bits, random.next());
        assert_eq!(assert_both(gpu, &case.archive(), None, &format!("{case:?}")), 1);
    }
}

#[test]
fn predicted_frames_decode_as_on_the_cpu() {
    let Some(gpu) = gpu_decoder() else { return };
    for (seed, dtype) in (40..).zip(frames::FLOATS.into_iter().cycle().take(12)) {
        let case = predicted(&[[30, 12, 21], [7, 40, 40]][seed as usize % 2], 33, 1 + seed as usize % 3, dtype, seed);
        let archive = cut(case, seed as usize % 3 * 5).archive();
        assert_eq!(assert_both(gpu, &archive, None, "predicted frames"), 3);
    }
}

/// The same frames, in chunks of so many rows.
fn cut(case: Case, chunk_rows: usize) -> Case {
    Case { chunk_rows, reference: case.reference.map(|reference| Box::new(cut(*reference, chunk_rows))), ..case }
}

#[test]
fn rows_that_are_longer_than_chunks_decode_as_on_the_cpu() {
    let Some(gpu) = gpu_decoder() else { return };
    let matrix = Matrix { rows: 2, columns: 300_000, taps: 1 };
    let long = case(matrix, DType::F16, 0b11011, 3, 50);
    assert_eq!(assert_both(gpu, &long.archive(), None, "long rows"), 1);
    let [reference, mut frame] = [(3, 51), (2, 52)]
        .map(|(rows, seed)| case(Matrix { rows, columns: 270_000, taps: 1 }, DType::F32, 0b1011, 0, seed));
    frame.plan.prediction = Some(Prediction { reference: [0, 0], gain: -300, row_gain: Vec::new() });
    frame.reference = Some(Box::new(reference));
    assert_eq!(assert_both(gpu, &frame.archive(), None, "predicted long rows"), 2);
}

#[test]
fn matrices_of_few_columns_decode_as_on_the_cpu() {
    let Some(gpu) = gpu_decoder() else { return };
    for (seed, columns) in (53..).zip(1..=4) {
        // More rows than the encoder gives to a lane.
        let narrow = case(Matrix { rows: 70_000, columns, taps: 1 }, DType::F32, 0b1_0001_1011, 0, seed);
        assert_eq!(assert_both(gpu, &narrow.archive(), None, &format!("{columns} columns")), 1);
    }
}

#[test]
fn chunks_of_many_lanes_decode_as_on_the_cpu() {
    let Some(gpu) = gpu_decoder() else { return };
    for (seed, lanes, lanes_log2) in [(55, 16, 4), (56, 64, 6), (57, 256, 8)] {
        let mut case = case(Matrix { rows: 512, columns: 512, taps: 1 }, DType::F32, 0b1_0001_1011, 0, seed);
        case.plan.lanes = lanes;
        case.levels.iter_mut().for_each(|level| *level %= 3);
        let archive = case.archive();
        let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
        assert_eq!(reader.payload(reader.archive().frames[0].first_chunk).unwrap()[0], lanes_log2);
        assert_eq!(assert_both(gpu, &archive, None, "many lanes"), 1);
    }
}

#[test]
fn batches_of_several_threads_do_not_meet() {
    let Some(gpu) = gpu_decoder() else { return };
    let archives = [60, 61, 62, 63].map(|seed| {
        case(Matrix { rows: 60 + seed as usize, columns: 50, taps: 1 }, DType::F32, 0b1011, 0, seed).archive()
    });
    std::thread::scope(|scope| {
        for archive in &archives {
            scope.spawn(move || {
                (0..15).for_each(|_| assert_eq!(assert_both(gpu, archive, None, "one of several threads"), 1));
            });
        }
    });
}

#[test]
fn words_that_are_sent_in_several_parts_decode_as_on_the_cpu() {
    let Some(gpu) = gpu_decoder() else { return };
    // As f32 so much that a thread makes it.
    let large = case(Matrix { rows: 2048, columns: 2100, taps: 1 }, DType::F16, 0b1011, 15, 58).archive();
    assert!(large.len() > 9 << 20, "more than is added, and sent, at once");
    assert_eq!(assert_both(gpu, &large, None, "many words"), 1);
}

#[test]
fn archives_of_the_past_decode_as_on_the_cpu() {
    let Some(gpu) = gpu_decoder() else { return };
    let read = |name: &str| std::fs::read(format!("tests/vectors/valid/{name}.mcwc")).unwrap();
    let names =
        ["every-kind-5-bits", "every-side-array", "integers-and-adaptive", "layers", "layers-apart", "predicted"];
    let mut count = 0;
    for name in names.into_iter().chain(["scattered-and-transformed", "bound-overflows"]) {
        count += assert_both(gpu, &read(name), None, name);
    }
    assert!(count > 50, "{count}");
    let [base, delta, next] = ["delta-base", "delta", "delta-of-delta"].map(read);
    let base = Reader::open(base.as_slice(), &Limits::default()).unwrap();
    let middle = Reader::open(delta.as_slice(), &Limits::default()).unwrap().with_base(&base).unwrap();
    assert!(assert_both(gpu, &delta, Some(&base), "delta") > 0);
    assert!(assert_both(gpu, &next, Some(&middle), "delta of delta") > 0);
}

#[test]
fn payloads_that_lie_are_judged_as_on_the_cpu() {
    let Some(gpu) = gpu_decoder() else { return };
    let mut random = Noise(60);
    let mut verdicts = [0, 0];
    let key =
        |parts, low_bits, seed| case(Matrix { rows: 20, columns: 34, taps: 1 }, DType::F32, parts, low_bits, seed);
    let mut related = predicted(&[20, 18], 34, 1, DType::F32, 63);
    related.plan.prediction.as_mut().unwrap().gain = 700;
    for case in [key(0, 0, 61), key(0b1_0000_1011, 0, 62), key(0, 4, 64), related] {
        let archive = cut(case, 9).archive();
        let chunks = mcwc::Archive::parse(&archive, &Limits::default()).unwrap().chunks.len();
        for _ in 0..60 {
            let chunk = random.below(chunks);
            let changed = with_chunk(&archive, chunk, |payload| {
                let byte = random.below(payload.len());
                payload[byte] ^= 1 << random.below(8);
            });
            let reader = Reader::open(changed.as_slice(), &Limits::default()).unwrap();
            match both(gpu, &reader, None) {
                (Ok(found), Ok(expected)) => {
                    let pairs = found.iter().zip(&expected);
                    assert!(pairs.into_iter().all(|(found, (_, _, expected))| found == expected));
                    verdicts[0] += 1;
                }
                (Err(found), Err(expected)) => {
                    assert_eq!(found.code(), expected.code(), "{found} / {expected}");
                    verdicts[1] += 1;
                }
                (found, expected) => panic!("{:?} / {:?}", found.map(|_| ()), expected.map(|_| ())),
            }
        }
    }
    assert!(verdicts.iter().all(|&count| count > 20), "{verdicts:?}");
}

#[test]
fn a_lane_that_does_not_end_is_named() {
    let Some(gpu) = gpu_decoder() else { return };
    let archive = case(Matrix { rows: 200, columns: 64, taps: 1 }, DType::F32, 0, 0, 70).archive();
    // After the number of lanes, their lengths: a word less for one, and one more for the next.
    let last = mcwc::Archive::parse(&archive, &Limits::default()).unwrap().chunks.len() - 1;
    let changed = with_chunk(&archive, last, |payload| {
        assert!(1 << payload[0] >= 4, "there are lanes");
        payload[3] -= 1;
        payload[5] += 1;
    });
    let reader = Reader::open(changed.as_slice(), &Limits::default()).unwrap();
    let (on_gpu, on_cpu) = both(gpu, &reader, None);
    let (found, expected) = (on_gpu.unwrap_err().to_string(), on_cpu.unwrap_err().to_string());
    assert_eq!(found, expected);
    assert_eq!(found, "invalid lanes: lane 1 does not end where it should (chunk 1 of tensor t)");
}

#[test]
fn predictions_that_lead_out_of_range_are_noticed() {
    let Some(gpu) = gpu_decoder() else { return };
    let mut verdicts = [0, 0];
    for (rows, gain) in [(5, i16::MAX), (5, i16::MIN), (300, 4000), (5, 3000)] {
        let mut case = predicted(&[rows; 4], 40, 1, DType::F32, 80);
        let mut next = Some(&mut case);
        while let Some(case) = next {
            if let Some(prediction) = &mut case.plan.prediction {
                (prediction.gain, prediction.row_gain) = (gain.into(), Vec::new());
            }
            next = case.reference.as_deref_mut();
        }
        let archive = cut(case, 2).archive();
        let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
        match both(gpu, &reader, None) {
            (Ok(found), Ok(expected)) => {
                let same = found.iter().zip(&expected).all(|(found, (_, _, expected))| found == expected);
                assert!(same);
                verdicts[0] += 1;
            }
            (found, expected) => {
                let (found, expected) = (found.unwrap_err().to_string(), expected.unwrap_err().to_string());
                assert_eq!(found, expected);
                assert!(found.starts_with("invalid level: a prediction leads out of range (chunk"), "{found}");
                verdicts[1] += 1;
            }
        }
    }
    assert!(verdicts[0] > 0 && verdicts[1] > 0, "{verdicts:?}");
}

/// Frames for the self-test of devices: every array and every kind of level, and weights that are exact.
fn self_test_cases() -> [Case; 4] {
    let exact = |mut case: Case| {
        case.plan.scale = case.plan.scale.map(|_| 0.0625);
        case.plan.exponents.iter_mut().flatten().for_each(|exponent| *exponent = *exponent % 3 * 16);
        case.chunk_rows = 4;
        // Small but for a few, so that tables are short.
        case.levels.iter_mut().skip(2).for_each(|level| *level %= 3);
        case.levels.iter_mut().take(2).for_each(|level| *level = *level * 100 + 700);
        case
    };
    let of = |dtype, [rows, columns, taps]: [usize; 3], parts, low_bits, seed| {
        exact(case(Matrix { rows, columns, taps }, dtype, parts, low_bits, seed))
    };
    // Two lanes, which take few bytes.
    let mut sparse = of(DType::F32, [66, 32, 2], 0b1_1111_1111, 0, 90);
    sparse.chunk_rows = 66;
    (0..).zip(&mut sparse.levels).for_each(|(at, level)| *level = if at % 61 == 0 { at / 61 % 5 - 2 } else { 0 });
    let integers = of(DType::I8, [5, 7, 1], 0b10_1000_0111, 3, 91);
    let mut first = of(DType::F16, [9, 5, 4], 0b1_1111, 0, 92);
    // Coefficients whose entries are all halves.
    first.plan.dct = true;
    first.levels.iter_mut().skip(1).step_by(2).for_each(|level| *level = 0);
    let mut second = of(DType::BF16, [7, 5, 4], 0b1_0110_1110, 0, 93);
    second.plan.prediction =
        Some(Prediction { reference: [0, 0], gain: 0, row_gain: (0..7).map(|row| 100 * row - 200).collect() });
    second.reference = Some(Box::new(first.clone()));
    [first, second, sparse, integers]
}

/// Taps that are multiples of 2^-20, as f16.
fn exact_taps(case: &Case) -> Vec<u8> {
    let unit = f64::from(1 << 20);
    // No zero is negative.
    let tap = |tap: &f64| half::f16::from_f64((tap * unit).round() / unit + 0.0).to_le_bytes();
    frames::taps(case).iter().flat_map(tap).collect()
}

#[test]
fn the_self_test_has_every_kind_of_frame() {
    let cases = self_test_cases();
    let mut builder = ArchiveBuilder::default();
    Case::push_file(&cases.each_ref(), &mut builder);
    let archive = builder.finish().unwrap();
    let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    let buffers = reader.archive().tensors.iter().map(|tensor| {
        let mut bytes = reader.tensor(&tensor.name).unwrap();
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        bytes
    });
    let hash = Hash::of(&[&buffers.collect::<Vec<_>>().concat()]).0;
    if std::env::var_os("MCWC_WRITE_VECTORS").is_some() {
        std::fs::write("src/gpu/self-test.mcwc", &archive).unwrap();
        std::fs::write("src/gpu/self-test.hash", hash).unwrap();
    }
    let stored = std::fs::read("src/gpu/self-test.mcwc").unwrap();
    let stored = Reader::open(stored.as_slice(), &Limits::default()).unwrap();
    assert_eq!(stored.file(0).unwrap(), reader.file(0).unwrap());
    assert_eq!(std::fs::read("src/gpu/self-test.hash").unwrap(), hash);
    for (tensor, case) in reader.archive().tensors.iter().zip(&cases) {
        let expected = if case.plan.dct { exact_taps(case) } else { case.expected() };
        assert_eq!(frames::difference(&reader.tensor(&tensor.name).unwrap(), &expected), None);
    }
}
