//! FORMAT.md's own example, read from the page; archives of the past, which must read as they always did; and what is left of
//! small ones that are damaged.

#[path = "common/flips.rs"]
mod flips;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mcwc::container::{Coding, Hash};
use mcwc::decode::{Opened, PASS_FINAL, Piece, PieceSource, Reader, plan};
use mcwc::format::ROOTS;
use mcwc::tensor::Limits;

const PAGE: &str = include_str!("../docs/FORMAT.md");

/// The code block after this heading.
fn block(heading: &str) -> &'static str {
    let (_, section) = PAGE.split_once(heading).expect("the page has this heading");
    section.split("```").nth(1).expect("the section has a code block")
}

/// Hexadecimal bytes in front of each line's semicolon.
fn bytes_of(block: &str) -> Vec<u8> {
    let lines = block.lines().map(|line| line.split(';').next().unwrap_or_default());
    let hex = lines.flat_map(str::split_whitespace);
    hex.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

#[test]
fn the_pages_example_decodes_to_what_the_page_says() {
    let archive = bytes_of(block("## 8. A minimal archive"));
    let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    let weights = [0.5f32, 0.0, -0.5, 1.0].iter().flat_map(|weight| weight.to_le_bytes());
    assert_eq!(reader.file(0).unwrap(), [0x7b].into_iter().chain(weights).collect::<Vec<u8>>());
}

#[test]
fn the_pages_roots_are_the_codes() {
    let words = block("## Annex A").split_whitespace().map(|word| u32::from_str_radix(word, 16).unwrap());
    assert_eq!(words.collect::<Vec<u32>>(), ROOTS);
}

/// An archive of the past, a file inside it, the hash of that file, and the archive's base.
struct Digest {
    archive: String,
    file: String,
    digest: String,
    base: Option<String>,
}

/// For every archive in `tests/vectors/valid`.
fn digests() -> Vec<Digest> {
    let manifest = std::fs::read_to_string("tests/vectors/valid/digests.txt").unwrap();
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let [archive, file, digest] = [(); 3].map(|()| words.next().unwrap());
        Digest { archive, file, digest, base: words.next() }
    };
    manifest.lines().filter(|text| !text.is_empty() && !text.starts_with('#')).map(line).collect()
}

/// Opens an archive of the past on its base, and that on its own.
fn reader(archive: &str, digests: &[Digest]) -> Reader<'static, [u8]> {
    let bytes: &[u8] = std::fs::read(Path::new("tests/vectors/valid").join(archive)).unwrap().leak();
    let reader = Reader::open(bytes, &Limits::default()).unwrap();
    let entry = digests.iter().find(|digest| digest.archive == archive).unwrap();
    match &entry.base {
        Some(base) => reader.with_base(&self::reader(base, digests)).unwrap(),
        None => reader,
    }
}

#[test]
fn archives_of_the_past_read_as_they_did() {
    let digests = digests();
    assert!(!digests.is_empty());
    for Digest { archive, file, digest, .. } in &digests {
        let reader = reader(archive, &digests);
        let index = reader.archive().files.iter().position(|entry| entry.name == *file).unwrap();
        assert_eq!(Hash::of(&[&reader.file(index).unwrap()]).to_string(), *digest, "{archive}: {file}");
    }
}

#[test]
fn tensors_of_files_that_share_a_raw_chunk_have_their_own_lengths() {
    let reader = reader("shared-raw.mcwc", &digests());
    let mut opened = Opened::default();
    for (index, tensor) in reader.archive().tensors.iter().enumerate() {
        assert_eq!(reader.read_tensor(index, &mut opened).unwrap(), vec![0x2a; tensor.bytes as usize], "{index}");
    }
}

