//! Small archives that ask for much: each is refused or decoded in little memory, and what it may ask for is a limit.

#![cfg(feature = "encoder")]

mod common;
#[path = "common/memory.rs"]
mod memory;

use std::path::Path;

use mcwc::container::{Archive, FileEntry, FrameEntry, Header, TensorEntry, serialize_chunk_entry, serialize_head};
use mcwc::decode::{Opened, Reader};
use mcwc::encode::exact::planes::encode_plane;
use mcwc::entropy::Table;
use mcwc::format::CHUNK_ENTRY_BYTES;
use mcwc::tensor::{DType, Limits};
use mcwc::{Error, Result};
use memory::with_peak;

/// What reading may take beyond what it gives.
const MEMORY_MAX: usize = 64 << 20;

/// Opens an archive on its base, and decodes all files and the first tensors; gives the bytes of the largest tensor.
fn read_all(archive: &[u8], base: Option<&[u8]>) -> Result<u64> {
    let limits = Limits::default();
    let mut reader = Reader::open(archive, &limits)?;
    if let Some(base) = base {
        reader = reader.with_base(&Reader::open(base, &limits)?)?;
    }
    let (files, tensors) = (reader.archive().files.len(), &reader.archive().tensors);
    for file in 0..files {
        reader.write_file(file, &mut std::io::sink(), &mut |_| {})?;
    }
    for tensor in 0..tensors.len().min(100) {
        reader.read_tensor(tensor, &mut Opened::default())?;
    }
    Ok(tensors.iter().map(|tensor| tensor.bytes).max().unwrap_or(0))
}

