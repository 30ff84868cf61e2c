//! The fixtures of `scripts/fixtures.py`, whole and damaged, against the bytes that Python put into them.

mod reading;

use std::collections::HashSet;

use super::*;
use crate::source::read_range;

static FIXTURES: &[(&str, &[u8])] = &[
    ("dtypes.safetensors", include_bytes!("../../tests/data/formats/dtypes.safetensors")),
    ("external.bin", include_bytes!("../../tests/data/formats/external.bin")),
    ("external.onnx", include_bytes!("../../tests/data/formats/external.onnx")),
    ("checkpoint.pth", include_bytes!("../../tests/data/formats/checkpoint.pth")),
    ("face-weights_manifest.json", include_bytes!("../../tests/data/formats/face-weights_manifest.json")),
    ("face_model.bin", include_bytes!("../../tests/data/formats/face_model.bin")),
    ("group1-shard1of2.bin", include_bytes!("../../tests/data/formats/group1-shard1of2.bin")),
    ("group1-shard2of2.bin", include_bytes!("../../tests/data/formats/group1-shard2of2.bin")),
    ("group2-shard1of1.bin", include_bytes!("../../tests/data/formats/group2-shard1of1.bin")),
    ("model.json", include_bytes!("../../tests/data/formats/model.json")),
    ("nested.onnx", include_bytes!("../../tests/data/formats/nested.onnx")),
    ("raw.onnx", include_bytes!("../../tests/data/formats/raw.onnx")),
    (
        "sharded-00001-of-00002.safetensors",
        include_bytes!("../../tests/data/formats/sharded-00001-of-00002.safetensors"),
    ),
    (
        "sharded-00002-of-00002.safetensors",
        include_bytes!("../../tests/data/formats/sharded-00002-of-00002.safetensors"),
    ),
    ("sharded.safetensors.index.json", include_bytes!("../../tests/data/formats/sharded.safetensors.index.json")),
    ("types.gguf", include_bytes!("../../tests/data/formats/types.gguf")),
    ("typed.onnx", include_bytes!("../../tests/data/formats/typed.onnx")),
    ("weights/c.bin", include_bytes!("../../tests/data/formats/weights/c.bin")),
];

#[derive(serde::Deserialize)]
struct Case {
    files: Vec<String>,
    tensors: Vec<Expected>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
struct Expected {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    file: String,
    hex: String,
}

fn cases() -> Vec<(String, Case)> {
    let json = include_str!("../../tests/data/formats/expected.json");
    let cases: HashMap<String, Case> = serde_json::from_str(json).unwrap();
    cases.into_iter().collect()
}

fn fixture(name: &str) -> &'static &'static [u8] {
    &FIXTURES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} is listed")).1
}

fn source<'a>(name: &str, source: &'a dyn Source) -> SourceFile<'a> {
    SourceFile { name: name.to_owned(), source }
}

fn sources(names: &[String]) -> Vec<SourceFile<'static>> {
    names.iter().map(|name| source(name, fixture(name))).collect()
}

fn bytes_of(files: &[SourceFile], tensor: &TensorLocation) -> Vec<u8> {
    read_range(files[tensor.file].source, tensor.offset..tensor.offset + tensor.bytes).unwrap()
}

