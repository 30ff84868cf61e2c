//! Files, whole and damaged, and where their tensors lie.

use super::*;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn info(name: &str, extents: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let extents_bytes: Vec<u8> = extents.iter().flat_map(|extent| extent.to_le_bytes()).collect();
    let head = [string(name), (extents.len() as u32).to_le_bytes().to_vec(), extents_bytes].concat();
    [head, kind.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()].concat()
}

/// A file with these metadata pairs, tensor descriptions and bytes of data.
fn file(metadata: &[Vec<u8>], infos: &[Vec<u8>], data_bytes: usize) -> Vec<u8> {
    let counts = [infos.len() as u64, metadata.len() as u64].map(u64::to_le_bytes).concat();
    let mut file = [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts].concat();
    metadata.iter().chain(infos).for_each(|part| file.extend(part));
    file.resize(file.len().next_multiple_of(32) + data_bytes, 7);
    file
}

fn pair(key: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [string(key), value_type.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn find(bytes: &[u8]) -> Result<Vec<TensorLocation>> {
    find_tensors(0, &Window::new("m.gguf", &bytes)).map(|reading| reading.tensors)
}

fn reason(metadata: &[Vec<u8>], infos: &[Vec<u8>], data_bytes: usize) -> String {
    find(&file(metadata, infos, data_bytes)).unwrap_err().to_string()
}

#[test]
fn the_fastest_axis_comes_last_and_blocks_count_as_bytes() {
    let bytes = file(&[], &[info("q", &[64, 3], 2, 32), info("f", &[5], 0, 0)], 32 + 108);
    let tensors = find(&bytes).unwrap();
    assert_eq!((tensors[0].name.as_str(), tensors[0].shape.clone()), ("f", Shape(vec![5])));
    assert_eq!((tensors[1].name.as_str(), tensors[1].shape.clone()), ("q", Shape(vec![3, 36])));
    assert_eq!((tensors[1].dtype, tensors[1].record), (DType::U8, [1, 1, 16].as_slice()));
    assert_eq!(tensors[1].offset + 108, bytes.len() as u64);
}

#[test]
fn every_block_has_fields() {
    for code in 0..64 {
        let Some((dtype, block_len, record)) = kind(code) else { continue };
        assert!(record.is_empty() != (dtype == DType::U8 && block_len >= 32), "{code}");
        assert!(record.iter().all(|&field| field > 0) && record.len() <= 64, "{code}");
    }
}

#[test]
fn metadata_of_every_kind_is_passed_over() {
    let strings = [8u32.to_le_bytes().as_slice(), &2u64.to_le_bytes(), &string("a"), &string("")].concat();
    let nested = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes(), &strings].concat();
    let doubles = [12u32.to_le_bytes().as_slice(), &2u64.to_le_bytes(), &[0; 16]].concat();
    let metadata = [
        pair("a", 7, &[1]),
        pair("b", 8, &string("text")),
        pair("c", 9, &strings),
        pair("d", 9, &nested),
        pair("e", 9, &doubles),
        pair("f", 11, &[0; 8]),
        pair("general.alignment", 4, &8u32.to_le_bytes()),
    ];
    assert_eq!(find(&file(&metadata, &[info("w", &[2], 0, 8)], 40)).unwrap().len(), 1);
    assert!(reason(&[pair("a", 13, &[])], &[], 0).contains("unknown type 13"));
    let endless = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat().repeat(100);
    assert!(reason(&[pair("a", 9, &endless)], &[], 0).contains("nested deeper"));
    for alignment in [0u32, 24] {
        let metadata = [pair("general.alignment", 4, &alignment.to_le_bytes())];
        assert!(reason(&metadata, &[], 0).contains("no power of two"), "{alignment}");
    }
}

#[test]
fn rejects_tensors_that_do_not_fit() {
    let one = |extents: &[u64], kind, offset| reason(&[], &[info("w", extents, kind, offset)], 64);
    assert!(one(&[17], 0, 0).contains("beyond the file"));
    assert!(one(&[1], 0, 4).contains("not aligned"));
    assert!(one(&[1], 0, 1 << 63).contains("beyond the file"));
    assert!(one(&[1], 0, u64::MAX - 31).contains("beyond the file"));
    assert!(one(&[31], 2, 0).contains("whole blocks of 32"));
    assert!(one(&[], 2, 0).contains("scalar of blocks"));
    assert!(one(&[!31], 8, 0).contains("impossible shape"));
    assert!(one(&[1 << 40, 1 << 40], 0, 0).contains("impossible shape"));
    assert!(one(&[1; 65], 0, 0).contains("more than 64 axes"));
    let twice = [info("w", &[1], 0, 0), info("w", &[1], 0, 32)];
    assert!(reason(&[], &twice, 64).contains("two tensors are named \"w\""));
    let overlapping = [info("a", &[9], 0, 0), info("b", &[1], 0, 32)];
    assert!(reason(&[], &overlapping, 64).contains("tensor \"b\" overlaps"));
}

#[test]
fn types_of_the_future_are_left_out() {
    let tensors = find(&file(&[], &[info("new", &[7], 99, 0), info("w", &[1], 0, 32)], 64)).unwrap();
    assert_eq!(tensors.len(), 1);
}

#[test]
fn counts_beyond_the_file_end_quickly() {
    let huge = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &u64::MAX.to_le_bytes(), &0u64.to_le_bytes()].concat();
    assert!(find(&huge).unwrap_err().to_string().contains("ends within 8 bytes"));
    let strings = [8u32.to_le_bytes().as_slice(), &u64::MAX.to_le_bytes()].concat();
    assert!(reason(&[pair("a", 9, &strings)], &[], 0).contains("ends within"));
    let doubles = [12u32.to_le_bytes().as_slice(), &u64::MAX.to_le_bytes()].concat();
    assert!(reason(&[pair("a", 9, &doubles)], &[], 0).contains("ends within"));
}

#[test]
fn big_endian_files_are_not_misread() {
    for version in [2u32, 3] {
        let bytes = [b"GGUF".as_slice(), &version.to_be_bytes(), &1u64.to_be_bytes(), &[0; 99]].concat();
        assert_eq!(find(&bytes).unwrap(), []);
    }
}

#[test]
fn the_parts_of_a_split_model_belong_together() {
    let companions = |name: &str| companions(&Window::new(name, &b"".as_slice())).unwrap();
    assert_eq!(companions("m/a-00001-of-00002.gguf"), ["a-00002-of-00002.gguf"]);
    assert_eq!(companions("a-00002-of-00003.gguf"), ["a-00001-of-00003.gguf", "a-00003-of-00003.gguf"]);
    for name in ["a.gguf", "a-00001-of-00001.gguf", "a-00001-of-00002.gguf.bak"] {
        assert_eq!(companions(name), [""; 0], "{name}");
    }
}

#[test]
fn names_the_versions_it_cannot_read() {
    for version in [1u32, 4, 4u32.swap_bytes()] {
        let bytes = [b"GGUF".as_slice(), &version.to_le_bytes(), &[0; 16]].concat();
        assert!(looks_like(&Window::new("m", &bytes)).unwrap());
        assert!(matches!(find(&bytes), Err(Error::Unsupported { field: "gguf", .. })), "{version}");
    }
    assert!(!looks_like(&Window::new("m", &b"GGUF is a file format".as_slice())).unwrap());
    assert!(matches!(find(b"<html>"), Err(Error::Invalid { field: "gguf", .. })));
}
