//! What mutations begin with: small archives and model files of every kind.

use std::path::Path;

use mcwc::container::{Archive, FileEntry, TensorEntry};
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::exact::frame::{self, exact};
use mcwc::encode::levels::matrix::Matrix;
use mcwc::encode::{Options, Target, encode_to_vec};
use mcwc::formats::SourceFile;
use mcwc::tensor::{DType, Limits};

use super::pair;
use crate::common::Noise;
use crate::common::frames::{Case, FLOATS, INTEGERS, case, predicted};
use crate::common::{Tensor, archive, safetensors, statistics};

/// Larger seeds take longer than they teach, and so do those that are slow on purpose.
const SEED_BYTES_MAX: usize = 6 << 10;
const SLOW: &str = "slow-";

/// The fuzzing crate lies in a folder of the repository.
fn repository() -> &'static Path {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.find(|folder| folder.join("tests/vectors").is_dir()).expect("the repository's tests")
}

fn read(path: &str) -> Vec<u8> {
    let path = repository().join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Archives of the past that need no base, and of the present.
pub fn archives() -> Vec<Vec<u8>> {
    let mut archives = Vec::new();
    for line in String::from_utf8(read("tests/vectors/valid/digests.txt")).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if !line.starts_with('#') && words.len() == 3 && !line.starts_with(SLOW) {
            archives.push(read(&format!("tests/vectors/valid/{}", words[0])));
        }
    }
    archives.retain(|archive| archive.len() <= SEED_BYTES_MAX);
    archives.dedup();
    archives.extend(frames(1));
    archives.extend(planes(2));
    archives.extend(encoded());
    archives
}

/// One frame each, with every part somewhere.
fn frames(seed: u64) -> Vec<Vec<u8>> {
    let mut random = Noise(seed);
    let frame = |index: u64| {
        let dtype = if index.is_multiple_of(3) { INTEGERS[random.below(5)] } else { FLOATS[random.below(4)] };
        let taps = [1, 1, 4, 9][random.below(4)];
        let matrix = Matrix { rows: 1 + random.below(12), columns: 1 + random.below(9), taps };
        let low_bits = if index % 5 == 1 { 1 + random.below(11) as u32 } else { 0 };
        let mut case = case(matrix, dtype, random.next() as u32 & 0x3ff, low_bits, random.next());
        case.chunk_rows = [0, 1, 3][random.below(3)];
        if index % 7 == 2 && dtype.is_float() && taps > 1 {
            case.plan.dct = true;
            case.plan.column_permutation = None;
        }
        case.archive()
    };
    let mut archives: Vec<Vec<u8>> = (0..40).map(frame).collect();
    let chain =
        |seed: u64| predicted(&[7, 5, 9], 4, 1 + (seed % 3) as usize, FLOATS[seed as usize % 4], seed).archive();
    archives.extend((0..12).map(chain));
    archives
}

/// Bytes that each mode of planes is good for, exact and predicted.
fn planes(seed: u64) -> Vec<Vec<u8>> {
    let mut random = Noise(seed);
    let mut contents = vec![vec![7; 300], random.bytes(200), b"abcdefgh, ".repeat(60)];
    contents.push((0..900).map(|_| (random.below(4) * random.below(3)) as u8).collect());
    contents.push(random.normals(200, 0.1).iter().flat_map(|weight| weight.to_le_bytes()).collect());
    let mut order = 0u8;
    contents.push(
        std::iter::repeat_with(|| {
            order = order.wrapping_mul(5) ^ (random.below(3) as u8);
            order
        })
        .take(700)
        .collect(),
    );
    let mut archives = Vec::new();
    for (bytes, dtype) in
        contents.iter().flat_map(|bytes| [DType::U8, DType::F32, DType::I16].map(|dtype| (bytes, dtype)))
    {
        archives.push(exact_archive(bytes, dtype, &[], 1));
        archives.push(exact_archive(bytes, dtype, &[], 2));
    }
    archives.push(exact_archive(&random.bytes(180), DType::U8, &[2, 16], 1));
    archives.push(exact_archive(&random.bytes(180), DType::U8, &[2, 16], 2));
    archives
}