/// What [`find_tensors`] found, in the form of `expected.json` and in a settled order.
fn describe(files: &[SourceFile], tensors: &[TensorLocation]) -> Vec<Expected> {
    let describe = |tensor: &TensorLocation| Expected {
        name: tensor.name.clone(),
        dtype: tensor.dtype.name().to_owned(),
        shape: tensor.shape.0.clone(),
        file: files[tensor.file].name.clone(),
        hex: bytes_of(files, tensor).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    sorted(tensors.iter().map(describe).collect())
}

fn sorted(mut tensors: Vec<Expected>) -> Vec<Expected> {
    tensors.sort();
    tensors
}

/// What the documentation of [`find_tensors`] promises of any result.
fn assert_sound(files: &[SourceFile], tensors: &[TensorLocation]) {
    let mut names = HashSet::new();
    for tensor in tensors {
        assert!(names.insert(&tensor.name), "{} is unique", tensor.name);
        let expected = tensor.dtype.byte_len(tensor.shape.element_len().unwrap()).unwrap();
        assert_eq!(tensor.bytes, expected, "{}", tensor.name);
        assert_eq!(bytes_of(files, tensor).len() as u64, expected);
        let record_bytes: u64 = tensor.record.iter().map(|&field| u64::from(field)).sum();
        assert!(record_bytes == 0 || expected.is_multiple_of(record_bytes), "{}", tensor.name);
    }
}

#[test]
fn finds_exactly_the_tensors_that_python_wrote() {
    let cases = cases();
    assert_eq!(cases.len(), 10);
    for (name, case) in cases {
        let files = sources(&case.files);
        let tensors = find_tensors(&files).unwrap();
        assert_sound(&files, &tensors);
        assert_eq!(describe(&files, &tensors), sorted(case.tensors), "{name}");
    }
}

#[test]
fn a_wrong_expectation_fails_the_comparison() {
    let (_, mut case) = cases().into_iter().find(|(name, _)| name == "external").unwrap();
    let files = sources(&case.files);
    let tensors = find_tensors(&files).unwrap();
    case.tensors[0].hex.replace_range(0..1, "f");
    assert_ne!(describe(&files, &tensors), sorted(case.tensors));
}

#[test]
fn tensors_come_in_the_order_of_their_bytes() {
    let files = [source("w.safetensors", fixture("dtypes.safetensors"))];
    let tensors = find_tensors(&files).unwrap();
    assert!(tensors.is_sorted_by_key(|tensor| tensor.offset));
    // The library puts the widest elements first.
    assert_eq!(tensors[0].dtype.bits(), 64);
    assert_eq!(tensors.last().unwrap().dtype.bits(), 8);
}

#[test]
fn detects_by_content_before_name() {
    let cases = [
        ("dtypes.safetensors", Format::Safetensors),
        ("raw.onnx", Format::Onnx),
        ("typed.onnx", Format::Onnx),
        ("nested.onnx", Format::Onnx),
        ("external.onnx", Format::Onnx),
        ("external.bin", Format::Other),
        ("types.gguf", Format::Gguf),
        ("checkpoint.pth", Format::Torch),
        ("model.json", Format::Tfjs),
        ("face-weights_manifest.json", Format::Tfjs),
        ("group1-shard1of2.bin", Format::Other),
    ];
    for (name, format) in cases {
        assert_eq!(detect("renamed.bin", fixture(name)).unwrap(), format, "{name}");
    }
    assert_eq!(detect("wrong.onnx", fixture("dtypes.safetensors")).unwrap(), Format::Safetensors);
    assert_eq!(detect("wrong.safetensors", fixture("raw.onnx")).unwrap(), Format::Onnx);
}

#[test]
fn detects_by_name_where_content_is_silent() {
    let cases = [
        ("a/B.SAFETENSORS", Format::Safetensors),
        ("a/model.onnx", Format::Onnx),
        ("a/model.gguf", Format::Gguf),
        ("model.onnx_data", Format::Other),
        ("model.onnx.data", Format::Other),
        ("model.safetensors/readme", Format::Other),
        ("model.safetensors.index.json", Format::SafetensorsIndex),
        ("unet/model.safetensors.index.fp16.json", Format::SafetensorsIndex),
        ("pytorch_model.bin.index.json", Format::SafetensorsIndex),
        ("bin.index.json", Format::Other),
        ("tokenizer.json", Format::Other),
    ];
    for (name, format) in cases {
        assert_eq!(detect(name, &b"?".to_vec()).unwrap(), format, "{name}");
        assert_eq!(detect(name, &Vec::new()).unwrap(), format, "{name}");
    }
}

#[test]
fn ordinary_files_are_other() {
    let zeros = [0; 64];
    let small_float = 1.0e-40f32.to_le_bytes();
    for bytes in [b"{\"a\": 1}".as_slice(), b"\x7fELF\x02\x01\x01", b"\x89PNG\r\n\x1a\n", &zeros, &small_float] {
        assert_eq!(detect("file", &bytes).unwrap(), Format::Other, "{bytes:?}");
    }
    // An `ir_version` and a producer, but no graph.
    assert_eq!(detect("file", &vec![0x08, 0x07, 0x12, 0x01, b'x']).unwrap(), Format::Other);
}

#[test]
fn lists_companions_once_in_file_order() {
    let companions_of = |name: &str| companions(name, fixture(name)).unwrap();
    assert_eq!(companions_of("external.onnx"), ["external.bin", "weights/c.bin"]);
    let shards = ["group1-shard1of2.bin", "group1-shard2of2.bin", "group2-shard1of1.bin"];
    assert_eq!(companions_of("model.json"), shards);
    assert_eq!(companions_of("face-weights_manifest.json"), ["face_model.bin"]);
    let shards = ["sharded-00001-of-00002.safetensors", "sharded-00002-of-00002.safetensors"];
    assert_eq!(companions_of("sharded.safetensors.index.json"), shards);
    let index = br#"{"weight_map": {"z": "b.safetensors", "y": "./a.safetensors", "x": "b.safetensors", "w": "a.safetensors"}}"#;
    assert_eq!(companions("m.safetensors.index.json", &index.as_slice()).unwrap(), ["b.safetensors", "a.safetensors"]);
    for name in ["raw.onnx", "dtypes.safetensors", "external.bin", "types.gguf"] {
        assert!(companions_of(name).is_empty(), "{name}");
    }
}

#[test]
fn companions_lie_in_the_folder_of_the_model() {
    let names = ["external.onnx", "external.bin", "weights/c.bin"];
    let files: Vec<_> = names.iter().map(|name| source(&format!("onnx/v1/{name}"), fixture(name))).collect();
    let tensors = find_tensors(&files).unwrap();
    assert_sound(&files, &tensors);
    assert_eq!(tensors.len(), 4);
    let elsewhere = ["onnx/external.onnx", "external.bin", "weights/c.bin"];
    let elsewhere: Vec<_> = names.iter().zip(elsewhere).map(|(name, place)| source(place, fixture(name))).collect();
    assert!(matches!(find_tensors(&elsewhere), Err(Error::Argument(_))));
}

#[test]
fn a_missing_companion_is_named() {
    let error = find_tensors(&[source("m/external.onnx", fixture("external.onnx"))]).unwrap_err();
    assert_eq!(error.to_string(), "m/external.onnx needs m/external.bin, which is not among the files");
}

#[test]
fn refuses_two_files_of_one_name() {
    let files = [source("a.onnx", fixture("raw.onnx")), source("a.onnx", fixture("typed.onnx"))];
    assert!(matches!(find_tensors(&files), Err(Error::Argument(_))));
}

#[test]
fn prefixes_only_the_names_that_two_files_share() {
    let raw = fixture("raw.onnx");
    let files = [source("det.onnx", raw), source("rec.onnx", raw), source("typed.onnx", fixture("typed.onnx"))];
    let tensors = find_tensors(&files).unwrap();
    assert_sound(&files, &tensors);
    let name_of = |index: usize| tensors[index].name.as_str();
    assert_eq!(name_of(0), "det.onnx/w_f32");
    assert_eq!(name_of(19), "rec.onnx/w_f32");
    assert_eq!(name_of(38), "floats");
    assert_eq!(tensors.len(), 40);
}

#[test]
fn shared_names_in_external_data_carry_the_name_of_the_model() {
    let model = fixture("external.onnx");
    let mut files = sources(&["external.bin".into(), "weights/c.bin".into()]);
    files.extend([source("x.onnx", model), source("y.onnx", model)]);
    let tensors = find_tensors(&files).unwrap();
    assert_sound(&files, &tensors);
    assert_eq!(tensors[0].name, "x.onnx/a");
    assert_eq!(tensors[4].name, "y.onnx/a");
    assert_eq!((tensors[0].file, tensors[0].offset), (tensors[4].file, tensors[4].offset));
}

#[test]
fn only_paths_below_the_folder_pass() {
    for (path, normal) in [("a", "a"), ("./a//b/.", "a/b"), ("a..b/..c", "a..b/..c"), ("é/…", "é/…")] {
        assert_eq!(relative_path(path).unwrap(), normal);
    }
    for path in ["", ".", "./", "/", "/a", "//a", "..", "../a", "a/../b", "a/..", "\\a", "a\\..\\b", "C:a", "c:/a"] {
        assert!(relative_path(path).is_err(), "{path}");
    }
    for path in ["file:///etc/passwd", "a\0b", "a\nb"] {
        assert!(relative_path(path).is_err(), "{path:?}");
    }
}

static NO_BYTES: &[u8] = &[];

/// Both entry points must return, with a sound result or a typed error.
fn probe(name: &str, bytes: &[u8]) {
    let companions = companions(name, &bytes).unwrap_or_default();
    let mut files = vec![source(name, &bytes)];
    files.extend(companions.iter().filter(|path| *path != name).map(|path| {
        let known = FIXTURES.iter().find(|(known, _)| known == path);
        source(path, known.map_or(&NO_BYTES, |(_, bytes)| bytes))
    }));
    match find_tensors(&files) {
        Ok(tensors) => assert_sound(&files, &tensors),
        Err(
            error @ (Error::Invalid { .. }
            | Error::LimitExceeded { .. }
            | Error::Argument(_)
            | Error::Unsupported { .. }
            | Error::Incomplete { .. }),
        ) => assert!(!error.to_string().is_empty()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn truncation_at_every_byte_gives_a_typed_result() {
    for (name, bytes) in FIXTURES {
        for len in 0..bytes.len() {
            probe(name, &bytes[..len]);
        }
    }
}

#[test]
fn a_truncated_safetensors_file_is_never_accepted() {
    let bytes = fixture("dtypes.safetensors");
    for len in 0..bytes.len() {
        let bytes = &bytes[..len];
        let files = [source("m.safetensors", &bytes)];
        assert!(matches!(find_tensors(&files), Err(Error::Invalid { .. })), "{len} bytes");
    }
}

#[test]
fn a_truncated_gguf_file_is_never_accepted() {
    let bytes = fixture("types.gguf");
    let tensors = find_tensors(&[source("m.gguf", bytes)]).unwrap();
    let end = tensors.iter().map(|tensor| tensor.offset + tensor.bytes).max().unwrap();
    for len in 0..usize::try_from(end).unwrap() {
        let error = find_tensors(&[source("m.gguf", &&bytes[..len])]).unwrap_err();
        assert!(error.to_string().starts_with("invalid gguf: m.gguf: "), "{len} bytes: {error}");
    }
}

#[test]
fn shards_that_end_early_are_never_accepted() {
    let names = ["model.json", "group1-shard1of2.bin", "group1-shard2of2.bin", "group2-shard1of1.bin"];
    for (cut, name) in names.iter().enumerate().skip(1) {
        let mut files: Vec<_> = names.iter().map(|name| source(name, fixture(name))).collect();
        let cut_bytes = &fixture(name)[1..];
        files[cut].source = &cut_bytes;
        let error = find_tensors(&files).unwrap_err();
        assert!(error.to_string().starts_with("invalid tfjs: model.json: "), "{name}: {error}");
    }
}

#[test]
fn a_truncated_onnx_file_is_never_accepted_before_its_graph_ends() {
    let bytes = fixture("typed.onnx");
    for len in 0..bytes.len() {
        let bytes = &bytes[..len];
        let files = [source("m.onnx", &bytes)];
        let error = find_tensors(&files).unwrap_err();
        assert!(error.to_string().starts_with("invalid onnx: m.onnx: "), "{len} bytes: {error}");
    }
}

#[test]
fn flipping_any_bit_gives_a_typed_result() {
    for (name, bytes) in FIXTURES {
        let mut bytes = bytes.to_vec();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                bytes[index] ^= 1 << bit;
                probe(name, &bytes);
                bytes[index] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn changing_any_byte_to_an_extreme_gives_a_typed_result() {
    for (name, bytes) in FIXTURES {
        let mut bytes = bytes.to_vec();
        for index in 0..bytes.len() {
            let original = bytes[index];
            for value in [0x00, 0x7f, 0x80, 0xff] {
                bytes[index] = value;
                probe(name, &bytes);
            }
            bytes[index] = original;
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_give_a_typed_result(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for name in ["m.onnx", "m.safetensors", "m.safetensors.index.json", "m.gguf", "m-weights_manifest.json", "m"] {
            probe(name, &bytes);
        }
    }
}
