//! Frames of levels with everything in them, against FORMAT.md's formulas written out plainly.

#![cfg(feature = "encoder")]

mod common;

use common::frames::{Case, FLOATS, INTEGERS, case, difference, predicted, taps};
use mcwc::decode::Reader;
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::levels::matrix::Matrix;
use mcwc::reconstruct::{FrameDecoder, Places, Scratch};
use mcwc::stages::permute::Permutation;
use mcwc::tensor::{DType, Limits};
use proptest::prelude::*;

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

    let linked = open(archive).with_base(&base_reader).unwrap();
    let first = linked.archive().chunk_count;
    let damaged = linked.archive().verify_chunk(first, &[]).unwrap_err().to_string();
    assert!(damaged.contains(&format!("chunk {first} of the base")), "{damaged}");

    let missing = open(archive).tensor("t").unwrap_err();
    assert!(missing.to_string().contains(&format!("needs its base, of integrity {integrity}")), "{missing}");
    let other: &[u8] = archive_of(0, [7; 16]).leak();
    let refused = open(other).with_base(&base_reader).err().unwrap();
    assert!(refused.to_string().contains("not the base of this archive"), "{refused}");
    // On every machine, however far it counts.
    for frame in [1, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let absent: &[u8] = archive_of(frame, integrity.0).leak();
        let refused = open(absent).with_base(&base_reader).err().unwrap();
        assert!(refused.to_string().contains("invalid reference: the base has no such frame"), "{refused}");
    }
}

#[test]
fn a_readers_levels_are_those_that_were_coded() {
    for (seed, rows) in [(20, [40, 50]), (21, [3000, 2000])] {
        let case = predicted(&rows, 90, 1, DType::F32, seed);
        let archive = case.archive();
        let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
        let (decoder, levels) = reader.levels(1).unwrap();
        assert_eq!(decoder.frame().element_len, levels.len() as u64);
        assert!(levels == case.levels());
        assert_eq!(decoder.levels().unwrap().side().row_gain, case.plan.prediction.as_ref().unwrap().row_gain);
    }
}

#[test]
fn low_bits_of_a_reference_count_in_what_predictions_reach() {
    let mut predicted = predicted(&[4, 4], 8, 1, DType::F32, 23);
    let reference = predicted.reference.as_mut().unwrap();
    (reference.plan.trellis, reference.plan.low_bits) = (false, 16);
    reference.levels.fill(1 << 22);
    let prediction = predicted.plan.prediction.as_mut().unwrap();
    (prediction.gain, prediction.row_gain) = (1023, Vec::new());
    predicted.plan.trellis = false;
    // They predict 2^24 - 2^14.
    predicted.levels.fill((1 << 14) - 1);
    assert_eq!(difference(&predicted.decoded(), &predicted.expected()), None);
    predicted.levels[17] += 1;
    let beyond = predicted.archive();
    let reader = Reader::open(beyond.as_slice(), &Limits::default()).unwrap();
    let error = reader.tensor("t").unwrap_err().to_string();
    assert!(error.contains("a prediction leads out of range"), "{error}");
}

#[test]
fn levels_that_owe_nothing_to_their_reference_count_in_what_they_predict() {
    let mut predicted = predicted(&[4, 4, 4], 8, 1, DType::F32, 24);
    let with_gain = |case: &mut Case, gain| {
        let prediction = case.plan.prediction.as_mut().unwrap();
        (prediction.gain, prediction.row_gain) = (gain, Vec::new());
    };
    with_gain(&mut predicted, 255);
    let middle = predicted.reference.as_mut().unwrap();
    with_gain(middle, 0);
    (middle.plan.trellis, middle.plan.low_bits) = (false, 0);
    // Single precision does not hold their products with 255/256.
    middle.levels.iter_mut().zip((1i32 << 22..).step_by(7)).for_each(|(level, large)| *level = large);
    assert_eq!(difference(&predicted.decoded(), &predicted.expected()), None);
}

#[test]
fn decoders_in_wrong_hands_give_errors() {
    let case = predicted(&[20, 20], 30, 1, DType::F16, 22);
    let archive = case.archive();
    let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    let parsed = reader.archive();
    let open = |index: usize, reference| {
        let side = parsed.frames.get(index).and_then(|frame| frame.side_chunk);
        let side = side.map(|chunk| reader.payload(chunk).unwrap());
        FrameDecoder::open(parsed, index, side.as_deref(), reference, Scratch::default())
    };
    let argument = |result: mcwc::Result<()>, words: &str| {
        let error = result.unwrap_err();
        assert!(error.code() == "argument" && error.to_string().contains(words), "{error}");
    };
    argument(open(2, None).map(drop), "no such frame");
    argument(open(0, open(0, None).ok()).map(drop), "another frame's");
    let sides = parsed.frames.iter().position(|frame| frame.side_chunk.is_some()).unwrap();
    let opened = FrameDecoder::open(parsed, sides, None, None, Scratch::default());
    argument(opened.map(drop), "side chunk is needed first");

    let mut alone = open(1, None).unwrap();
    let payload = reader.payload(alone.chunk(0).unwrap()).unwrap();
    let mut bytes = vec![0; alone.chunk_bytes(0).unwrap()];
    argument(alone.decode(0, &payload, &mut bytes), "reference is needed first");
    argument(alone.decode_reference(0, 0, &payload), "no reference");
    argument(alone.chunk(alone.frame().chunk_count).map(drop), "no such chunk");
    argument(alone.decode(1, &payload, &mut bytes), "no such chunk");
    bytes.push(0);
    argument(alone.decode(0, &payload, &mut bytes), "so many bytes");
    bytes.pop();
    // With its reference's chunk, which it uses up.
    let mut both = open(1, open(0, None).ok()).unwrap();
    let first = reader.payload(parsed.frames[0].chunk(0).unwrap()).unwrap();
    both.decode_reference(0, 0, &first).unwrap();
    both.decode(0, &payload, &mut bytes).unwrap();
    let tensor = reader.tensor("t").unwrap();
    let Places { run_bytes, offsets } = both.places(0).unwrap();
    for (run, at) in bytes.chunks(run_bytes).zip(offsets) {
        assert_eq!(run, &tensor[at as usize..][..run_bytes]);
    }
    argument(both.decode(0, &payload, &mut bytes), "reference is needed first");
}

#[test]
fn what_is_not_there_is_named() {
    let archive = std::fs::read("tests/vectors/valid/predicted-planes.mcwc").unwrap();
    let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    let parsed = reader.archive();
    assert!(reader.levels(0).err().unwrap().to_string().contains("a frame of planes has no levels"));
    assert!(parsed.file("nowhere").unwrap_err().to_string().contains("no file named nowhere"));
    assert!(parsed.tensor("nothing").unwrap_err().to_string().contains("no tensor named nothing"));
    let name = &parsed.files[0].name;
    assert_eq!(parsed.file(name).unwrap().bytes, reader.file(0).unwrap().len() as u64);
    assert!(reader.file(parsed.files.len()).is_err());
    assert!(reader.payload(parsed.chunks.len()).is_err());
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

#[test]
fn the_permutation_of_a_single_row_takes_no_byte() {
    let alone = Permutation::new(vec![0]).unwrap();
    assert!(alone.serialize().is_empty());
    assert_eq!(Permutation::parse(1, &mut &[][..]).unwrap(), alone);
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
