//! From archives to tensors.

use crate::case::{Case, FLOATS};
use crate::compare::{differences, on_gpu, reconstructor};
use mcwc::container::{self, FileEntry, FrameEntry, Header, Side, TensorEntry};
use mcwc::decode::Reader;
use mcwc::entropy::{EncoderTable, LevelChunk, Table, encode_levels, raw_plane};
use mcwc::format;
use mcwc::gpu::LevelFrame;
use mcwc::stages::pack::pack;
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
    payloads.iter().for_each(|payload| container::serialize_chunk_entry(payload, &mut header.chunks).unwrap());
    [container::serialize_head(&header, None).unwrap(), payloads.concat()].concat()
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
