//! A TensorFlow.js `model.json` or weights manifest -> the tensors in the shards beside it.
//!
//! A manifest is a list of groups. The tensors of a group follow one another, without gaps, through the concatenation
//! of its shards, so one may begin in a shard and end in the next. Quantized weights are the integers that are stored;
//! scale and minimum stay in the JSON. The outputs are the last axis: `[in, out]`, `[kernel…, in, out]`.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::window::Window;
use super::{Format, MAX_JSON_BYTES, Sources, base_name, relative_path, tensor_bytes};
use crate::error::{Error, Result};
use crate::tensor::{Axes, DType, Shape, TensorLocation};

/// The member of a `model.json` that lists its weights.
const MANIFEST_KEY: &[u8] = b"\"weightsManifest\"";

/// Whether this is JSON with a manifest, or damaged JSON that is named and begins like one.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "weightsManifest")]
        manifest: Option<IgnoredAny>,
    }
    if file.bytes > MAX_JSON_BYTES {
        return Ok(false);
    }
    let name = base_name(file.name).to_ascii_lowercase();
    match file.first_visible(0..file.bytes)? {
        Some(b'{') => {
            let bytes = read_json(file)?;
            let is_mentioned = bytes.windows(MANIFEST_KEY.len()).any(|window| window == MANIFEST_KEY);
            let probe = || serde_json::from_slice(&bytes).map(|Probe { manifest }| manifest.is_some());
            Ok(is_mentioned && probe().unwrap_or_else(|_| name.ends_with(".json")))
        }
        Some(b'[') => {
            let groups = serde_json::from_slice::<Vec<Group>>(&read_json(file)?);
            Ok(groups.map_or_else(|_| name.ends_with("weights_manifest.json"), |groups| !groups.is_empty()))
        }
        _ => Ok(false),
    }
}

fn read_json(file: &Window) -> Result<Vec<u8>> {
    file.read(0..file.bytes, "tfjs JSON length", MAX_JSON_BYTES)
}

/// The shards, in the order of their first mention.
pub(super) fn companions(file: &Window) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut shards = Vec::new();
    for path in read_groups(file)?.iter().flat_map(|group| &group.paths) {
        let shard = shard_path(file.name, path)?;
        if seen.insert(shard.clone()) {
            shards.push(shard);
        }
    }
    Ok(shards)
}

/// The tensors of a manifest, in its order. One that crosses into another shard is cut into pieces of whole rows,
/// named `kernel[0:96]` by their rows where all axes but the last are rows; the bytes of a row that is cut itself
/// belong to no piece.
pub(super) fn find_tensors(file: &Window, sources: &Sources) -> Result<Vec<TensorLocation>> {
    let mut tensors = Vec::new();
    for group in read_groups(file)? {
        Shards::open(file.name, &group.paths, sources)?.find_tensors(group.weights, &mut tensors)?;
    }
    Ok(tensors)
}

fn invalid(name: &str, reason: &str) -> Error {
    Error::invalid("tfjs", format!("{name}: {reason}"))
}

fn read_groups(file: &Window) -> Result<Vec<Group>> {
    let bytes = read_json(file)?;
    let groups = if bytes.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(&bytes)
    } else {
        serde_json::from_slice(&bytes).map(|Model { groups }| groups)
    };
    groups.map_err(|error| invalid(file.name, &error.to_string()))
}

fn shard_path(name: &str, path: &str) -> Result<String> {
    let path = relative_path(path).map_err(|why| invalid(name, &format!("shard {path:?} {why}")))?;
    if path == base_name(name) { Err(invalid(name, "is named as a shard of itself")) } else { Ok(path) }
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "weightsManifest")]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<u64>,
    dtype: String,
    quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    dtype: String,
}

impl Weight {
    /// The type of the elements as they are stored.
    fn stored_type(&self) -> &str {
        self.quantization.as_ref().map_or(&self.dtype, |quantization| &quantization.dtype)
    }
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "float32" => DType::F32,
        "float16" => DType::F16,
        "int32" => DType::I32,
        "uint16" => DType::U16,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        _ => return None,
    })
}

/// The shards of a group, one after another.
struct Shards<'a> {
    /// Of the manifest.
    name: &'a str,
    shards: Vec<Shard<'a>>,
    bytes: u64,
}

struct Shard<'a> {
    file: usize,
    window: Window<'a>,
    start: u64,
    end: u64,
}

impl<'a> Shards<'a> {
    fn open(name: &'a str, paths: &[String], sources: &Sources<'a>) -> Result<Self> {
        let mut shards = Shards { name, shards: Vec::new(), bytes: 0 };
        for path in paths {
            let path = shard_path(name, path)?;
            let (file, shard, format) = sources.companion(name, &path)?;
            if format != Format::Other {
                return Err(invalid(name, &format!("shard {path:?} is a model")));
            }
            let (start, window) = (shards.bytes, Window::of(shard));
            shards.bytes = start.saturating_add(window.bytes);
            shards.shards.push(Shard { file, window, start, end: shards.bytes });
        }
        Ok(shards)
    }

