//! Model files as they come, through the `mcwc` command: what is found in them, and what is said where nothing is.

#![cfg(feature = "cli")]

mod common;

use std::path::Path;

use common::command::{json, mcwc};
use common::{Noise, Tensor, safetensors};
use mcwc::encode::to_f32;
use mcwc::tensor::DType;
use serde_json::Value;

const ROWS: u64 = 64;
const COLUMNS: u64 = 96;

/// A file by its name.
type File = (&'static str, Vec<u8>);

fn folder(files: &[File]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(directory.path().join(name), bytes).unwrap());
    directory
}

/// Why `input` is not packed.
fn refusal(files: &[File], input: &str) -> String {
    let output = mcwc(folder(files).path(), &["encode", input, "-o", "m.mcwc"]);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// What packing gave.
struct Packed {
    /// As `inspect` tells them.
    tensors: Vec<Value>,
    notes: Vec<String>,
}

impl Packed {
    fn names(&self) -> Vec<&str> {
        self.tensors.iter().map(|tensor| tensor["name"].as_str().unwrap()).collect()
    }

    /// How tensors are coded.
    fn codings(&self) -> Vec<&str> {
        self.tensors.iter().map(|tensor| tensor["coding"].as_str().unwrap()).collect()
    }
}

/// Packs inputs without loss, which must give back all files, and then as the other arguments say.
fn packed(files: &[File], inputs: &[&str], arguments: &[&str]) -> Packed {
    let directory = folder(files);
    let path = directory.path();
    let lenient: Vec<&str> = arguments.iter().copied().filter(|argument| *argument == "--lenient").collect();
    json(path, &[["encode", "--json", "-o", "exact.mcwc", "--lossless"].as_slice(), inputs, &lenient].concat());
    json(path, &["decode", "--json", "exact.mcwc", "-o", "exact"]);
    for (name, bytes) in files {
        assert!(std::fs::read(path.join("exact").join(name)).unwrap() == *bytes, "{name} comes back");
    }
    let report = json(path, &[["encode", "--json", "-o", "m.mcwc"].as_slice(), inputs, arguments].concat());
    let notes = report["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned()).collect();
    let tensors = json(path, &["inspect", "--json", "m.mcwc"])["tensors"].as_array().unwrap().clone();
    json(path, &["decode", "--json", "m.mcwc", "-o", "out"]);
    for tensor in tensors.iter().filter(|tensor| tensor["coding"] == "key levels") {
        assert_close(path, tensor);
    }
    Packed { tensors, notes }
}

/// Checks that a tensor lies where the archive says: other bytes, taken as floats, would not come back so close.
fn assert_close(path: &Path, tensor: &Value) {
    let file = tensor["file"].as_str().unwrap();
    let [start, bytes] = ["offset", "bytes"].map(|key| tensor[key].as_u64().unwrap() as usize);
    let [before, after] = ["", "out"].map(|folder| std::fs::read(path.join(folder).join(file)).unwrap());
    let floats = |bytes: &[u8]| to_f32(bytes, DType::F32);
    let (before, after) = (floats(&before[start..start + bytes]), floats(&after[start..start + bytes]));
    let close = before.iter().zip(&after).all(|(x, y)| x.abs() < 1.0 && (x - y).abs() < 0.02);
    assert!(close && before != after, "{tensor}");
}

fn weights(seed: u64) -> Vec<u8> {
    Noise(seed).normals((ROWS * COLUMNS) as usize, 0.1).iter().flat_map(|weight| weight.to_le_bytes()).collect()
}

mod torch {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&[b'X', text.len() as u8, 0, 0, 0], text.as_bytes()].concat()
    }

    /// A member of a dictionary: a matrix in the storage of this key.
    fn member(name: &str, key: &str) -> Vec<u8> {
        let [rows, columns] = [ROWS as u8, COLUMNS as u8];
        [
            text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            [text(key), text("cpu"), b"M".to_vec(), ((ROWS * COLUMNS) as u16).to_le_bytes().to_vec()].concat(),
            vec![b't', b'Q', b'K', 0, b'K', rows, b'K', columns, 0x86, b'K', columns, b'K', 1, 0x86],
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ]
        .concat()
    }

    fn dictionary(members: &[Vec<u8>]) -> Vec<u8> {
        [b"\x80\x02}(".to_vec(), members.concat(), b"u.".to_vec()].concat()
    }

    /// A zip with entries of a name, a compression method and bytes.
    fn zip(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
        let (mut zip, mut directory) = (Vec::new(), Vec::new());
        for (name, method, content) in entries {
            let size = (content.len() as u32).to_le_bytes();
            let about = [&[20, 0, 0, 0, *method, 0], &[0; 8][..], &size, &size, &[name.len() as u8, 0, 0, 0]].concat();
            let place = (zip.len() as u32).to_le_bytes();
            directory.extend([b"PK\x01\x02\x14\0".as_slice(), &about, &[0; 10], &place, name.as_bytes()].concat());
            zip.extend([b"PK\x03\x04".as_slice(), &about, name.as_bytes(), content].concat());
        }
        let [start, bytes] = [zip.len() as u32, directory.len() as u32].map(u32::to_le_bytes);
        let count = [entries.len() as u8, 0];
        [zip, directory, [b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &bytes, &start, &[0, 0]].concat()].concat()
    }

    #[test]
    fn checkpoints_from_before_zips_are_found() {
        let keys = ["94000000000016", "94000000000032"];
        let bytes = [
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec(),
            dictionary(&[member("weight", keys[1]), member("other", keys[0])]),
            [b"\x80\x02](".to_vec(), keys.map(text).concat(), b"e.".to_vec()].concat(),
            [1, 2].map(|seed| [(ROWS * COLUMNS).to_le_bytes().to_vec(), weights(seed)].concat()).concat(),
        ]
        .concat();
        let end = bytes.len() as u64;
        let found = packed(&[("m.pth", bytes)], &["m.pth"], &["--bits", "5"]);
        assert_eq!(found.names(), ["other", "weight"]);
        assert_eq!(found.codings(), ["key levels"; 2]);
        assert_eq!(found.tensors[1]["offset"], end - 4 * ROWS * COLUMNS);
        assert_eq!(found.notes, [""; 0]);
    }

    #[test]
    fn the_tensors_of_modules_have_the_names_of_their_attributes() {
        let inner =
            [text("layer"), b"c__torch__\nLinear\n)\x81}(".to_vec(), member("weight", "1"), b"ub".to_vec()].concat();
        let module =
            [b"\x80\x02c__torch__\nNet\n)\x81}(".to_vec(), member("bias", "0"), inner, b"ub.".to_vec()].concat();
        let constants = [b"\x80\x02".to_vec(), member("", "0")[5..].to_vec(), b"\x85.".to_vec()].concat();
        let [first, second, third] = [1, 2, 3].map(weights);
        let file = zip(&[
            ("m/data/0", 0, &first),
            ("m/data/1", 0, &second),
            ("m/data.pkl", 0, &module),
            ("m/code/__torch__.py", 8, b"deflated"),
            ("m/constants/0", 0, &third),
            ("m/constants.pkl", 0, &constants),
        ]);
        let found = packed(&[("m.pt", file)], &["m.pt"], &["--bits", "5"]);
        assert_eq!(found.names(), ["bias", "layer.weight", "CONSTANTS.c0"]);
        assert_eq!((found.codings(), &found.notes), (vec!["key levels"; 3], &Vec::new()));
    }

    #[test]
    fn compressed_members_are_said_to_be_so() {
        let (pickle, floats) = (dictionary(&[member("weight", "0"), member("other", "1")]), weights(1));
        let all = zip(&[("m/data.pkl", 8, &pickle), ("m/data/0", 8, &floats)]);
        let found = packed(&[("m.pt", all)], &["m.pt"], &[]);
        assert_eq!(found.names(), [""; 0]);
        let expected = "no tensors found in m.pt: it travels exactly (compressed inside the zip, where only what is stored as it is can be found)";
        assert_eq!(found.notes, [expected]);
        let some = zip(&[("m/data.pkl", 0, &pickle), ("m/data/0", 0, &floats), ("m/data/1", 8, &floats)]);
        let found = packed(&[("m.pt", some)], &["m.pt"], &[]);
        assert_eq!(found.names(), ["weight"]);
        assert!(
            found.notes[0].starts_with("m.pt: 1 tensor is not found, and travels exactly (compressed"),
            "{:?}",
            found.notes
        );
        assert!(found.notes[0].ends_with("): other"), "{:?}", found.notes);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let (floats, pickle) = (weights(1), dictionary(&[member("weight", "0")]));
        for (name, entries, reason) in [
            (
                "big.pt",
                vec![("m/data.pkl", 0, pickle.as_slice()), ("m/byteorder", 0, b"big"), ("m/data/0", 0, &floats)],
                "big-endian",
            ),
            ("odd.pt", vec![("m/data.pkl", 0, b"\x80\x02?.".as_slice()), ("m/data/0", 0, &floats)], "damaged pickle"),
            ("gone.pt", vec![("m/data.pkl", 0, pickle.as_slice())], "not in the file"),
            ("other.pth", vec![("readme", 0, b"no model".as_slice())], "travels exactly"),
        ] {
            let found = packed(&[(name, zip(&entries))], &[name], &[]);
            assert_eq!((found.tensors.len(), found.notes.len()), (0, 1), "{name}");
            let note = &found.notes[0];
            assert!(
                note.starts_with(&format!("no tensors found in {name}: it travels exactly")) && note.contains(reason),
                "{note}"
            );
        }
    }
}

