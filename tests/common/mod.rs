//! Model files for tests, made from scratch.

#![allow(dead_code, reason = "each test uses some of this")]

pub mod changed;
#[cfg(feature = "cli")]
pub mod command;
pub mod frames;
#[path = "../../src/noise.rs"]
mod noise;

pub use noise::Noise;

use mcwc::container::{FileEntry, TensorEntry};
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::exact::frame::exact;
use mcwc::encode::{Options, Target, encode_to_vec};
use mcwc::formats::SourceFile;
use mcwc::tensor::DType;

/// A tensor to be written into a safetensors file.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of floats, converted to `dtype`.
    pub fn floats(name: &str, dtype: DType, shape: &[u64], weights: &[f32]) -> Self {
        let element = |&weight: &f32| match dtype {
            DType::F16 => half::f16::from_f32(weight).to_le_bytes().to_vec(),
            DType::BF16 => half::bf16::from_f32(weight).to_le_bytes().to_vec(),
            DType::F64 => f64::from(weight).to_le_bytes().to_vec(),
            _ => weight.to_le_bytes().to_vec(),
        };
        Tensor { name: name.into(), dtype, shape: shape.into(), bytes: weights.iter().flat_map(element).collect() }
    }

    /// A tensor of arbitrary bytes.
    pub fn bytes(name: &str, dtype: DType, shape: &[u64], bytes: Vec<u8>) -> Self {
        Tensor { name: name.into(), dtype, shape: shape.into(), bytes }
    }
}

fn safetensors_dtype(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F64 => "F64",
        DType::I8 => "I8",
        DType::U8 => "U8",
        DType::I16 => "I16",
        DType::U16 => "U16",
        DType::I32 => "I32",
        DType::U32 => "U32",
        DType::I64 => "I64",
        DType::U64 => "U64",
        DType::Bool => "BOOL",
        DType::F8E4M3 => "F8_E4M3",
        DType::F8E5M2 => "F8_E5M2",
        DType::I4 | DType::U4 => panic!("safetensors has no 4-bit types"),
    }
}

/// A safetensors file.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.bytes.len();
        let entry = serde_json::json!({
            "dtype": safetensors_dtype(tensor.dtype), "shape": tensor.shape, "data_offsets": [start, end],
        });
        header.insert(tensor.name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    tensors.iter().for_each(|tensor| file.extend(&tensor.bytes));
    file
}

/// One file, encoded.
pub fn archive(file: &[u8], target: Target) -> Vec<u8> {
    let files = [SourceFile { name: "model.safetensors".into(), source: &file }];
    encode_to_vec(&files, None, &Options { target, ..Options::default() }).unwrap().0
}

/// A statistics file with this metadata, as JSON.
pub fn statistics(metadata: &str, tensors: &[Tensor]) -> Vec<u8> {
    let file = safetensors(tensors);
    let data = tensors.iter().map(|tensor| tensor.bytes.len()).sum::<usize>();
    let mut header: serde_json::Value = serde_json::from_slice(&file[8..file.len() - data]).unwrap();
    header["__metadata__"] = serde_json::from_str(metadata).unwrap();
    let header = header.to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, &file[file.len() - data..]].concat()
}

/// A file of one tensor of bytes, coded exactly as records with these fields.
pub fn records_archive(bytes: &[u8], record: &[u16]) -> Vec<u8> {
    let mut builder = ArchiveBuilder::default();
    builder.header.files.push(FileEntry { name: "f".into(), bytes: bytes.len() as u64, first_raw_chunk: 0 });
    builder.header.tensors.push(TensorEntry {
        name: "t".into(),
        dtype: DType::U8 as u32,
        shape: vec![bytes.len() as u64],
        frames: Some(vec![0]),
        ..TensorEntry::default()
    });
    builder.push_frame(exact(bytes, DType::U8, record, false)).unwrap();
    builder.finish().unwrap()
}

/// Floats, integers, vectors and odd shapes of every dtype that safetensors has.
pub fn every_kind(seed: u64) -> Vec<Tensor> {
    let mut random = Noise(seed);
    let mut tensors = Vec::new();
    let shapes: [&[u64]; 9] =
        [&[], &[1, 1], &[1], &[0, 7], &[37, 41], &[1, 1543], &[1543, 1], &[24, 3, 5, 5], &[2, 3, 211]];
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        for shape in shapes {
            let len = shape.iter().product::<u64>() as usize;
            let name = format!("{}{shape:?}", dtype.name());
            tensors.push(Tensor::floats(&name, dtype, shape, &random.normals(len, 0.05)));
        }
        let mut outliers = random.normals(64 * 96, 0.02);
        (outliers[7], outliers[5000]) = (175.0 * 0.02, -175.0 * 0.02);
        tensors.push(Tensor::floats(&format!("{}.outliers", dtype.name()), dtype, &[64, 96], &outliers));
        let mut special = random.normals(40 * 40, 0.02);
        (special[3], special[44], special[1000]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        tensors.push(Tensor::floats(&format!("{}.special", dtype.name()), dtype, &[40, 40], &special));
        tensors.push(Tensor::floats(&format!("{}.constant", dtype.name()), dtype, &[50, 50], &[0.75; 2500]));
        tensors.push(Tensor::floats(&format!("{}.zero", dtype.name()), dtype, &[50, 50], &[0.0; 2500]));
    }
    let integers = [
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::U64,
        DType::Bool,
        DType::F8E4M3,
        DType::F8E5M2,
    ];
    for dtype in integers {
        let bytes = random.bytes(33 * 17 * dtype.bits() as usize / 8);
        let bytes = if dtype == DType::Bool { bytes.iter().map(|byte| byte & 1).collect() } else { bytes };
        tensors.push(Tensor::bytes(dtype.name(), dtype, &[33, 17], bytes));
    }
    tensors
}
