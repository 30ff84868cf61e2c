//! A safetensors file -> its tensors; an index of a sharded model -> its shards.
//!
//! The file is a little-endian `u64`, a JSON header of that many bytes, and the tensors' bytes, which must follow
//! one another without hole or overlap up to the file's end: a lenient reader accepts holes, and bytes at the end. See <https://huggingface.co/docs/safetensors>.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::window::Window;
use super::{LeftOut, MAX_JSON_BYTES, Reading, SourceFile, relative_path, tensor_bytes, without_mark};
use crate::error::{Error, Result};
use crate::source::read_range;
use crate::tensor::{Axes, DType, Shape, TensorLocation};

/// Longest header in bytes, the limit of the safetensors library itself.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The length of the header's length.
const LENGTH_BYTES: u64 = 8;

/// Whether the bytes begin like a safetensors file: the length of a header that lies within the file and opens a
/// JSON object.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    let Some(header_bytes) = header_bytes(file)?.filter(|&bytes| bytes <= MAX_HEADER_BYTES) else {
        return Ok(false);
    };
    let end = LENGTH_BYTES.saturating_add(header_bytes);
    Ok(end <= file.bytes
        && file.byte(LENGTH_BYTES)? == Some(b'{')
        && matches!(file.first_visible(LENGTH_BYTES.saturating_add(1)..end)?, Some(b'"' | b'}')))
}

/// The length that the file gives its header; none if the file is too short for one.
fn header_bytes(file: &Window) -> Result<Option<u64>> {
    Ok(file.array(0)?.map(u64::from_le_bytes))
}

/// The shards that an index names, in the order of their first mention.
pub(super) fn companions(file: &Window) -> Result<Vec<String>> {
    let invalid = |reason: String| Error::invalid("index", format!("{}: {reason}", file.name));
    let bytes = file.read(0..file.bytes, "index length", MAX_JSON_BYTES)?;
    let index: Index = serde_json::from_slice(without_mark(&bytes)).map_err(|error| invalid(error.to_string()))?;
    let mut seen = HashSet::new();
    let mut shards = Vec::new();
    for shard in index.weight_map.values() {
        let shard = shard.as_str().ok_or_else(|| invalid(format!("weight_map names {shard}, not a file")))?;
        if seen.insert(shard) {
            shards.push(relative_path(shard).map_err(|why| invalid(format!("shard {shard:?} {why}")))?);
        }
    }
    // Two spellings of one path, `a` and `./a`, differ before normalization only.
    let mut seen = HashSet::new();
    shards.retain(|shard| seen.insert(shard.clone()));
    Ok(shards)
}

/// The tensors of the file with this index, in the order of their bytes.
pub(super) fn find_tensors(index: usize, file: &SourceFile, lenient: bool) -> Result<Reading> {
    Ok(parse(index, file, lenient)?.0)
}

/// The tensors of a file without holes, in the order of their bytes, and the header's metadata (none if it is not made of strings).
pub(crate) fn find_with_metadata(file: &SourceFile) -> Result<(Vec<TensorLocation>, HashMap<String, String>)> {
    let (reading, metadata) = parse(0, file, false)?;
    Ok((reading.tensors, metadata))
}

fn parse(index: usize, file: &SourceFile, lenient: bool) -> Result<(Reading, HashMap<String, String>)> {
    let invalid = |reason: String| Error::invalid("safetensors", format!("{}: {reason}", file.name));
    let window = Window::of(file);
    let header_bytes = header_bytes(&window)?.ok_or_else(|| invalid("too short for a header length".to_owned()))?;
    if header_bytes > MAX_HEADER_BYTES {
        let (field, limit) = ("safetensors header length", MAX_HEADER_BYTES);
        return Err(Error::limit_exceeded(field, header_bytes, limit));
    }
    let data_start = LENGTH_BYTES.saturating_add(header_bytes);
    let data_bytes = window.bytes.checked_sub(data_start);
    let data_bytes = data_bytes.ok_or_else(|| invalid(format!("ends within its {header_bytes}-byte header")))?;
    let header = read_range(file.source, LENGTH_BYTES..data_start)?;
    let header: Header = serde_json::from_slice(&header).map_err(|error| invalid(format!("header: {error}")))?;
    let mut entries = header.entries;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    check_ranges(&entries, data_bytes, lenient).map_err(invalid)?;
    let mut reading = Reading::default();
    for (name, entry) in entries {
        match dtype(&entry.dtype) {
            Some(dtype) => reading.tensors.push(locate(index, data_start, name, dtype, entry).map_err(invalid)?),
            None => reading.leave_out(LeftOut::UnknownType, name),
        }
    }
    let metadata = header.metadata.and_then(|text| serde_json::from_str(text.get()).ok());
    Ok((reading, metadata.unwrap_or_default()))
}

