//! Archives that are damaged, but whose hashes are right.

use mcwc::container::{Archive, Header, serialize_chunk_entry, serialize_head};
use mcwc::entropy::decode_planes;
use mcwc::format::PREAMBLE_BYTES;
use mcwc::tensor::Limits;

/// The archive with its header changed and all its hashes right again.
pub fn with_header(archive: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let (mut header, payloads) = split(archive);
    change(&mut header);
    [serialize_head(&header, None).unwrap(), payloads].concat()
}

/// The archive with one payload changed and all its hashes right again.
pub fn with_chunk(archive: &[u8], index: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let parsed = Archive::parse(archive, &Limits::default()).unwrap();
    let (mut header, _) = split(archive);
    let mut payloads: Vec<Vec<u8>> =
        parsed.chunks.iter().map(|chunk| archive[chunk.offset as usize..][..chunk.bytes as usize].to_vec()).collect();
    change(&mut payloads[index]);
    header.chunks.clear();
    payloads.iter().for_each(|payload| serialize_chunk_entry(payload, &mut header.chunks).unwrap());
    [serialize_head(&header, None).unwrap(), payloads.concat()].concat()
}

/// Header and payloads.
pub fn split(archive: &[u8]) -> (Header, Vec<u8>) {
    let head_bytes = Archive::head_bytes(archive, &Limits::default()).unwrap() as usize;
    let (len, coded) = archive[PREAMBLE_BYTES..head_bytes].split_first_chunk().unwrap();
    let mut cbor = vec![0; u32::from_le_bytes(*len) as usize];
    decode_planes(coded, cbor.len(), &mut cbor).unwrap();
    (Header::parse(&cbor, &Limits::default()).unwrap(), archive[head_bytes..].to_vec())
}
