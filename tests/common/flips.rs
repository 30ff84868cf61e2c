//! Small archives with every bit flipped and cut at every place, their hashes repaired (tests/reference/flips.py).

use std::ops::Range;

use mcwc::container::Hash;

const PREAMBLE_BYTES: usize = 32;
const HASH: Range<usize> = 16..32;
const CHUNK_ENTRY_BYTES: usize = 20;
const FLAG_CODED: u8 = 1;

/// A chunk, and its entry in the header.
struct Chunk {
    entry: usize,
    bytes: Range<usize>,
}

/// Every flip; every archive that ends early; every header that does; every chunk that does.
pub fn mutations(original: &[u8]) -> Vec<Vec<u8>> {
    let header_end = header_end(original);
    let chunks = chunks(original, header_end);
    let mut archives: Vec<Vec<u8>> = (0..8 * original.len()).map(|bit| flipped(original, &chunks, bit)).collect();
    archives.extend((0..original.len()).map(|len| original[..len].to_vec()));
    archives.extend((PREAMBLE_BYTES..header_end).map(|end| {
        let mut archive = [&original[..end], &original[header_end..]].concat();
        archive[12..16].copy_from_slice(&stored_len(end - PREAMBLE_BYTES));
        with_header_repaired(archive)
    }));
    for Chunk { entry, bytes } in &chunks {
        archives.extend(bytes.clone().map(|end| {
            let mut archive = [&original[..end], &original[bytes.end..]].concat();
            archive[*entry..entry + 4].copy_from_slice(&stored_len(end - bytes.start));
            repair_chunk(&mut archive, *entry, bytes.start..end);
            with_header_repaired(archive)
        }));
    }
    archives
}

fn header_end(archive: &[u8]) -> usize {
    PREAMBLE_BYTES + loaded_len(archive, 12)
}

/// Their entries are the end of a header that is not coded.
fn chunks(archive: &[u8], header_end: usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let (mut entry, mut end) = (header_end, archive.len());
    while archive[10] & FLAG_CODED == 0 && end > header_end {
        entry -= CHUNK_ENTRY_BYTES;
        let start = end - loaded_len(archive, entry);
        chunks.insert(0, Chunk { entry, bytes: start..end });
        end = start;
    }
    chunks
}

/// A flip in the header's hash is left as it is, as are those of chunks in the header.
fn flipped(original: &[u8], chunks: &[Chunk], bit: usize) -> Vec<u8> {
    let mut archive = original.to_vec();
    let place = bit / 8;
    archive[place] ^= 1 << (bit % 8);
    if HASH.contains(&place) {
        return archive;
    }
    if let Some(Chunk { entry, bytes }) = chunks.iter().find(|chunk| chunk.bytes.contains(&place)) {
        repair_chunk(&mut archive, *entry, bytes.clone());
    }
    with_header_repaired(archive)
}

fn repair_chunk(archive: &mut [u8], entry: usize, bytes: Range<usize>) {
    let hash = Hash::of(&[&archive[bytes]]);
    archive[entry + 4..entry + CHUNK_ENTRY_BYTES].copy_from_slice(&hash.0);
}

/// If all of it is there.
fn with_header_repaired(mut archive: Vec<u8>) -> Vec<u8> {
    if let Some(header) = archive.get(PREAMBLE_BYTES..header_end(&archive)) {
        let hash = Hash::of(&[&archive[..HASH.start], header]);
        archive[HASH].copy_from_slice(&hash.0);
    }
    archive
}

fn loaded_len(archive: &[u8], at: usize) -> usize {
    u32::from_le_bytes(archive[at..at + 4].try_into().unwrap()) as usize
}

fn stored_len(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap().to_le_bytes()
}
