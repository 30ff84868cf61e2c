//! Damaged, hostile and future archives: a typed error, never a panic, never wrong weights.

#![cfg(feature = "encoder")]

mod common;

use std::sync::LazyLock;

use common::changed::{split, with_chunk, with_header};
use common::{Noise, Tensor, archive, records_archive, safetensors};
use mcwc::container::{FileEntry, FrameEntry, Header, TensorEntry, serialize_head};
use mcwc::decode::Reader;
use mcwc::encode::Target;
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::levels::frame::{LevelPlan, Prediction};
use mcwc::encode::levels::matrix::Matrix;
use mcwc::encode::levels::model_fit::Classes;
use mcwc::entropy::{EncoderTable, Table};
use mcwc::format::PREAMBLE_BYTES;
use mcwc::stages::permute::Permutation;
use mcwc::tensor::{DType, Limits};
use mcwc::{Error, Result};
use proptest::prelude::*;

/// Everything an archive holds, decoded.
fn read_all(archive: &[u8]) -> Result<Vec<Vec<u8>>> {
    let reader = Reader::open(archive, &Limits::default())?;
    (0..reader.archive().files.len()).map(|file| reader.file(file)).collect()
}

/// A small archive with levels, side arrays, planes of several modes and raw bytes.
fn small() -> Vec<u8> {
    static SMALL: LazyLock<Vec<u8>> = LazyLock::new(encode_small);
    SMALL.clone()
}

fn encode_small() -> Vec<u8> {
    let mut random = Noise(1);
    let mut weights = random.normals(48 * 40, 0.1);
    weights.iter_mut().enumerate().for_each(|(i, weight)| *weight *= 1.0 + (i / 40 % 5) as f32);
    weights[77] = 30.0;
    let file = safetensors(&[
        Tensor::floats("w", DType::F32, &[48, 40], &weights),
        Tensor::floats("b", DType::F16, &[300], &random.normals(300, 1.0)),
    ]);
    archive(&file, Target::Bits(4.0))
}

fn code(archive: &[u8]) -> &'static str {
    read_all(archive).map_or_else(|error| error.code(), |_| "ok")
}