/// Proves that names are unique and that the entries, sorted by offset, do not overlap and lie within `data_bytes`; unless
/// `lenient`, also that they cover these exactly.
fn check_ranges(entries: &[(String, Entry)], data_bytes: u64, lenient: bool) -> std::result::Result<(), String> {
    let mut names = HashSet::new();
    let mut covered = 0;
    let hint = "--lenient packs such a file, those bytes exactly";
    for (name, entry) in entries {
        if !names.insert(name) {
            return Err(format!("two tensors are named {name:?}"));
        }
        let (start, end) = entry.data_offsets;
        if start < covered || end < start || end > data_bytes {
            return Err(format!("tensor {name:?} has bytes {start}..{end} where {covered}.. was due, of {data_bytes}"));
        }
        if start > covered && !lenient {
            return Err(format!("bytes {covered}..{start}, before tensor {name:?}, belong to no tensor; {hint}"));
        }
        covered = end;
    }
    if covered < data_bytes && !lenient {
        return Err(format!("bytes {covered}..{data_bytes}, after the last tensor, belong to no tensor; {hint}"));
    }
    Ok(())
}

/// The tensor of an entry whose range is known to lie within the file.
fn locate(
    file: usize,
    data_start: u64,
    name: String,
    dtype: DType,
    entry: Entry,
) -> std::result::Result<TensorLocation, String> {
    let shape = Shape(entry.shape);
    let bytes = tensor_bytes(dtype, &shape).map_err(|why| format!("tensor {name:?} {why}"))?;
    let (start, end) = entry.data_offsets;
    if end.checked_sub(start) != Some(bytes) {
        return Err(format!("tensor {name:?} has bytes {start}..{end} but {} {shape} takes {bytes}", dtype.name()));
    }
    let offset =
        data_start.checked_add(start).ok_or_else(|| format!("tensor {name:?} begins beyond the largest offset"))?;
    Ok(TensorLocation { name, dtype, shape, file, offset, bytes, axes: Axes::OutputFirst, record: &[] })
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "F64" => DType::F64,
        "I8" => DType::I8,
        "U8" => DType::U8,
        "I16" => DType::I16,
        "U16" => DType::U16,
        "I32" => DType::I32,
        "U32" => DType::U32,
        "I64" => DType::I64,
        "U64" => DType::U64,
        "BOOL" => DType::Bool,
        "F8_E4M3" => DType::F8E4M3,
        "F8_E5M2" => DType::F8E5M2,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Index {
    weight_map: serde_json::Map<String, serde_json::Value>,
}

/// A tensor's description; offsets count from the header's end.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// A list, not a map, so that a name given twice is seen.
struct Header<'h> {
    entries: Vec<(String, Entry)>,
    metadata: Option<&'h RawValue>,
}