/// Lines of a manifest: an archive, and what it says of it.
fn manifest(folder: &str, name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(Path::new(folder).join(name)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

const INVALID: &str = "tests/vectors/invalid";
const VALID: &str = "tests/vectors/valid";

fn archive(folder: &str, name: &str) -> Vec<u8> {
    std::fs::read(Path::new(folder).join(name)).unwrap()
}

#[test]
fn archives_that_must_be_refused_are_in_little_memory() {
    let errors = manifest(INVALID, "errors.txt");
    for line in &errors {
        let (bytes, base) = (archive(INVALID, &line[0]), line.get(2).map(|base| archive(VALID, base)));
        let (read, peak) = with_peak(|| read_all(&bytes, base.as_deref()));
        assert_eq!(read.as_ref().map_or_else(Error::code, |_| "ok"), line[1], "{}: {read:?}", line[0]);
        assert!(peak <= MEMORY_MAX, "{}: {peak} bytes", line[0]);
    }
    let mut listed: Vec<&str> = errors.iter().map(|line| line[0].as_str()).chain(["errors.txt"]).collect();
    let entries = std::fs::read_dir(INVALID).unwrap();
    let mut found: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    listed.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn what_no_tensor_needs_is_not_decoded() {
    // Its first tensor has a broken chunk; the last is predicted from the second, which has no such chunk.
    let bytes = archive(INVALID, "unneeded-reference-chunk.mcwc");
    let reader = Reader::open(bytes.as_slice(), &Limits::default()).unwrap();
    assert_eq!(reader.tensor("a").unwrap_err().code(), "unsupported");
    assert_eq!(reader.tensor("b").unwrap().len(), 4);
    assert_eq!(reader.tensor("c").unwrap().len(), 12);
}

#[test]
fn side_arrays_take_a_byte_an_entry() {
    const ENTRIES: usize = 1 << 26;
    let bytes = archive(INVALID, "side-rans.mcwc");
    let limits = Limits { side_entries: ENTRIES as u64, work: 1 << 40, ..Limits::default() };
    let reader = Reader::open(bytes.as_slice(), &limits).unwrap();
    let (opened, peak) = with_peak(|| reader.frame(0).map(drop));
    opened.unwrap();
    assert!(peak <= ENTRIES + ENTRIES / 4, "{peak} bytes");
}

#[test]
fn valid_archives_take_little_memory_beyond_their_tensors() {
    for line in manifest(VALID, "digests.txt").iter().filter(|line| line.len() == 3) {
        let bytes = archive(VALID, &line[0]);
        let (read, peak) = with_peak(|| read_all(&bytes, None));
        let tensor_bytes = read.unwrap_or_else(|error| panic!("{}: {error}", line[0])) as usize;
        assert!(peak <= MEMORY_MAX + 2 * tensor_bytes, "{}: {peak} bytes", line[0]);
    }
}

/// The whole archive of a header and chunks.
fn with_chunks(mut header: Header, payloads: &[Vec<u8>]) -> Vec<u8> {
    payloads.iter().for_each(|payload| serialize_chunk_entry(payload, &mut header.chunks).unwrap());
    [serialize_head(&header, Some(encode_plane)).unwrap(), payloads.concat()].concat()
}

/// Which limit refuses an archive: its name, without where it was met.
fn refusing(archive: &[u8], limits: &Limits) -> Option<String> {
    let (opened, peak) = with_peak(|| Archive::parse(archive, limits).map(drop));
    assert!(peak <= MEMORY_MAX, "{peak} bytes");
    match opened {
        Ok(()) => None,
        Err(Error::LimitExceeded { field, .. }) => Some(field.split(" (").next().unwrap().to_owned()),
        Err(error) => panic!("{error}"),
    }
}

/// A file of this many bytes, of which none is raw.
fn file(bytes: u64) -> FileEntry {
    FileEntry { name: "f".into(), bytes, first_raw_chunk: 0 }
}

/// A tensor of bytes with this frame.
fn tensor(index: u64, bytes: u64, frame: u64) -> TensorEntry {
    let shape = vec![bytes];
    TensorEntry {
        dtype: DType::U8 as u32,
        shape,
        offset: index * bytes,
        frames: Some(vec![frame]),
        ..Default::default()
    }
}

/// A frame of planes whose chunks have this many elements.
fn planes(chunk_len: u32) -> FrameEntry {
    FrameEntry { chunk_len, ..Default::default() }
}

#[test]
fn entries_of_headers_are_limited() {
    let limits = Limits { entries: 100, chunks: 100, dimensions: 5, ..Limits::default() };
    let more = Limits { entries: 101, chunks: 101, ..limits };
    let one = Header { files: vec![file(0)], ..Header::default() };
    let empty = |axes: usize| TensorEntry { shape: vec![0; axes], ..TensorEntry::default() };
    let files = (0..101).map(|index| FileEntry { name: format!("{index}"), ..FileEntry::default() });
    let frames = Header {
        files: vec![file(1)],
        tensors: vec![TensorEntry { frames: Some(vec![0]), ..tensor(0, 1, 0) }],
        frames: vec![planes(1); 101],
        ..Header::default()
    };
    let metadata = (0..101).map(|index| (format!("{index}"), String::new()));
    for (field, header, payloads) in [
        ("files", Header { files: files.collect(), ..Header::default() }, 0),
        ("tensors", Header { tensors: vec![empty(1); 101], ..one.clone() }, 0),
        ("metadata", Header { metadata: Some(metadata.collect()), ..one.clone() }, 0),
        ("chunks", one.clone(), 101),
    ] {
        let archive = with_chunks(header, &vec![vec![1, 0]; payloads]);
        assert_eq!(refusing(&archive, &limits).as_deref(), Some(field));
        assert_eq!(refusing(&archive, &more), None, "{field}");
    }
    assert_eq!(refusing(&with_chunks(frames, &[vec![1, 0]]), &limits).as_deref(), Some("frames"));

    let axes = |axes: usize| with_chunks(Header { tensors: vec![empty(axes)], ..one.clone() }, &[]);
    assert_eq!(refusing(&axes(5), &limits), None);
    assert_eq!(refusing(&axes(6), &limits).as_deref(), Some("dimensions"));
    assert_eq!(refusing(&axes(1601), &limits).as_deref(), Some("lists"));
}

#[test]
fn the_largest_header_takes_little_memory() {
    let limits = Limits::default();
    let frames = vec![(1, levels(1, 0, 0, None)); limits.entries as usize];
    let archive = with_frames(frames);
    assert_eq!(refusing(&archive, &limits).as_deref(), Some("work"));
    assert_eq!(refusing(&archive, &Limits { work: 1 << 40, ..limits }), None);
    let chunks = vec![vec![]; (limits.header_bytes as usize - 100) / CHUNK_ENTRY_BYTES];
    let archive = with_chunks(Header { files: vec![file(0)], ..Header::default() }, &chunks);
    assert_eq!(refusing(&archive, &limits), None);
}

#[test]
fn sizes_are_limited() {
    let limits = Limits { tensor_bytes: 1000, output_bytes: 2000, ..Limits::default() };
    let tensors = |bytes: u64, count: u64| {
        let tensors = (0..count).map(|index| tensor(index, bytes, 0)).collect();
        let header =
            Header { files: vec![file(count * bytes)], tensors, frames: vec![planes(1 << 18)], ..Header::default() };
        with_chunks(header, &[vec![1, 0]])
    };
    assert_eq!(refusing(&tensors(1000, 2), &limits), None);
    assert_eq!(refusing(&tensors(1001, 1), &limits).as_deref(), Some("tensor"));
    assert_eq!(refusing(&tensors(1000, 3), &limits).as_deref(), Some("output"));
    let head_bytes = Archive::head_bytes(&tensors(1, 1), &limits).unwrap() - 32;
    let below = Limits { header_bytes: head_bytes - 1, ..limits };
    assert_eq!(refusing(&tensors(1, 1), &below).as_deref(), Some("header_bytes"));
}

/// A frame of integer levels in one chunk.
fn levels(rows: u64, side: u32, first_table: u64, reference: Option<u64>) -> FrameEntry {
    FrameEntry {
        coding: 1,
        chunk_len: 1 << 18,
        matrix: Some(vec![rows, 1, 1]),
        tables: Some(vec![first_table, 64]),
        side: Some(side),
        reference: reference.map(|reference| vec![0, reference]),
        ..FrameEntry::default()
    }
}

/// An archive of these frames, each with a tensor of so many bytes; all have the same chunks.
fn with_frames(frames: Vec<(u64, FrameEntry)>) -> Vec<u8> {
    let mut header = Header::default();
    let mut offset = 0;
    for (index, (bytes, frame)) in (0..).zip(frames) {
        let (dtype, len) = if frame.scale.is_some() { (DType::F32, bytes / 4) } else { (DType::U8, bytes) };
        let (dtype, shape) = (dtype as u32, vec![len]);
        header.tensors.push(TensorEntry { dtype, shape, offset, ..tensor(0, bytes, index) });
        header.frames.push(frame);
        offset += bytes;
    }
    header.files.push(file(offset));
    for _ in 0..128 {
        Table::new(-1, vec![1024; 4]).unwrap().serialize(&mut header.tables);
    }
    with_chunks(header, &vec![vec![1, 0]; 40])
}

#[test]
fn side_arrays_of_a_frame_and_its_references_are_limited() {
    const ROW_CLASS: u32 = 1;
    let limits = Limits { side_entries: 1000, ..Limits::default() };
    let alone = |rows: u64| with_frames(vec![(rows, levels(rows, ROW_CLASS, 0, None))]);
    assert_eq!(refusing(&alone(1000), &limits), None);
    assert_eq!(refusing(&alone(1001), &limits).as_deref(), Some("side"));
    let predicted = |rows: u64| {
        let frames = [(rows, levels(rows, ROW_CLASS, 0, None)), (1, levels(1, ROW_CLASS, 0, Some(0)))];
        with_frames(frames.to_vec())
    };
    assert_eq!(refusing(&predicted(999), &limits), None);
    assert_eq!(refusing(&predicted(1000), &limits).as_deref(), Some("side"));
}

#[test]
fn work_is_limited_by_what_is_stored_and_given() {
    let limits = Limits::default();
    // A frame of many small chunks, for many tensors.
    let shared = |count: u64| {
        let tensors = (0..count).map(|index| tensor(index, 300, 0)).collect();
        let header = Header { files: vec![file(300 * count)], tensors, frames: vec![planes(1)], ..Header::default() };
        with_chunks(header, &vec![vec![1, 0]; 300])
    };
    // A large chunk that small tensors are predicted from.
    let predicted = |count: usize| {
        let small = vec![(1, levels(1, 0, 0, Some(0))); count];
        with_frames([vec![(1 << 18, levels(1 << 18, 0, 0, None))], small].concat())
    };
    // 16 frames of which each is predicted from the one before, and tensors that need two chunks of each for one element more
    // than a chunk has.
    let chained = |count: usize| {
        let frame = |rows, reference| (rows, FrameEntry { chunk_len: 1 << 16, ..levels(rows, 0, 0, reference) });
        let chain = (0..16u64).map(|index| frame(1 << 18, index.checked_sub(1)));
        with_frames(chain.chain(vec![frame((1 << 16) + 1, Some(15)); count]).collect())
    };
    // Tables, in turn and not.
    let tables = |count: usize, sets: u64| {
        with_frames((0..count as u64).map(|index| (1, levels(1, 0, index % sets * 64, None))).collect())
    };
    // A record of as many planes as there may be, of two stored bytes each.
    let record = FrameEntry { record: Some(vec![1; 64]), ..planes(64) };
    let header =
        Header { files: vec![file(64)], tensors: vec![tensor(0, 64, 0)], frames: vec![record], ..Header::default() };
    let record = with_chunks(header, &[[1, 0].repeat(64)]);
    // The largest transform, for one kernel.
    let (matrix, scale, transform) = (Some(vec![1, 1, 1024]), Some(1.0), Some(1));
    let kernel = with_frames(vec![(4096, FrameEntry { matrix, scale, transform, ..levels(1, 0, 0, None) })]);
    assert_eq!(refusing(&shared(30), &limits), None);
    let counted = Limits { chunks: 1000, ..limits };
    assert_eq!(refusing(&shared(3), &counted), None);
    assert_eq!(refusing(&shared(4), &counted).as_deref(), Some("chunks"));
    assert_eq!(refusing(&shared(100), &limits).as_deref(), Some("work"));
    assert_eq!(refusing(&shared(100), &Limits { work: 1 << 25, ..limits }), None);
    assert_eq!(refusing(&predicted(20), &limits), None);
    assert_eq!(refusing(&predicted(110), &limits).as_deref(), Some("work"));
    // A level in a file of bytes has 16 references at most: that alone is never too much.
    let none = Limits { work: 0, ..limits };
    assert_eq!(refusing(&chained(1), &none), None);
    assert_eq!(refusing(&chained(200), &none).as_deref(), Some("work"));
    assert_eq!(refusing(&tables(200, 2), &limits), None);
    assert_eq!(refusing(&tables(300, 2), &limits).as_deref(), Some("work"));
    assert_eq!(refusing(&tables(5000, 1), &limits), None);
    assert_eq!(refusing(&record, &none), None);
    assert_eq!(refusing(&kernel, &limits), None);
    assert_eq!(refusing(&kernel, &none).as_deref(), Some("work"));
}