/// Which field breaks a rule.
fn invalid_field(archive: &[u8]) -> &'static str {
    match read_all(archive) {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rejects_truncation_at_any_byte() {
    let archive = small();
    assert_eq!(code(&archive), "ok");
    for len in 0..archive.len() {
        match read_all(&archive[..len]) {
            Err(Error::Incomplete { needed }) => assert!(needed > len as u64 && needed <= archive.len() as u64),
            other => panic!("{len}: {other:?}"),
        }
    }
}

#[test]
fn rejects_any_flipped_bit() {
    let archive = small();
    for bit in 0..8 * archive.len() {
        let mut damaged = archive.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let code = code(&damaged);
        let expected: &[&str] = match bit / 8 {
            0..8 => &["invalid"],
            8..12 => &["unsupported", "checksum"],
            12..16 => &["incomplete", "checksum", "limit-exceeded"],
            _ => &["checksum"],
        };
        assert!(expected.contains(&code), "bit {bit}: {code}");
    }
}

#[test]
fn rejects_what_follows_the_last_chunk() {
    let mut archive = small();
    archive.push(0);
    assert_eq!(code(&archive), "invalid");
}

#[test]
fn rejects_another_magic_and_later_versions() {
    let mut archive = small();
    archive[8] = 2;
    assert!(matches!(read_all(&archive), Err(Error::Unsupported { field: "version", .. })));
    archive[..8].copy_from_slice(b"\x89PNG\r\n\x1a\n");
    assert!(matches!(read_all(&archive), Err(Error::Invalid { field: "magic", .. })));
    assert_eq!(code(b"{\"a\": 1}"), "invalid");
}

#[test]
fn names_what_is_not_implemented() {
    let archive = small();
    let reserved = |change: fn(&mut Header)| match read_all(&with_header(&archive, change)) {
        Err(Error::Unsupported { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(reserved(|header| header.frames[0].quantizer = Some(2)), "quantizer");
    assert_eq!(reserved(|header| header.frames[0].transform = Some(2)), "transform");
    assert_eq!(reserved(|header| header.frames[0].layout = Some(2)), "layout");
    assert_eq!(reserved(|header| header.frames[0].side = Some(1 << 9)), "side");
    assert_eq!(reserved(|header| header.frames[0].coding = 2), "coding");
    assert_eq!(reserved(|header| header.tensors[0].dtype = 17), "dtype");
}

#[test]
fn defaults_of_reserved_fields_change_nothing() {
    let archive = small();
    let explicit = with_header(&archive, |header| {
        let frame = &mut header.frames[0];
        (frame.zero_point, frame.transform, frame.layout) = (Some(0), Some(0), Some(0));
    });
    assert_eq!(read_all(&explicit).unwrap(), read_all(&archive).unwrap());
}

#[test]
fn rejects_headers_that_contradict_themselves() {
    let archive = small();
    let invalid = |change: &dyn Fn(&mut Header)| invalid_field(&with_header(&archive, change));
    for name in ["", "/etc/passwd", "../up", "a//b", "a/./b", "c:\\x", "a\\b", "a\nb"] {
        assert_eq!(invalid(&|header| header.files[0].name = name.into()), "file", "{name:?}");
    }
    assert_eq!(invalid(&|header| header.files.push(header.files[0].clone())), "file");
    assert_eq!(invalid(&|header| header.files[0].first_raw_chunk = 1000), "first raw chunk");
    assert_eq!(invalid(&|header| header.tensors[0].offset = u64::MAX), "tensor");
    assert_eq!(invalid(&|header| header.tensors[0].offset += 4000), "tensor");
    assert_eq!(invalid(&|header| header.tensors[1].offset -= 4), "tensor");
    assert_eq!(invalid(&|header| header.tensors[1].file = 9), "tensor");
    assert_eq!(invalid(&|header| header.tensors[1].frames = Some(vec![9])), "tensor");
    assert_eq!(invalid(&|header| header.tensors[1].frames = Some(vec![0])), "tensor");
    assert_eq!(invalid(&|header| header.tensors[1].frames = Some(vec![])), "tensor");
    assert_eq!(invalid(&|header| header.tensors[1].shape = vec![u64::MAX, 2]), "tensor");
    assert_eq!(invalid(&|header| header.tensors[1].frames = None), "frame");
    assert_eq!(invalid(&|header| header.frames[0].chunk_len = 0), "chunk_len");
    assert_eq!(invalid(&|header| header.frames[0].chunk_len = 41), "chunk_len");
    assert_eq!(invalid(&|header| header.frames[0].first_chunk = 1 << 20), "first chunk");
    assert_eq!(invalid(&|header| header.frames[0].matrix = None), "matrix");
    assert_eq!(invalid(&|header| header.frames[0].matrix = Some(vec![48, 41, 1])), "matrix");
    assert_eq!(invalid(&|header| header.frames[0].tables = Some(vec![0, 0])), "tables");
    assert_eq!(invalid(&|header| header.frames[0].tables = Some(vec![60000, 2])), "tables");
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-37] {
        assert_eq!(invalid(&|header| header.frames[0].scale = Some(scale)), "scale");
    }
    assert_eq!(invalid(&|header| header.frames[0].scale = None), "scale");
    assert_eq!(invalid(&|header| header.frames[0].zero_point = Some(1)), "zero_point");
    assert_eq!(invalid(&|header| header.frames[0].low_bits = Some(17)), "low_bits");
    assert_eq!(invalid(&|header| header.frames[0].side = Some(1 << 2)), "side");
    assert_eq!(invalid(&|header| header.tables[2] ^= 1), "table");
    assert_eq!(invalid(&|header| header.chunks.truncate(30)), "chunk table");
}

/// Levels without side arrays.
fn plan(rows: usize, columns: usize) -> LevelPlan {
    LevelPlan {
        matrix: Matrix { rows, columns, taps: 1 },
        scale: Some(0.5),
        zero_point: 0,
        low_bits: 0,
        column_major: false,
        dct: false,
        trellis: false,
        sparsity: 0,
        classes: Classes { base: 0, row: Vec::new(), column: Vec::new(), tap: Vec::new() },
        exponents: Default::default(),
        row_permutation: None,
        column_permutation: None,
        prediction: None,
        pruning: None,
        lanes: 16,
    }
}

/// As many tensors of one shape, each predicted from the one before.
fn chain(len: usize) -> Vec<u8> {
    let mut builder = ArchiveBuilder::default();
    let table = Table::new(-1, vec![1024; 4]).unwrap();
    table.serialize(&mut builder.header.tables);
    builder.header.files.push(FileEntry { name: "f".into(), bytes: 96 * len as u64, first_raw_chunk: 0 });
    for index in 0..len {
        let mut plan = plan(4, 6);
        plan.prediction = (index > 0).then(|| Prediction::same([0, index as u64 - 1]));
        let levels: Vec<i32> = (0..24).map(|at| at % 4 - 1).collect();
        let frame = builder
            .push_frame(plan.encode(&levels.as_slice().into(), 0, &[EncoderTable::new(&table)]).unwrap())
            .unwrap();
        builder.header.tensors.push(TensorEntry {
            name: format!("{index}"),
            dtype: DType::F32 as u32,
            shape: vec![4, 6],
            file: 0,
            offset: 96 * index as u64,
            frames: Some(vec![frame.into()]),
        });
    }
    builder.finish().unwrap()
}

#[test]
fn rejects_references_that_contradict_themselves() {
    let archive = chain(3);
    assert_eq!(code(&archive), "ok");
    let error = |change: &dyn Fn(&mut Header)| read_all(&with_header(&archive, change)).unwrap_err().to_string();
    let refers = |place: [u64; 2]| error(&|header| header.frames[1].reference = Some(place.to_vec()));
    let earlier = "invalid reference: not an earlier frame, and not one of the base (frame 1)";
    assert_eq!(refers([0, 1]), earlier, "a cycle of one");
    assert_eq!(refers([0, 2]), earlier, "a cycle of two");
    assert_eq!(refers([0, 9]), earlier, "a missing one");
    assert_eq!(refers([0, u64::MAX]), earlier);
    assert_eq!(refers([2, 0]), earlier, "no such source");
    assert_eq!(error(&|header| header.frames[1].reference = Some(vec![0])), earlier);
    let base = "invalid base: it goes with frames that are predicted from it";
    assert_eq!([0, 1 << 32, u64::MAX].map(|frame| refers([1, frame])), [base; 3]);
    assert_eq!(error(&|header| header.base = Some(vec![7; 16])), base);
    assert_eq!(error(&|header| header.base = Some(vec![7; 15])), "invalid base: not a hash");

    let apart = "invalid reference: its chunks do not correspond (frame 1)";
    assert_eq!(error(&|header| header.frames[0].chunk_len = 12), apart);
    assert_eq!(error(&|header| header.frames[0].matrix = Some(vec![6, 4, 1])), apart);
    assert_eq!(error(&|header| header.frames[0].matrix = Some(vec![4, 3, 2])), apart);
    assert_eq!(error(&|header| header.frames[0].layout = Some(1)), apart);
    let planes = |header: &mut Header| {
        let FrameEntry { first_chunk, chunk_len, reference, .. } = header.frames[1].clone();
        header.frames[1] = FrameEntry { first_chunk, chunk_len, reference, ..FrameEntry::default() };
    };
    assert_eq!(error(&planes), apart, "planes from levels");

    let gain = |gain: i32| move |header: &mut Header| header.frames[1].gain = Some(gain);
    for factor in [32768, -32769, i32::MAX, i32::MIN] {
        assert_eq!(error(&gain(factor)), "invalid gain: out of range (frame 1)");
    }
    assert_eq!(code(&with_header(&archive, gain(-32768))), "ok");
    let alone = "invalid gain: it needs a reference (frame 0)";
    assert_eq!(error(&|header| header.frames[0].gain = Some(512)), alone);
    assert_eq!(error(&|header| header.frames[0].side = Some(1 << 8)), alone);
}

#[test]
fn rejects_more_than_16_references_in_a_row() {
    assert_eq!(code(&chain(17)), "ok");
    assert_eq!(code(&chain(18)), "limit-exceeded");
}

#[test]
fn rejects_predictions_that_lead_out_of_range() {
    // Each frame doubles, and more, what the frame before had: 2 levels become 2 · 128ⁿ.
    let steep = |len: usize| {
        with_header(&chain(len), |header| header.frames[1..].iter_mut().for_each(|frame| frame.gain = Some(32767)))
    };
    assert_eq!(code(&steep(4)), "ok");
    assert_eq!(invalid_field(&steep(5)), "level");
}

#[test]
fn rejects_permutations_that_are_no_bijections() {
    // Digits of places in the tensor: that of the last row can only be 0, and a group is below its product.
    let archive = permuted(&[2, 0, 1]);
    assert_eq!(code(&archive), "ok");
    let parsed = mcwc::container::Archive::parse(&archive, &Limits::default()).unwrap();
    let side = parsed.frames[0].side_chunk.unwrap();
    for byte in [6, 7] {
        assert_eq!(invalid_field(&with_chunk(&archive, side, |payload| payload[0] = byte)), "permutation");
    }
    assert_eq!(invalid_field(&with_chunk(&archive, side, |payload| payload.push(0))), "chunk");
}

/// A frame of three rows that belong elsewhere.
fn permuted(places: &[u32]) -> Vec<u8> {
    let mut builder = ArchiveBuilder::default();
    let table = Table::new(-1, vec![1024; 4]).unwrap();
    table.serialize(&mut builder.header.tables);
    builder.header.files.push(FileEntry { name: "f".into(), bytes: 24, first_raw_chunk: 0 });
    let mut plan = plan(3, 2);
    plan.row_permutation = Some(Permutation::new(places.to_vec()).unwrap());
    builder
        .push_frame(plan.encode(&[1, 0, -1, 2, 1, 0].as_slice().into(), 0, &[EncoderTable::new(&table)]).unwrap())
        .unwrap();
    builder.header.tensors.push(TensorEntry {
        name: "t".into(),
        dtype: DType::F32 as u32,
        shape: vec![3, 2],
        frames: Some(vec![0]),
        ..TensorEntry::default()
    });
    builder.finish().unwrap()
}

#[test]
fn an_empty_tensor_needs_no_chunk() {
    let archive = with_header(&records_archive(&[5; 1800], &[2, 16]), |header| {
        // The hash of the only chunk.
        header.chunks[4] ^= 1;
        let (name, dtype, shape) = ("empty".into(), DType::U8 as u32, vec![0]);
        header.tensors.push(TensorEntry { name, dtype, shape, offset: 7, ..TensorEntry::default() });
    });
    let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    assert_eq!(reader.tensor("t").unwrap_err().code(), "checksum");
    assert_eq!(reader.tensor("empty").unwrap(), Vec::<u8>::new());
}

#[test]
fn rejects_records_that_do_not_fit() {
    let archive = records_archive(&[5; 1800], &[2, 16]);
    assert_eq!(code(&archive), "ok");
    let with_record = |record: &[u64]| with_header(&archive, |header| header.frames[0].record = Some(record.to_vec()));
    let records: [&[u64]; 8] = [&[], &[0], &[18, 0], &[17], &[7, 13], &[1 << 19], &[1 << 63, 1 << 63], &[u64::MAX, 19]];
    for record in records {
        assert_eq!(invalid_field(&with_record(record)), "record", "{record:?}");
    }
    assert_eq!(code(&with_record(&[1; 65])), "limit-exceeded");
    // One plane instead of two, and three.
    assert_eq!(code(&with_record(&[18])), "invalid");
    assert_eq!(code(&with_record(&[1, 1, 16])), "invalid");
    let cut = with_header(&archive, |header| header.frames[0].chunk_len = 100);
    assert_eq!(invalid_field(&cut), "record");
    let wide = with_header(&archive, |header| {
        header.tensors[0].dtype = DType::U16 as u32;
        header.tensors[0].shape = vec![900];
    });
    assert_eq!(invalid_field(&wide), "record");
    let levels = with_header(&small(), |header| header.frames[0].record = Some(vec![1]));
    assert_eq!(invalid_field(&levels), "record");
}

#[test]
fn a_hostile_header_cannot_ask_for_much_memory() {
    let archive = small();
    let huge = |rows: u64| {
        with_header(&archive, |header| {
            header.files[0].bytes = 1 << 33;
            header.tensors[0].shape = vec![rows, 1 << 18];
            header.frames[0].matrix = Some(vec![rows, 1 << 18, 1]);
            header.frames[0].chunk_len = 1 << 18;
        })
    };
    assert_eq!(code(&huge(1 << 11)), "invalid");
    assert_eq!(code(&huge(1 << 20)), "limit-exceeded");
    let head = [&archive[..12], &u32::MAX.to_le_bytes(), &[0; 16]].concat();
    assert_eq!(code(&head), "limit-exceeded");
}

#[test]
fn lanes_must_end_where_they_should() {
    let archive = small();
    let parsed = mcwc::container::Archive::parse(&archive, &Limits::default()).unwrap();
    let chunk = parsed.frames[0].first_chunk;
    let changed = with_chunk(&archive, chunk, |payload| payload[20] ^= 0x10);
    assert_eq!(invalid_field(&changed), "lanes");
    let longer = with_chunk(&archive, chunk, |payload| payload.push(0));
    assert_eq!(invalid_field(&longer), "chunk");
}

#[test]
fn errors_name_the_chunk_and_the_tensor_or_file() {
    let archive = small();
    let parsed = mcwc::container::Archive::parse(&archive, &Limits::default()).unwrap();
    let chunk_of = |name: &str| parsed.frames[parsed.tensor(name).unwrap().frames[0]].first_chunk;
    let error = |archive: &[u8]| read_all(archive).unwrap_err().to_string();
    let (weights, biases) = (chunk_of("w"), chunk_of("b"));
    let bytes = |chunk: usize| parsed.chunks[chunk].bytes;
    let longer = |chunk: usize| error(&with_chunk(&archive, chunk, |payload| payload.push(0)));
    assert_eq!(
        longer(weights),
        format!("invalid chunk: bytes follow its end (byte {}) (chunk {weights} of tensor w)", bytes(weights))
    );
    assert_eq!(
        longer(biases),
        format!("invalid chunk: bytes follow its end (byte {}) (chunk {biases} of tensor b)", bytes(biases))
    );
    let raw = parsed.files[0].first_raw_chunk;
    let unknown = error(&with_chunk(&archive, raw, |payload| payload[0] = 9));
    assert_eq!(unknown, format!("unsupported mode: 9 (byte 1) (chunk {raw} of file {})", parsed.files[0].name));
    let side = parsed.frames[0].side_chunk.expect("the rows of w differ");
    let cut = error(&with_chunk(&archive, side, |payload| payload.truncate(0)));
    assert_eq!(cut, format!("invalid mode: the chunk ends early (byte 0) (chunk {side} of tensor w)"));

    let mut damaged = archive.clone();
    damaged[parsed.chunks[weights].offset as usize] ^= 1;
    let expected = format!("checksum mismatch in chunk {weights} of tensor w: the bytes are damaged");
    assert_eq!(error(&damaged), expected);
}

#[test]
fn errors_name_the_chunk_of_the_reference_that_gave_them() {
    let archive = chain(3);
    let broken = with_chunk(&archive, 1, |payload| payload.truncate(3));
    let reader = Reader::open(broken.as_slice(), &Limits::default()).unwrap();
    assert_eq!(reader.tensor("0").map(|_| ()).map_err(|error| error.to_string()), Ok(()));
    for name in ["1", "2"] {
        let error = reader.tensor(name).unwrap_err().to_string();
        assert!(error.ends_with(" (chunk 1 of tensor 1)"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_payloads_with_right_hashes_never_panic(chunk in 0usize..5, position: usize, byte: u8, cut in 0usize..40) {
        let archive = small();
        let chunks = mcwc::container::Archive::parse(&archive, &Limits::default()).unwrap().chunks.len();
        let changed = with_chunk(&archive, chunk % chunks, |payload| {
            let position = position % payload.len();
            payload[position] = byte;
            payload.truncate(payload.len() - if cut < 10 { cut.min(payload.len()) } else { 0 });
        });
        if let Ok(files) = read_all(&changed) {
            prop_assert_eq!(files[0].len(), read_all(&archive).unwrap()[0].len());
        }
    }

    #[test]
    fn changed_headers_with_right_hashes_never_panic(position: usize, byte: u8) {
        let archive = small();
        let (header, payloads) = split(&archive);
        let mut head = serialize_head(&header, None).unwrap();
        let position = PREAMBLE_BYTES + position % (head.len() - PREAMBLE_BYTES);
        head[position] = byte;
        let hash = mcwc::container::Hash::of(&[&head[..16], &head[PREAMBLE_BYTES..]]);
        head[16..32].copy_from_slice(&hash.0);
        let _ = read_all(&[head, payloads].concat());
    }

    #[test]
    fn any_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read_all(&bytes).is_err());
    }
}