impl<'de> Deserialize<'de> for Header<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensor descriptions")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Header<'de>, M::Error> {
        let (mut entries, mut metadata) = (Vec::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                metadata = Some(map.next_value()?);
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Header { entries, metadata })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn find(bytes: &[u8]) -> Result<Vec<TensorLocation>> {
        Ok(find_with_metadata(&SourceFile { name: "m.safetensors".to_owned(), source: &bytes })?.0)
    }

    fn shards(index: &str) -> Result<Vec<String>> {
        companions(&Window::new("i.json", &index.as_bytes()))
    }

    fn reason(header: &str, data: &[u8]) -> String {
        find(&file(header, data)).unwrap_err().to_string()
    }

    fn u8_entry(name: &str, start: u64, end: u64) -> String {
        format!(r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{start},{end}]}}"#, end.saturating_sub(start))
    }

    #[test]
    fn finds_tensors_in_byte_order_whatever_the_header_order() {
        let header = format!("{{{},{}}}", u8_entry("b", 2, 5), u8_entry("a", 0, 2));
        let tensors = find(&file(&header, &[1, 2, 3, 4, 5])).unwrap();
        let start = 8 + header.len() as u64;
        let found: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.offset - start, t.bytes)).collect();
        assert_eq!(found, [("a", 0, 2), ("b", 2, 3)]);
    }

    #[test]
    fn accepts_a_padded_header_and_a_file_without_tensors() {
        assert!(find(&file("{}   ", &[])).unwrap().is_empty());
        assert!(find(&file(r#"{"__metadata__":{"format":"pt"}}"#, &[])).unwrap().is_empty());
    }

    #[test]
    fn leaves_out_an_unknown_type_but_checks_its_range() {
        let header =
            |end| format!(r#"{{"x":{{"dtype":"F4","shape":[3],"data_offsets":[0,{end}]}},{}}}"#, u8_entry("a", 2, 4));
        let tensors = find(&file(&header(2), &[0; 4])).unwrap();
        assert_eq!(tensors.len(), 1);
        assert_eq!(tensors[0].name, "a");
        assert!(reason(&header(1), &[0; 4]).contains("bytes 1..2, before tensor \"a\""));
    }

    #[test]
    fn rejects_holes_overlaps_and_leftovers() {
        let two = |start| format!("{{{},{}}}", u8_entry("a", 0, 2), u8_entry("b", start, 4));
        assert!(find(&file(&two(2), &[0; 4])).is_ok());
        assert!(reason(&two(3), &[0; 4]).contains("bytes 2..3, before tensor \"b\", belong to no tensor; --lenient"));
        assert!(reason(&two(1), &[0; 4]).contains("tensor \"b\" has bytes 1..4 where 2.. was due"));
        assert!(reason(&two(2), &[0; 5]).contains("bytes 4..5, after the last tensor, belong to no tensor; --lenient"));
        assert!(reason(&two(2), &[0; 3]).contains("tensor \"b\" has bytes 2..4 where 2.. was due, of 3"));
        assert!(reason("{}", &[0]).contains("bytes 0..1, after the last tensor"));
    }

    #[test]
    fn a_lenient_reader_accepts_holes_and_leftovers_but_nothing_worse() {
        let two = |start| format!("{{{},{}}}", u8_entry("a", 1, 2), u8_entry("b", start, 4));
        let found = |header: &str, data: &[u8]| {
            let bytes = file(header, data);
            let source = SourceFile { name: "m.safetensors".to_owned(), source: &bytes };
            let found = find_tensors(0, &source, true).map_err(|error| error.to_string())?.tensors;
            let start = 8 + header.len() as u64;
            Ok::<_, String>(found.iter().map(|tensor| (tensor.offset - start, tensor.bytes)).collect::<Vec<_>>())
        };
        assert_eq!(found(&two(3), &[0; 9]).unwrap(), [(1, 1), (3, 1)]);
        assert_eq!(found("{}", &[0; 9]).unwrap(), []);
        assert!(found(&two(1), &[0; 9]).unwrap_err().contains("tensor \"b\" has bytes 1..4 where 2.. was due"));
        let cut = found(&two(3), &[0; 3]).unwrap_err();
        assert!(cut.contains("has bytes 3..4 where 2.. was due, of 3") && !cut.contains("--lenient"), "{cut}");
    }

    #[test]
    fn rejects_a_range_that_ends_before_it_starts() {
        let header = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,1]}}"#;
        assert!(reason(header, &[0; 2]).contains("tensor \"b\" has bytes 2..1"));
    }

    #[test]
    fn rejects_shapes_that_do_not_fit() {
        let header = |shape: &str| format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,8]}}}}"#);
        assert!(find(&file(&header("[2]"), &[0; 8])).is_ok());
        assert!(reason(&header("[3]"), &[0; 8]).contains("f32 [3] takes 12"));
        assert!(reason(&header("[]"), &[0; 8]).contains("f32 [] takes 4"));
        assert!(reason(&header("[4294967296, 4294967296]"), &[0; 8]).contains("impossible shape"));
        assert!(reason(&header("[9223372036854775807]"), &[0; 8]).contains("impossible shape"));
        assert!(reason(&header(&format!("[2{}]", ",1".repeat(64))), &[0; 8]).contains("more than 64 axes"));
        assert!(reason(&header("[-2]"), &[0; 8]).contains("header: "));
        assert!(reason(&header("[2.0]"), &[0; 8]).contains("header: "));
    }

    #[test]
    fn rejects_a_name_given_twice() {
        let header = format!("{{{},{}}}", u8_entry("a", 0, 2), u8_entry("a", 2, 4));
        assert!(reason(&header, &[0; 4]).contains("two tensors are named \"a\""));
    }

    #[test]
    fn rejects_headers_that_are_not_json_objects() {
        for header in ["", "[]", "{", "{}{}", "null", "{\"a\":1}", "\u{1}"] {
            assert!(reason(header, &[]).contains("m.safetensors: header: "), "{header:?}");
        }
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(find(&file(&format!("{{\"__metadata__\":{deep}}}"), &[])).unwrap().is_empty());
        assert!(reason(&format!("{{\"a\":{deep}}}"), &[]).contains("m.safetensors: header: "));
        let index = format!("{{\"weight_map\":{{\"a\":{deep}}}}}");
        let error = shards(&index).unwrap_err();
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }

    #[test]
    fn bounds_the_header_before_reading_it() {
        let error = find(&u64::MAX.to_le_bytes()).unwrap_err();
        assert!(matches!(error, Error::LimitExceeded { value: u64::MAX, limit: MAX_HEADER_BYTES, .. }));
        let error = find(&MAX_HEADER_BYTES.to_le_bytes()).unwrap_err();
        assert!(error.to_string().contains("ends within its 100000000-byte header"));
    }

    #[test]
    fn shards_must_be_paths_below_the_folder() {
        for shard in [r#""../x""#, r#""/x""#, r#""c:\\x""#, r#""""#, "1", "null"] {
            let index = format!(r#"{{"weight_map":{{"a":{shard}}}}}"#);
            let error = shards(&index).unwrap_err();
            assert!(matches!(error, Error::Invalid { field: "index", .. }), "{shard}");
        }
        assert!(shards("{}").is_err());
    }
}