    fn find_tensors(&self, weights: Vec<Weight>, tensors: &mut Vec<TensorLocation>) -> Result<()> {
        let mut start = 0;
        for weight in weights {
            let Some(bytes) = self.weight_bytes(&weight, start)? else {
                // Without its length nothing that follows can be found.
                return Ok(());
            };
            let end = u64::checked_add(start, bytes).filter(|&end| end <= self.bytes);
            let end = end.ok_or_else(|| {
                self.invalid(&weight, format!("takes {bytes} bytes at {start}, but its shards hold {}", self.bytes))
            })?;
            if let Some(dtype) = dtype(weight.stored_type()) {
                self.locate(weight, dtype, start, end, tensors);
            }
            start = end;
        }
        Ok(())
    }

    fn invalid(&self, weight: &Weight, why: impl std::fmt::Display) -> Error {
        invalid(self.name, &format!("{:?} {why}", weight.name))
    }

    /// Bytes that a weight takes from `start` on; none where its type is unknown.
    fn weight_bytes(&self, weight: &Weight, start: u64) -> Result<Option<u64>> {
        let of_dtype = |dtype| {
            let bytes = tensor_bytes(dtype, &Shape(weight.shape.clone()));
            bytes.map_err(|why| self.invalid(weight, why))
        };
        match weight.stored_type() {
            "string" => {
                let bytes = self.string_bytes(of_dtype(DType::U8)?, start)?;
                bytes.map(Some).ok_or_else(|| self.invalid(weight, "ends beyond its shards"))
            }
            "complex64" => of_dtype(DType::F64).map(Some),
            other => dtype(other).map(of_dtype).transpose(),
        }
    }

    /// Bytes of `len` strings, each after its length; none where they end beyond the shards.
    fn string_bytes(&self, len: u64, start: u64) -> Result<Option<u64>> {
        let mut end = start;
        for _ in 0..len {
            let mut string_bytes = [0; 4];
            for byte in &mut string_bytes {
                let Some(found) = self.byte(end)? else { return Ok(None) };
                *byte = found;
                end = end.saturating_add(1);
            }
            end = end.saturating_add(u32::from_le_bytes(string_bytes).into());
        }
        Ok((end <= self.bytes).then_some(end.saturating_sub(start)))
    }

    /// The shards from the one that holds the byte at `position` on.
    fn from(&self, position: u64) -> &[Shard<'a>] {
        self.shards.get(self.shards.partition_point(|shard| shard.end <= position)..).unwrap_or_default()
    }

    fn byte(&self, position: u64) -> Result<Option<u8>> {
        let Some(shard) = self.from(position).first() else { return Ok(None) };
        shard.window.byte(position.saturating_sub(shard.start))
    }

    /// Adds the tensor at `start..end`, or the pieces of it that lie in one shard each.
    fn locate(&self, weight: Weight, dtype: DType, start: u64, end: u64, tensors: &mut Vec<TensorLocation>) {
        let Weight { name, shape, .. } = weight;
        let shape = Shape(shape);
        // An empty tensor may stand at the very end.
        let last = self.shards.len().saturating_sub(1);
        let shards = if start == self.bytes { self.shards.get(last..).unwrap_or_default() } else { self.from(start) };
        let add = |name: String, shape: Shape, shard: &Shard, from: u64, to: u64| TensorLocation {
            name,
            dtype,
            shape,
            file: shard.file,
            offset: from.saturating_sub(shard.start),
            bytes: to.saturating_sub(from),
            axes: Axes::OutputLast,
            record: &[],
        };
        if let Some(shard) = shards.first().filter(|shard| end <= shard.end) {
            tensors.push(add(name, shape, shard, start, end));
            return;
        }
        let row_len = if shape.0.len() > 1 { shape.0.last().copied() } else { None };
        let row_bytes = row_len.unwrap_or(1).saturating_mul(dtype.bits() / 8);
        let row_at = |position: u64| start.saturating_add(row_bytes.saturating_mul(position));
        for shard in shards.iter().take_while(|shard| shard.start < end) {
            let first = shard.start.saturating_sub(start).div_ceil(row_bytes);
            let last = shard.end.min(end).saturating_sub(start).checked_div(row_bytes).unwrap_or(0);
            if first < last {
                let piece = Shape([last.saturating_sub(first)].into_iter().chain(row_len).collect());
                tensors.push(add(format!("{name}[{first}:{last}]"), piece, shard, row_at(first), row_at(last)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SourceFile, companions, find_tensors};
    use super::*;

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
    fn what_follows_an_unknown_type_is_left_out() {
        let weights = [weight("a", "[4]", "uint8"), weight("new", "[1]", "int4"), weight("b", "[4]", "uint8")];
        assert_eq!(found(&model(r#""0.bin""#, &weights.join(",")), &[&[0; 9]]).len(), 1);
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
}