mod gguf {
    use super::*;

    /// A file with one matrix of floats, in either byte order.
    fn file(name: &str, seed: u64, little: bool) -> Vec<u8> {
        let u32 = |value: u32| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let u64 = |value: u64| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let counts = [u64(1), u64(0), u64(name.len() as u64)].concat();
        let about = [u32(2).as_slice(), &u64(COLUMNS), &u64(ROWS), &u32(0), &u64(0)].concat();
        let mut file = [b"GGUF".as_slice(), &u32(3), &counts, name.as_bytes(), &about].concat();
        file.resize(file.len().next_multiple_of(32), 0);
        let mut data = weights(seed);
        if !little {
            data.chunks_exact_mut(4).for_each(|float| float.reverse());
        }
        [file, data].concat()
    }

    #[test]
    fn the_parts_of_a_split_model_travel_together_whichever_is_named() {
        let names = ["model-00001-of-00002.gguf", "model-00002-of-00002.gguf"];
        let files = [(names[0], file("blk.0.w", 1, true)), (names[1], file("blk.1.w", 2, true))];
        for first in names {
            let found = packed(&files, &[first], &["--bits", "5"]);
            let mut tensors = found.names();
            tensors.sort_unstable();
            assert_eq!((tensors, found.codings()), (vec!["blk.0.w", "blk.1.w"], vec!["key levels"; 2]));
        }
        assert!(refusal(&files[1..], names[1]).contains(names[0]), "a part that is missing");
    }

