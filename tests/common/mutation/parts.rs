//! An archive taken apart, changed, and put together again with all hashes right, so that no change is refused for its hash alone.

use mcwc::container::{Archive, Hash};
use mcwc::entropy::decode_planes;
use mcwc::format::{FLAG_CODED, HASHED_PREAMBLE_BYTES, MAGIC, PREAMBLE_BYTES, VERSION};
use mcwc::tensor::Limits;

use super::bytes::edit;
use super::cbor::Item;
use crate::common::Noise;

/// Keys of the header (FORMAT.md, section 4).
const CHUNKS: u64 = 4;
const BASE: u64 = 5;
/// The mode of a plane whose bytes are stored as they are.
const RAW: u8 = 0;

/// Header and payloads.
#[derive(Clone)]
pub struct Parts {
    header: Item,
    payloads: Vec<Vec<u8>>,
}

/// What of an archive is changed.
#[derive(Clone, Copy)]
pub enum Change {
    Header,
    Chunks,
    Both,
}

impl Parts {
    /// `None` if the archive is not valid.
    pub fn split(archive: &[u8]) -> Option<Parts> {
        let limits = Limits::default();
        let parsed = Archive::parse(archive, &limits).ok()?;
        let stored = archive.get(PREAMBLE_BYTES..usize::try_from(parsed.head_bytes).ok()?)?;
        let header = if archive[10] == 0 {
            Item::parse(stored)?
        } else {
            let (len, coded) = stored.split_first_chunk()?;
            let mut cbor = vec![0; u32::from_le_bytes(*len) as usize];
            decode_planes(coded, cbor.len(), &mut cbor).ok()?;
            Item::parse(&cbor)?
        };
        let payload = |offset: u64, bytes: u32| Some(archive.get(offset as usize..)?.get(..bytes as usize)?.to_vec());
        let payloads = parsed.chunks.iter().map(|chunk| payload(chunk.offset, chunk.bytes)).collect::<Option<_>>()?;
        Some(Parts { header, payloads })
    }

    /// The archive, its header not coded.
    pub fn join(&self) -> Vec<u8> {
        self.join_with(|_| {}, |_| {}, 0)
    }

    /// Puts the archive together, the chunk table and the stored header changed on the way.
    fn join_with(&self, table: impl FnOnce(&mut Vec<u8>), stored: impl FnOnce(&mut Vec<u8>), flags: u16) -> Vec<u8> {
        let mut header = self.header.clone();
        if let Some(entry) = header.get_mut(CHUNKS) {
            let chunk = |payload: &Vec<u8>| {
                let len = (payload.len() as u32).to_le_bytes();
                len.into_iter().chain(Hash::of(&[payload]).0)
            };
            let mut entries = self.payloads.iter().flat_map(chunk).collect();
            table(&mut entries);
            *entry = Item::Bytes(entries);
        }
        let mut cbor = Vec::new();
        header.write(&mut cbor);
        if flags & FLAG_CODED != 0 {
            cbor.splice(0..0, (cbor.len() as u32).to_le_bytes().into_iter().chain([RAW]));
        }
        stored(&mut cbor);
        let preamble = [&MAGIC[..], &VERSION.to_le_bytes(), &flags.to_le_bytes(), &(cbor.len() as u32).to_le_bytes()];
        let mut archive = preamble.concat();
        debug_assert_eq!(archive.len(), HASHED_PREAMBLE_BYTES);
        let hash = Hash::of(&[&archive, &cbor]);
        archive.extend(hash.0);
        archive.extend(cbor);
        self.payloads.iter().for_each(|payload| archive.extend(payload));
        archive
    }

    /// Changes the parts and puts them together; parts may come from `donor`.
    pub fn mutated(mut self, donor: &mut Parts, change: Change, random: &mut Noise) -> Vec<u8> {
        let header = match change {
            Change::Header => true,
            Change::Chunks => false,
            Change::Both => random.below(2) == 0,
        };
        if !header {
            self.mutate_chunks(donor, random);
            return self.join();
        }
        for _ in 0..=random.below(3).min(random.below(3)) {
            self.header.mutate(&mut donor.header, random);
        }
        match random.below(24) {
            0 => self.join_with(|table| edit(table, &[], random), |_| {}, 0),
            1 => self.join_with(|_| {}, |stored| edit(stored, &[], random), 0),
            2 => self.join_with(|_| {}, |stored| edit(stored, &[], random), FLAG_CODED),
            3 => self.join_with(|_| {}, |_| {}, FLAG_CODED),
            _ => self.join(),
        }
    }

    fn mutate_chunks(&mut self, donor: &Parts, random: &mut Noise) {
        if self.payloads.is_empty() {
            self.payloads.push(Vec::new());
        }
        for _ in 0..=random.below(2) {
            let [here, there] = [0; 2].map(|_| random.below(self.payloads.len()));
            let given = donor.payloads.get(random.below(donor.payloads.len().max(1))).map_or(&[][..], Vec::as_slice);
            match random.below(16) {
                0 => self.payloads.swap(here, there),
                1 => self.payloads[here] = given.to_vec(),
                2 => self.payloads[here] = vec![1, random.next() as u8],
                _ => edit(&mut self.payloads[here], given, random),
            }
        }
    }

    /// Makes this the delta to `base`, if it is one.
    pub fn set_base(&mut self, base: &[u8]) {
        let integrity = base.get(HASHED_PREAMBLE_BYTES..PREAMBLE_BYTES);
        if let Some((entry, integrity)) = self.header.get_mut(BASE).zip(integrity) {
            *entry = Item::Bytes(integrity.to_vec());
        }
    }
}