/// A raw byte and some tensors of nearly the same bytes, each predicted from the one before.
fn exact_archive(bytes: &[u8], dtype: DType, record: &[u16], tensors: u64) -> Vec<u8> {
    let bytes = &bytes[..bytes.len() / 4 * 4];
    let mut builder = ArchiveBuilder::default();
    let first_raw_chunk = builder.push_chunks(vec![vec![1, 9]]).unwrap();
    builder.header.files.push(FileEntry { name: "f".into(), bytes: 1 + tensors * bytes.len() as u64, first_raw_chunk });
    let mut reference: Option<Vec<u8>> = None;
    for index in 0..tensors {
        let mut changed = bytes.to_vec();
        changed.iter_mut().step_by(5).for_each(|byte| *byte = byte.wrapping_add(index as u8));
        let mut frame = match &reference {
            Some(reference) => frame::predicted(&changed, dtype, record, reference),
            None => exact(&changed, dtype, record, false),
        };
        frame.entry.reference = reference.map(|_| vec![0, index - 1]);
        let frame = builder.push_frame(frame).unwrap();
        builder.header.tensors.push(TensorEntry {
            name: format!("{index}"),
            dtype: dtype as u32,
            shape: vec![bytes.len() as u64 / dtype.element_bytes() as u64],
            offset: 1 + index * bytes.len() as u64,
            frames: Some(vec![frame.into()]),
            ..TensorEntry::default()
        });
        reference = Some(changed);
    }
    builder.finish().unwrap()
}

/// What the encoder makes of small models: with loss, in passes, without loss.
fn encoded() -> Vec<Vec<u8>> {
    let mut random = Noise(3);
    let file = safetensors(&[
        Tensor::floats("a.weight", DType::F32, &[24, 20], &random.normals(480, 0.1)),
        Tensor::floats("b.weight", DType::BF16, &[6, 4, 3, 3], &random.normals(216, 0.1)),
        Tensor::floats("bias", DType::F16, &[50], &random.normals(50, 1.0)),
    ]);
    let files = [SourceFile { name: "m.safetensors".into(), source: &file }];
    let encode =
        |target, passes| encode_to_vec(&files, None, &Options { target, passes, ..Options::default() }).unwrap().0;
    vec![
        encode(Target::Bits(4.0), &[]),
        encode(Target::Bits(8.0), &[]),
        encode(Target::Bits(5.0), &[2.0, 3.5]),
        encode(Target::Lossless, &[]),
    ]
}

/// Bases, and deltas to them.
pub fn deltas() -> Vec<[Vec<u8>; 2]> {
    let mut pairs = Vec::new();
    for seed in 0..12 {
        let mut delta = predicted(&[6, 8], 5, 1 + seed as usize % 2, FLOATS[seed as usize % 4], seed);
        let base = delta.reference.take().map(|base| base.archive()).unwrap_or_default();
        let mut builder = ArchiveBuilder::default();
        builder.header.base = Archive::parse(&base, &Limits::default()).ok().map(|base| base.integrity.0.to_vec());
        if let Some(prediction) = &mut delta.plan.prediction {
            prediction.reference = [1, 0];
        }
        Case::push_file(&[&delta], &mut builder);
        pairs.push([base, builder.finish().unwrap()]);
    }
    pairs
}

/// A model file and those that come along, by their names; the first is the one that mutations are for.
pub type Model = Vec<(String, Vec<u8>)>;

/// Model files of every format.
pub fn models() -> Vec<Model> {
    const MODELS: [&[&str]; 11] = [
        &["dtypes.safetensors"],
        &["sharded.safetensors.index.json", "sharded-00001-of-00002.safetensors", "sharded-00002-of-00002.safetensors"],
        &["raw.onnx"],
        &["typed.onnx"],
        &["nested.onnx"],
        &["external.onnx", "external.bin", "weights/c.bin"],
        &["types.gguf"],
        &["model.json", "group1-shard1of2.bin", "group1-shard2of2.bin", "group2-shard1of1.bin"],
        &["face-weights_manifest.json", "face_model.bin"],
        &["checkpoint.pth"],
        &["external.bin"],
    ];
    let file = |name: &&str| (name.to_string(), read(&format!("tests/data/formats/{name}")));
    let mut models: Vec<Model> = MODELS.iter().map(|names| names.iter().map(file).collect()).collect();
    models.push(vec![("old.pth".into(), old_checkpoint())]);
    models
}