    #[test]
    fn a_big_endian_file_travels_exactly_and_is_called_so() {
        let found = packed(&[("m.gguf", file("w", 1, false))], &["m.gguf"], &["--bits", "5"]);
        assert_eq!(found.names(), [""; 0]);
        assert_eq!(found.notes, ["no tensors found in m.gguf: it travels exactly (its byte order is big-endian)"]);
    }
}

mod tfjs {
    use super::*;

    fn model(mark: &str, weights: &str) -> File {
        let model = format!(
            r#"{mark}{{"modelTopology": {{}}, "weightsManifest": [{{"paths": ["a.bin"], "weights": [{weights}]}}]}}"#
        );
        ("model.json", model.into_bytes())
    }

    fn matrix() -> String {
        format!(r#"{{"name": "f", "shape": [{ROWS}, {COLUMNS}], "dtype": "float32"}}"#)
    }

    #[test]
    fn a_byte_order_mark_hides_nothing() {
        let files = [model("\u{feff}", &matrix()), ("a.bin", weights(1))];
        let found = packed(&files, &["model.json"], &["--bits", "5"]);
        assert_eq!((found.names(), found.codings()), (vec!["f"], vec!["key levels"]));
        assert!(refusal(&files[..1], "model.json").contains("a.bin"), "a shard that is missing");
    }

    #[test]
    fn weights_of_any_type_hide_no_others() {
        let before = |dtype: &str| format!(r#"{{"name": "k", "shape": [4], "dtype": "{dtype}"}},"#);
        let data = [vec![7; 32], weights(1)].concat();
        let int64 = [model("", &(before("int64") + &matrix())), ("a.bin", data.clone())];
        let found = packed(&int64, &["model.json"], &["--bits", "5"]);
        assert_eq!(
            (found.names(), found.codings(), &found.notes),
            (vec!["k", "f"], vec!["raw", "key levels"], &Vec::new())
        );
        let unknown = [model("", &(before("posit64") + &matrix())), ("a.bin", data)];
        let found = packed(&unknown, &["model.json"], &["--bits", "5"]);
        assert_eq!((found.names(), found.codings()), (vec!["f"], vec!["key levels"]));
        let expected = "model.json: 1 tensor is not found, and travels exactly (of a type that is not known here): k";
        assert_eq!(found.notes, [expected]);
    }
}

/// A safetensors file with bytes before its second tensor and at its end.
fn with_holes(hole: usize, rest: usize) -> Vec<u8> {
    let matrix = 4 * (ROWS * COLUMNS) as usize;
    let entry = |start: usize| {
        format!(r#"{{"dtype":"F32","shape":[{ROWS},{COLUMNS}],"data_offsets":[{start},{}]}}"#, start + matrix)
    };
    let header = format!(r#"{{"w":{},"b":{}}}"#, entry(0), entry(matrix + hole));
    let data = [weights(1), vec![0xaa; hole], weights(2), vec![0x55; rest]].concat();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

#[test]
fn bytes_that_belong_to_no_tensor_are_packed_on_demand() {
    for (hole, rest, where_) in
        [(8, 0, "bytes 24576..24584, before tensor \"b\""), (0, 5, "bytes 49152..49157, after the last")]
    {
        let files = [("m.safetensors", with_holes(hole, rest))];
        let why = refusal(&files, "m.safetensors");
        assert!(why.contains(where_) && why.contains("--lenient"), "{why}");
        let found = packed(&files, &["m.safetensors"], &["--lenient", "--bits", "5"]);
        assert_eq!((found.names(), found.codings()), (vec!["w", "b"], vec!["key levels"; 2]));
    }
    let cut = with_holes(0, 0);
    let directory = folder(&[("m.safetensors", cut[..cut.len() - 1].to_vec())]);
    let output = mcwc(directory.path(), &["encode", "m.safetensors", "--lenient"]);
    assert_eq!(output.status.code(), Some(1), "a file that ends early is damaged");
}

#[test]
fn what_is_no_model_is_called_what_it_is() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec();
    for name in ["model.safetensors", "model.pth", "model.tflite", "model.json"] {
        let expected = format!("mcwc: {name} is a Git LFS pointer, not the model: run git lfs pull\n");
        assert_eq!(refusal(&[(name, pointer.clone())], name), expected);
    }
    let page = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>".to_vec();
    assert_eq!(
        refusal(&[("m.onnx", page)], "m.onnx"),
        "mcwc: m.onnx is an HTML page, not the model: was its download refused?\n"
    );
    let shards = [("x.json", br#"[{"paths": ["weights"], "weights": []}]"#.to_vec()), ("weights", pointer)];
    assert!(refusal(&shards, "x.json").contains("weights is a Git LFS pointer"));
}

#[test]
fn files_that_look_like_models_are_told_of() {
    for (name, bytes, note) in [
        ("m.weights.h5", b"\x89HDF\r\n\x1a\nrest".to_vec(), " (tensors in HDF5 are not looked for)"),
        ("renamed", b"\x20\0\0\0TFL3rest".to_vec(), " (tensors in TFLite are not looked for)"),
        ("m.keras", b"PK\x03\x04".to_vec(), ""),
        ("m.safetensors", b"\x02\0\0\0\0\0\0\0{}".to_vec(), ""),
    ] {
        let found = packed(&[(name, bytes)], &[name], &[]);
        assert_eq!(found.notes, [format!("no tensors found in {name}: it travels exactly{note}")]);
    }
    let plain = packed(&[("notes.txt", b"no model".to_vec())], &["notes.txt"], &[]);
    assert_eq!(plain.notes, [""; 0]);
    let directory = folder(&[("m.h5", b"\x89HDF\r\n\x1a\n".to_vec())]);
    let table = mcwc(directory.path(), &["encode", "m.h5"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("no tensors found in m.h5"), "the table says so too");
}

/// Two models that share the name `w`.
fn twins() -> [File; 2] {
    let model = |own: &str, seed| {
        let mut random = Noise(seed);
        let weights = [0; 2].map(|_| random.normals((ROWS * COLUMNS) as usize, 0.1));
        let tensor = |(name, weights): (&str, &Vec<f32>)| Tensor::floats(name, DType::F32, &[ROWS, COLUMNS], weights);
        safetensors(&["w", own].into_iter().zip(&weights).map(tensor).collect::<Vec<_>>())
    };
    [("det.safetensors", model("box", 1)), ("rec.safetensors", model("text", 2))]
}

#[test]
fn names_that_files_share_are_prefixed_and_excluded_by_any_of_their_names() {
    let inputs = ["det.safetensors", "rec.safetensors"];
    let names = ["det.safetensors/w", "box", "rec.safetensors/w", "text"];
    let exact = |glob: &str| {
        let found = packed(&twins(), &inputs, &["--bits", "5", "--exclude", glob]);
        let tensors = found.names().into_iter().map(str::to_owned).zip(found.codings());
        let mut exact: Vec<String> =
            tensors.filter(|(_, coding)| *coding == "exact planes").map(|(name, _)| name).collect();
        exact.sort_unstable();
        exact
    };
    let mut found: Vec<String> = exact("*");
    found.sort_by_key(|name| names.iter().position(|known| known == name));
    assert_eq!(found, names);
    assert_eq!(exact("w"), ["det.safetensors/w", "rec.safetensors/w"]);
    assert_eq!(exact("rec.safetensors/*"), ["rec.safetensors/w", "text"]);
    assert_eq!(exact("det.safetensors/box"), ["box"]);
    assert_eq!(exact("nothing"), [""; 0]);
}