#[test]
fn the_plan_of_a_range_is_its_part_of_the_files() {
    let digests = digests();
    let (mut lens, mut sources) = (BTreeSet::new(), BTreeSet::new());
    for Digest { archive, .. } in digests.iter().filter(|digest| digest.base.is_none()) {
        let reader = reader(archive, &digests);
        let pieces = |file: usize, from: u64, to: u64| {
            let mut pieces = Vec::new();
            let mut push = |piece: Piece| {
                pieces.push((piece.source, piece.skip, piece.bytes));
                Ok(())
            };
            plan(reader.archive(), file, from, to - from, PASS_FINAL, &mut push).unwrap();
            pieces
        };
        for (index, file) in reader.archive().files.iter().enumerate() {
            let whole = pieces(index, 0, file.bytes);
            sources.extend(whole.iter().map(|&(source, ..)| match source {
                PieceSource::Raw(..) => "raw",
                PieceSource::Chunk(frame, _) => match reader.archive().frames[frame].coding {
                    Coding::Planes(_) => "a chunk of planes",
                    Coding::Levels(_) => "a chunk of levels",
                },
                PieceSource::Frame(_) => "a frame whose elements lie apart",
            }));
            // Around the ends of every piece, and a few bytes on.
            let ends: Vec<u64> =
                whole.iter().scan(0, |end, piece| Some(std::mem::replace(end, *end + piece.2))).collect();
            let around = |end: &u64| [end.saturating_sub(1), *end, end + 1];
            for from in ends.iter().step_by(ends.len().div_ceil(20).max(1)).flat_map(around) {
                for to in [from, from + 1, from + 7, file.bytes].into_iter().filter(|&to| from < to && to <= file.bytes)
                {
                    let part = ends.iter().zip(&whole).filter_map(|(&start, &(source, skip, bytes))| {
                        let (first, last) = (from.max(start), to.min(start + bytes));
                        (first < last).then(|| (source, skip + first - start, last - first))
                    });
                    let part: Vec<_> = part.collect();
                    assert_eq!(pieces(index, from, to), part, "{archive}: {from}..{to}");
                    lens.insert(part.len());
                }
            }
        }
        let end = reader.archive().files[0].bytes;
        assert!(plan(reader.archive(), 0, end, 1, PASS_FINAL, &mut |_| Ok(())).is_err());
    }
    assert!(lens.len() > 5 && sources.len() == 4, "{lens:?}, {sources:?}");
}

#[test]
fn ranges_one_after_the_other_make_up_the_files() {
    let digests = digests();
    for Digest { archive, .. } in digests.iter().filter(|digest| digest.base.is_none()) {
        let reader = reader(archive, &digests);
        for (index, file) in reader.archive().files.iter().enumerate() {
            let (mut opened, mut bytes, mut done) = (Opened::default(), Vec::new(), 0);
            while bytes.len() as u64 != file.bytes {
                let len = (file.bytes / 7 + 1).min(file.bytes - done);
                reader.write_range(index, done, len, &mut opened, &mut bytes, &mut |step| done += step).unwrap();
                assert_eq!(bytes.len() as u64, done, "{archive}");
            }
            assert_eq!(bytes, reader.file(index).unwrap(), "{archive}");
            let beyond = reader.write_range(index, file.bytes, 1, &mut opened, &mut bytes, &mut |_| {});
            assert!(matches!(beyond, Err(mcwc::Error::Argument(_))), "{archive}");
        }
    }
}

#[test]
fn every_golden_archive_is_in_the_manifest() {
    let listed: std::collections::HashSet<String> = digests().into_iter().map(|digest| digest.archive).collect();
    for entry in std::fs::read_dir("tests/vectors/valid").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "digests.txt" || listed.contains(&name), "{name} has no digest");
    }
}

#[test]
fn archives_that_break_a_rule_are_refused_with_its_error() {
    let list = std::fs::read_to_string("tests/vectors/rules.txt").unwrap();
    assert!(list.lines().count() > 100);
    for line in list.lines().skip(1) {
        let mut words = line.split(' ');
        let [name, code, hex] = [(); 3].map(|()| words.next().unwrap());
        let digits = hex.as_bytes().chunks(2).map(|digits| std::str::from_utf8(digits).unwrap());
        let archive: Vec<u8> = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
        let found = Reader::open(archive.as_slice(), &Limits::default())
            .and_then(|reader| (0..reader.archive().files.len()).try_for_each(|file| reader.file(file).map(drop)));
        assert_eq!(found.as_ref().map_or_else(mcwc::Error::code, |()| "ok"), code, "{name}: {found:?}");
    }
}

