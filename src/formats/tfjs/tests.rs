//! Manifests, whole and damaged, and where their tensors lie.

use super::*;
use crate::formats::{SourceFile, companions, find_tensors};

const NAME: &str = "web/model.json";

fn find(json: &str, shards: &[&[u8]]) -> Result<Vec<TensorLocation>> {
    let json = json.as_bytes();
    let mut files = vec![SourceFile { name: NAME.to_owned(), source: &json }];
    for (index, source) in shards.iter().enumerate() {
        files.push(SourceFile { name: format!("web/{index}.bin"), source });
    }
    find_tensors(&files)
}

fn model(paths: &str, weights: &str) -> String {
    format!(r#"{{"format": "x", "weightsManifest": [{{"paths": [{paths}], "weights": [{weights}]}}]}}"#)
}

fn weight(name: &str, shape: &str, dtype: &str) -> String {
    format!(r#"{{"name": "{name}", "shape": {shape}, "dtype": "{dtype}"}}"#)
}

fn found(json: &str, shards: &[&[u8]]) -> Vec<(String, Vec<u64>, usize, u64, u64)> {
    let tensors = find(json, shards).unwrap();
    tensors.into_iter().map(|t| (t.name, t.shape.0, t.file, t.offset, t.bytes)).collect()
}

#[test]
fn a_tensor_that_crosses_shards_is_cut_into_whole_rows() {
    let json = model(r#""0.bin", "1.bin", "2.bin""#, &weight("w", "[2, 4, 3]", "float32"));
    // Rows of 12 bytes: 0 to 2 in the first shard, the fourth is cut, 4 and 5 in the second, 7 in the third.
    let pieces = found(&json, &[&[0; 40], &[0; 33], &[0; 23]]);
    let expected = [
        ("w[0:3]".to_owned(), vec![3, 3], 1, 0, 36),
        ("w[4:6]".to_owned(), vec![2, 3], 2, 8, 24),
        ("w[7:8]".to_owned(), vec![1, 3], 3, 11, 12),
    ];
    assert_eq!(pieces, expected);
    let vector = model(r#""0.bin", "1.bin""#, &weight("v", "[5]", "uint16"));
    let pieces = found(&vector, &[&[0; 5], &[0; 5]]);
    assert_eq!(pieces, [("v[0:2]".to_owned(), vec![2], 1, 0, 4), ("v[3:5]".to_owned(), vec![2], 2, 1, 4)]);
    let narrow = model(r#""0.bin", "1.bin", "2.bin""#, &weight("s", "[]", "float32"));
    assert_eq!(found(&narrow, &[&[0; 1], &[0; 2], &[0; 1]]), []);
}

#[test]
fn strings_and_complex_numbers_are_passed_over() {
    let weights = [
        weight("a", "[1]", "uint8"),
        weight("words", "[2]", "string"),
        weight("waves", "[1]", "complex64"),
        weight("empty", "[0, 3]", "float32"),
        weight("b", "[2]", "bool"),
        weight("end", "[0]", "int32"),
    ];
    let shards: [&[u8]; 2] = [&[9, 3, 0], &[0, 0, b'o', b'n', b'e', 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0]];
    let json = model(r#""0.bin", "./1.bin""#, &weights.join(","));
    let expected = [
        ("a".to_owned(), vec![1], 1, 0, 1),
        ("empty".to_owned(), vec![0, 3], 2, 17, 0),
        ("b".to_owned(), vec![2], 2, 17, 2),
        ("end".to_owned(), vec![0], 2, 19, 0),
    ];
    assert_eq!(found(&json, &shards), expected);
}

#[test]
fn weights_of_an_unknown_type_take_what_the_others_leave() {
    let weights = |kind: &str, len: u64| {
        let unknown = weight("new", &format!("[{len}]"), kind);
        model(r#""0.bin""#, &[weight("a", "[4]", "uint8"), unknown, weight("b", "[1, 4]", "uint8")].join(","))
    };
    let places = |json: &str, bytes: usize| {
        found(json, &[&vec![0; bytes]]).into_iter().map(|(name, _, _, offset, _)| (name, offset)).collect::<Vec<_>>()
    };
    let both = |offset| vec![("a".to_owned(), 0), ("b".to_owned(), offset)];
    assert_eq!(places(&weights("float8_e4m3fn", 2), 10), both(6));
    assert_eq!(places(&weights("complex128", 2), 40), both(36));
    assert_eq!(places(&weights("int4", 3), 10), both(6));
    // Nothing has that length, so that nothing after it can be trusted.
    assert_eq!(places(&weights("int4", 3), 15), [("a".to_owned(), 0)]);
    let same = [weight("x", "[2]", "new"), weight("b", "[4]", "uint8"), weight("y", "[3]", "new")].join(",");
    assert_eq!(places(&model(r#""0.bin""#, &same), 14), [("b".to_owned(), 4)]);
    let twice = [weight("x", "[1]", "new"), weight("y", "[1]", "newer"), weight("b", "[4]", "uint8")].join(",");
    assert_eq!(places(&model(r#""0.bin""#, &twice), 9), []);
    let text = [weight("x", "[1]", "new"), weight("y", "[1]", "string"), weight("b", "[4]", "uint8")].join(",");
    assert_eq!(places(&model(r#""0.bin""#, &text), 9), []);
}

#[test]
fn integers_of_64_bits_are_found() {
    let weights = [weight("k", "[4]", "int64"), weight("f", "[2]", "float32")].join(",");
    let tensors = find(&model(r#""0.bin""#, &weights), &[&[0; 40]]).unwrap();
    let found: Vec<_> = tensors.iter().map(|tensor| (tensor.dtype, tensor.offset)).collect();
    assert_eq!(found, [(DType::I64, 0), (DType::F32, 32)]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    for json in [model(r#""0.bin""#, &weight("w", "[2]", "float32")), r#"[{"paths": ["0.bin"], "weights": []}]"#.into()]
    {
        let json = format!("\u{feff}{json}");
        assert_eq!(companions("x.json", &json.as_bytes()).unwrap(), ["0.bin"]);
        assert!(find(&json, &[&[0; 8]]).is_ok());
    }
}

#[test]
fn quantized_weights_have_the_type_that_is_stored() {
    let quantized = r#"{"name": "q", "shape": [3], "dtype": "float32",
        "quantization": {"dtype": "uint16", "scale": 0.1, "min": -1}}"#;
    let tensors = find(&model(r#""0.bin""#, quantized), &[&[0; 6]]).unwrap();
    assert_eq!((tensors[0].dtype, tensors[0].bytes, tensors[0].axes), (DType::U16, 6, Axes::OutputLast));
}

#[test]
fn rejects_weights_that_do_not_fit() {
    let reason = |shape: &str, dtype: &str, bytes: &[u8]| {
        find(&model(r#""0.bin""#, &weight("w", shape, dtype)), &[bytes]).unwrap_err().to_string()
    };
    assert_eq!(
        reason("[2]", "float32", &[0; 7]),
        "invalid tfjs: web/model.json: \"w\" takes 8 bytes at 0, but its shards hold 7"
    );
    assert!(reason("[1099511627776, 1099511627776]", "uint8", &[]).contains("impossible shape"));
    assert!(reason("[1152921504606846976]", "uint8", &[0; 9]).contains("its shards hold 9"));
    assert!(reason("[-1]", "uint8", &[]).contains("web/model.json: "));
    assert!(reason("[1152921504606846976]", "string", &[0; 16]).contains("beyond its shards"));
    assert!(reason("[1]", "string", &[255; 16]).contains("beyond its shards"));
    assert!(reason("[1]", "string", &[0; 3]).contains("beyond its shards"));
}

#[test]
fn shards_must_be_files_below_the_folder() {
    for path in ["../x", "/x", "c:x", "http://x/y", "", "model.json", "./model.json"] {
        let json = model(&format!("{path:?}"), "");
        for result in [companions(NAME, &json.as_bytes()).map(drop), find(&json, &[]).map(drop)] {
            assert!(matches!(result, Err(Error::Invalid { field: "tfjs", .. })), "{path:?}");
        }
    }
    assert!(matches!(find(&model(r#""0.bin""#, ""), &[]), Err(Error::Argument(_))));
    let other = model("", "");
    let error = find(&model(r#""0.bin""#, ""), &[other.as_bytes()]).unwrap_err().to_string();
    assert!(error.contains("shard \"0.bin\" is a model"), "{error}");
}

#[test]
fn only_manifests_are_recognized() {
    let manifest = r#" [{"weights": [], "paths": ["x.bin"]}]"#;
    for (name, json, expected) in [
        ("x.json", manifest, true),
        ("x", manifest, true),
        ("x.json", r#"{"weightsManifest": []}"#, true),
        ("x.json", r#"{"weightsManifest": null}"#, false),
        ("x.json", r#"{"note": "no \"weightsManifest\" here"}"#, false),
        ("x.json", r#"{"inner": {"weightsManifest": []}}"#, false),
        ("x.json", "[]", false),
        ("x.json", r#"[{"paths": ["a"]}]"#, false),
        ("x.json", r#"{"weightsManifest": [{"#, true),
        ("x.js", r#"{"weightsManifest": [{"#, false),
        ("x-weights_manifest.json", "[{", true),
        ("x.json", "[{", false),
    ] {
        assert_eq!(looks_like(&Window::new(name, &json.as_bytes())).unwrap(), expected, "{name}: {json}");
    }
    assert!(companions("x-weights_manifest.json", &b"[{".as_slice()).is_err());
    assert!(find(r#"{"weightsManifest": [{"paths": 1}]}"#, &[]).is_err());
    assert_eq!(companions("x.json", &manifest.as_bytes()).unwrap(), ["x.bin"]);
}
