//! Frames of stored archives, and of the same written anew, against FORMAT.md's formulas.

#![cfg(feature = "encoder")]

mod common;

use common::frames::{Case, case, difference, predicted, taps};
use common::{Tensor, safetensors};
use mcwc::container::{FileEntry, TensorEntry};
use mcwc::decode::Reader;
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::exact::planes::encode_plane;
use mcwc::encode::levels::matrix::Matrix;
use mcwc::encode::to_f32;
use mcwc::tensor::{DType, Limits};

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
    let first_raw_chunk = builder.push_chunks(vec![encode_plane(&bytes[..offset])]).unwrap();
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

/// Tensors of up to three passes.
fn refined() -> Vec<(&'static str, Case)> {
    let tensors = [
        ("f32", DType::F32, 3, 42, [33, 1], 17, 2),
        ("f32.columns", DType::F32, 3, 25, [41, 1], 10, 7),
        ("f32.two", DType::F32, 2, 31, [5, 7], 9, 4),
        ("f32.one", DType::F32, 1, 20, [20, 1], 7, 6),
        ("bf16", DType::BF16, 3, 22, [23, 1], 8, 8),
        ("u8.two", DType::U8, 2, 30, [21, 1], 11, 10),
    ];
    let chain = |(name, dtype, passes, rows, [columns, taps], chunk_rows, seed): (_, _, _, _, [usize; 2], _, _)| {
        (name, cut(predicted(&vec![rows; passes], columns, taps, dtype, seed), chunk_rows))
    };
    tensors.into_iter().map(chain).collect()
}

/// These tensors in one file; and each pass in a file of its own, if they are wanted apart. All frames of a pass lie before
/// those of the next.
fn passes_archive(apart: bool) -> Vec<u8> {
    let tensors = refined();
    let mut builder = ArchiveBuilder::default();
    let named: Vec<_> = tensors.iter().map(|(name, case)| (name.to_string(), case)).collect();
    push_safetensors("model.safetensors", &named, &mut builder);
    let chains: Vec<_> = tensors.iter().map(|(name, case)| (*name, case.chain())).collect();
    let passes = [0, 1, 2].map(|pass| {
        let deep_enough = chains.iter().filter(move |(_, chain)| pass < chain.len());
        deep_enough.map(move |(name, chain)| (format!("{name}, layer {pass}"), chain[pass])).collect::<Vec<_>>()
    });
    for (pass, cases) in passes.iter().enumerate().filter(|_| apart) {
        push_safetensors(&format!("layer-{pass}.safetensors"), cases, &mut builder);
    }
    for (name, case) in passes.iter().flatten() {
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
fn passes_of_past_and_present_agree_with_the_formulas() {
    let written = [false, true].map(passes_archive);
    let stored = [("layers", &written[0]), ("layers-apart", &written[1])]
        .map(|(name, archive)| vector(&format!("tests/vectors/valid/{name}.mcwc"), archive));
    for archives in [written, stored] {
        let [passes, apart] =
            archives.each_ref().map(|archive| Reader::open(archive.as_slice(), &Limits::default()).unwrap());
        for (name, case) in refined() {
            let chain = case.chain();
            for (pass, case) in chain.iter().enumerate() {
                let decoded = apart.tensor(&format!("{name}, layer {pass}")).unwrap();
                assert_eq!(difference(&decoded, &case.expected()), None, "{name}, layer {pass}");
            }
            let finest = apart.tensor(&format!("{name}, layer {}", chain.len() - 1)).unwrap();
            assert_eq!(passes.tensor(name).unwrap(), finest);
        }
        let file = |pass: usize| {
            let mut bytes = Vec::new();
            passes.write_pass(0, pass, &mut bytes, &mut |_| {}).unwrap();
            bytes
        };
        assert_eq!(file(2), passes.file(0).unwrap());
        for pass in 0..3 {
            assert!(file(pass).ends_with(&apart.tensor(&format!("u8.two, layer {}", pass.min(1))).unwrap()));
        }
    }
}