/// A checkpoint from before PyTorch 1.6: `{"w": tensor}` of six floats.
fn old_checkpoint() -> Vec<u8> {
    let text = |text: &str| [&[b'X', text.len() as u8, 0, 0, 0], text.as_bytes()].concat();
    [
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec(),
        [b"\x80\x02}".to_vec(), text("little_endian"), b"\x88s.".to_vec()].concat(),
        [b"\x80\x02}q\x00(".to_vec(), text("w"), b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec()].concat(),
        [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu")].concat(),
        b"K\x06NtQK\x00(K\x02K\x03t(K\x03K\x01t\x89ccollections\nOrderedDict\n)RtRu.".to_vec(),
        [b"\x80\x02](".to_vec(), text("0"), b"e.".to_vec()].concat(),
        6u64.to_le_bytes().to_vec(),
        (0..6u8).flat_map(|value| f32::from(value).to_le_bytes()).collect(),
    ]
    .concat()
}

/// Statistics of weights (docs/CALIBRATION.md).
pub fn statistics_files() -> Vec<Vec<u8>> {
    let metadata = r#"{"format": "mcwc-statistics", "version": "1", "inputs": "samples"}"#;
    let ones = |len: usize| vec![1.5; len];
    let tensor = |name: &str, shape: &[u64]| {
        Tensor::floats(name, DType::F32, shape, &ones(shape.iter().product::<u64>() as usize))
    };
    let tensors = [
        tensor("w/importance", &[]),
        tensor("w/row_importance", &[4]),
        tensor("w/column_moments", &[6, 6]),
        tensor("v/row_moments", &[3, 3]),
    ];
    vec![statistics(metadata, &tensors), statistics(metadata, &tensors[..1])]
}

/// Options, bases and files, for the encoder.
pub fn encodings() -> Vec<Vec<u8>> {
    let mut random = Noise(4);
    let mut hard = random.normals(180, 0.1);
    (hard[3], hard[40], hard[100], hard[101]) = (f32::NAN, f32::INFINITY, 1e-42, 3e38);
    let smooth: Vec<f32> = (0..256).map(|at| (at as f32 / 9.0).sin()).collect();
    let weights = random.normals(240, 0.1);
    let sets = [
        vec![Tensor::floats("a", DType::F32, &[12, 20], &weights), Tensor::floats("b", DType::F32, &[12, 15], &hard)],
        vec![
            Tensor::floats("k", DType::F16, &[4, 4, 4, 4], &smooth),
            Tensor::floats("c", DType::F64, &[9, 9], &[0.5; 81]),
        ],
        vec![
            Tensor::floats("a", DType::F32, &[12, 20], &weights),
            Tensor::floats("a2", DType::BF16, &[12, 20], &weights),
        ],
        vec![
            Tensor::bytes("q", DType::I8, &[20, 20], random.bytes(400)),
            Tensor::floats("z", DType::F32, &[8, 8], &[0.0; 64]),
        ],
    ];
    let files: Vec<Vec<u8>> = sets.iter().map(|tensors| safetensors(tensors)).collect();
    let base = archive(&files[0], Target::Bits(5.0));
    let exact = archive(&files[0], Target::Lossless);
    let mut cases = Vec::new();
    for (index, file) in (0u8..).zip(&files) {
        for (number, base) in (0u8..).zip([&[][..], &base, &exact]) {
            cases.push(pair(&[0x1f, index + number, 40, 4], &pair(base, file)));
            cases.push(pair(&[0x5f, 3, 80, 4], &pair(base, file)));
        }
    }
    cases
}
