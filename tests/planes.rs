//! Frames of planes that are predicted from others, of the same archive and of its base.

#![cfg(feature = "encoder")]

mod common;

use common::Noise;
use mcwc::container::{FileEntry, TensorEntry};
use mcwc::decode::Reader;
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::exact::frame::{exact, predicted};
use mcwc::tensor::{DType, Limits};

struct Part {
    dtype: DType,
    record: &'static [u16],
    bytes: Vec<u8>,
    /// Source and frame, and the bytes of that frame.
    reference: Option<([u64; 2], Vec<u8>)>,
}

/// An archive of one file, the parts one after another as tensors `0`, `1`, …, each in a frame of its own.
fn archive(parts: &[Part], base: Option<[u8; 16]>) -> Vec<u8> {
    let mut builder = ArchiveBuilder::default();
    builder.header.base = base.map(Vec::from);
    let bytes = parts.iter().map(|part| part.bytes.len() as u64).sum();
    builder.header.files.push(FileEntry { name: "f".into(), bytes, first_raw_chunk: 0 });
    let mut offset = 0;
    for (index, Part { dtype, record, bytes, reference }) in parts.iter().enumerate() {
        builder.header.tensors.push(TensorEntry {
            name: index.to_string(),
            dtype: *dtype as u32,
            shape: vec![bytes.len() as u64 * 8 / dtype.bits()],
            offset,
            frames: Some(vec![index as u64]),
            ..TensorEntry::default()
        });
        offset += bytes.len() as u64;
        let mut frame = match reference {
            Some((_, reference)) => predicted(bytes, *dtype, record, reference),
            None => exact(bytes, *dtype, record, false),
        };
        frame.entry.reference = reference.as_ref().map(|(frame, _)| frame.to_vec());
        builder.push_frame(frame).unwrap();
    }
    builder.finish().unwrap()
}

/// Some bytes of each kind: floats of two chunks, halves, records and integers.
fn kinds() -> [(DType, &'static [u16], Vec<u8>); 4] {
    let mut random = Noise(1);
    let floats = random.normals((1 << 18) + 77, 0.05);
    let f32s = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
    let bf16s = floats[..999].iter().flat_map(|float| ((float.to_bits() >> 16) as u16).to_le_bytes()).collect();
    let bytes: Vec<u8> = random.normals(3000, 20.0).iter().map(|float| *float as i32 as u8).collect();
    [
        (DType::F32, &[], f32s),
        (DType::BF16, &[], bf16s),
        (DType::U8, &[2, 1, 9], bytes.clone()),
        (DType::I16, &[], bytes),
    ]
}

/// The same with a few low bits changed in every byte but the highest of an element.
fn changed(bytes: &[u8], dtype: DType, seed: u64) -> Vec<u8> {
    let mut random = Noise(seed);
    let element_bytes = dtype.bits() as usize / 8;
    let change = |at| if at % element_bytes + 1 < element_bytes || element_bytes == 1 { 3 } else { 0 };
    let noise = random.normals(bytes.len(), 100.0);
    bytes.iter().zip(noise).enumerate().map(|(at, (byte, noise))| byte ^ (noise as i32 & change(at)) as u8).collect()
}

#[test]
fn planes_are_predicted_along_a_chain_of_longer_and_shorter_frames() {
    for (dtype, record, bytes) in kinds() {
        let record_bytes = record.iter().sum::<u16>().max(dtype.bits() as u16 / 8) as usize;
        let second = changed(&bytes[..bytes.len() / record_bytes / 3 * record_bytes], dtype, 2);
        let third = changed(&bytes, dtype, 3);
        let part = |bytes: &[u8], reference: Option<(u64, &[u8])>| Part {
            dtype,
            record,
            bytes: bytes.to_vec(),
            reference: reference.map(|(frame, bytes)| ([0, frame], bytes.to_vec())),
        };
        let parts = [part(&bytes, None), part(&second, Some((0, &bytes))), part(&third, Some((1, &second)))];
        let archive = archive(&parts, None);
        let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
        for (index, part) in parts.iter().enumerate().rev() {
            assert!(reader.tensor(&index.to_string()).unwrap() == part.bytes, "{dtype:?}, frame {index}");
        }
    }
}

/// A vector of the past, which `tests/format.rs` checks; it is written anew only when someone asks for it, under a version of the
/// format that is not released yet.
#[test]
fn an_archive_of_every_kind_of_predicted_planes_decodes() {
    let mut parts = Vec::new();
    for (dtype, record, bytes) in kinds() {
        let bytes = bytes[..bytes.len().min(24000)].to_vec();
        let (frame, other) = (parts.len() as u64, changed(&bytes, dtype, 5));
        parts.push(Part { dtype, record, bytes: bytes.clone(), reference: None });
        parts.push(Part { dtype, record, bytes: other, reference: Some(([0, frame], bytes)) });
    }
    let archive = archive(&parts, None);
    let reader = Reader::open(archive.as_slice(), &Limits::default()).unwrap();
    assert!(reader.file(0).unwrap() == parts.iter().flat_map(|part| part.bytes.clone()).collect::<Vec<u8>>());
    if std::env::var_os("MCWC_WRITE_VECTORS").is_some() {
        std::fs::write("tests/vectors/valid/predicted-planes.mcwc", archive).unwrap();
    }
}

#[test]
fn planes_are_predicted_from_a_base_which_makes_them_smaller() {
    for (dtype, record, bytes) in kinds() {
        let other = changed(&bytes, dtype, 4);
        let key = |bytes: &[u8]| Part { dtype, record, bytes: bytes.to_vec(), reference: None };
        let base = archive(&[key(&bytes)], None);
        let base = Reader::open(base.as_slice(), &Limits::default()).unwrap();
        let predicted = Part { reference: Some(([1, 0], bytes)), ..key(&other) };
        let delta = archive(&[predicted], Some(base.archive().integrity.0));
        assert!(delta.len() < archive(&[key(&other)], None).len(), "{dtype:?}");
        let delta = Reader::open(delta.as_slice(), &Limits::default()).unwrap().with_base(&base).unwrap();
        assert!(delta.tensor("0").unwrap() == other, "{dtype:?}");
    }
}

#[test]
fn references_of_another_kind_are_refused_by_name() {
    let [(dtype, _, bytes), (other, ..), ..] = kinds();
    let part = |dtype, reference| Part { dtype, record: &[], bytes: bytes.clone(), reference };
    let refused = |parts: &[Part]| match Reader::open(archive(parts, None).as_slice(), &Limits::default()) {
        Ok(_) => panic!("it opens"),
        Err(error) => error.to_string(),
    };
    let from = |frame| Some(([0, frame], bytes.clone()));
    assert!(refused(&[part(other, None), part(dtype, from(0))]).contains("its chunks do not correspond"));
    assert!(refused(&[part(dtype, from(0))]).contains("not an earlier frame"));
    assert!(refused(&[part(dtype, from(1)), part(dtype, from(0))]).contains("not an earlier frame"));
}