/// Digits of a hash in flips.txt, which says what is left of each archive.
const FLIP_DIGITS: usize = 16;

#[test]
fn flipped_and_cut_archives_are_refused_or_decode_as_in_python() {
    let list = std::fs::read_to_string("tests/vectors/flips.txt").unwrap();
    let mut decoded: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in list.lines().skip(1) {
        let (name, rest) = line.split_once(' ').unwrap();
        decoded.entry(name).or_default().push(rest.to_owned());
    }
    assert_eq!(decoded.len(), 3);
    for (name, listed) in decoded {
        let archives = flips::mutations(&std::fs::read(format!("tests/vectors/valid/{name}")).unwrap());
        let outcomes = archives.iter().enumerate();
        let mut found: Vec<String> =
            outcomes.filter_map(|(index, archive)| Some(format!("{index} {}", outcome(archive)?))).collect();
        found.push(format!("of {}", archives.len()));
        assert_eq!(found, listed, "{name}");
    }
}

/// A hash of all files, names included; `None` if the archive is refused.
fn outcome(archive: &[u8]) -> Option<String> {
    let reader = Reader::open(archive, &Limits::default()).ok()?;
    let mut bytes = Vec::new();
    for (index, file) in reader.archive().files.iter().enumerate() {
        bytes.extend_from_slice(file.name.as_bytes());
        bytes.push(0);
        bytes.extend(reader.file(index).ok()?);
    }
    Some(Hash::of(&[&bytes]).to_string()[..FLIP_DIGITS].to_owned())
}

#[cfg(feature = "encoder")]
mod written_anew {
    use super::{block, bytes_of};
    use mcwc::container::{FileEntry, FrameEntry, TensorEntry, serialize_head};
    use mcwc::encode::assemble::ArchiveBuilder;
    use mcwc::entropy::{EncoderTable, LevelChunk, Table, encode_levels};

    /// The archive that section 8 describes, from the parts it is made of.
    fn minimal() -> Vec<u8> {
        let table = Table::new(-1, vec![1024; 4]).unwrap();
        let levels = LevelChunk {
            levels: &[1, 0, -1, 2],
            cols: 2,
            row_class: &[0, 0],
            col_class: &[0, 0],
            low_bits: 0,
            trellis: false,
            lanes: 16,
        };
        let payload = encode_levels(&levels, &[EncoderTable::new(&table)]).unwrap();
        let mut builder = ArchiveBuilder::default();
        builder.push_chunks(vec![vec![1, 0x7b], payload]).unwrap();
        let mut header = builder.header.clone();
        header.files.push(FileEntry { name: "w.bin".into(), bytes: 17, first_raw_chunk: 0 });
        header.tensors.push(TensorEntry {
            name: "w".into(),
            dtype: 0,
            shape: vec![2, 2],
            file: 0,
            offset: 1,
            frames: Some(vec![0]),
        });
        header.frames.push(FrameEntry {
            coding: 1,
            first_chunk: 1,
            chunk_len: 4,
            matrix: Some(vec![2, 2, 1]),
            tables: Some(vec![0, 1]),
            scale: Some(0.5),
            ..FrameEntry::default()
        });
        table.serialize(&mut header.tables);
        let payloads = builder.finish().unwrap();
        let head = serialize_head(&header, None).unwrap();
        let payload_bytes = 2 + (1 + 2 + 4 + 1);
        [head, payloads[payloads.len() - payload_bytes..].to_vec()].concat()
    }

    #[test]
    fn the_pages_example_is_what_the_encoder_writes() {
        let page = bytes_of(block("## 8. A minimal archive"));
        assert_eq!(page, minimal(), "{}", minimal().iter().map(|byte| format!("{byte:02x} ")).collect::<String>());
    }
}
