//! Bytes -> literals and copies of earlier bytes: greedy matching with one byte of look-ahead over hash chains.

use crate::encode::exact::planes::encode_coded_plane;
use crate::entropy::put_varint;
use crate::format::{COPY_LEN_MIN, DISTANCE_BYTES, MODE_COPIES};

const HASH_BITS: u32 = 16;
/// Candidates that are tried at each position.
const CHAIN_LEN: usize = 48;
/// A copy this long is taken without looking further.
const LONG_ENOUGH: usize = 256;

/// The plane as copies and literals.
pub fn copies_plane(plane: &[u8]) -> Vec<u8> {
    let mut sequences = Sequences::default();
    let mut finder = Finder::new(plane);
    let (mut start, mut position) = (0, 0);
    while position < plane.len() {
        let here = finder.longest(position);
        let Some((len, distance)) = here else {
            finder.insert(position);
            position += 1;
            continue;
        };
        finder.insert(position);
        let later = if len < LONG_ENOUGH { finder.longest(position + 1) } else { None };
        if later.is_some_and(|(later, _)| later > len + 1) {
            position += 1;
            continue;
        }
        sequences.push(&plane[start..position], len, distance);
        (position + 1..position + len).for_each(|inserted| finder.insert(inserted));
        position += len;
        start = position;
    }
    sequences.literals.extend_from_slice(&plane[start..]);
    sequences.payload()
}

#[derive(Default)]
struct Sequences {
    literals: Vec<u8>,
    literal_lens: Vec<u8>,
    copy_lens: Vec<u8>,
    distances: [Vec<u8>; DISTANCE_BYTES],
}

impl Sequences {
    fn push(&mut self, literals: &[u8], copy_len: usize, distance: usize) {
        self.literals.extend_from_slice(literals);
        put_varint(literals.len() as u32, &mut self.literal_lens);
        put_varint((copy_len - COPY_LEN_MIN) as u32, &mut self.copy_lens);
        for (byte, plane) in self.distances.iter_mut().enumerate() {
            plane.push(((distance - 1) >> (8 * byte)) as u8);
        }
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = vec![MODE_COPIES];
        for len in [self.literals.len(), self.distances[0].len(), self.literal_lens.len(), self.copy_lens.len()] {
            put_varint(len as u32, &mut payload);
        }
        for plane in [&self.literals, &self.literal_lens, &self.copy_lens].into_iter().chain(&self.distances) {
            payload.extend(encode_coded_plane(plane));
        }
        payload
    }
}

/// Earlier places of the same four bytes, the latest first.
struct Finder<'p> {
    plane: &'p [u8],
    head: Vec<u32>,
    previous: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl<'p> Finder<'p> {
    fn new(plane: &'p [u8]) -> Self {
        Finder { plane, head: vec![NOWHERE; 1 << HASH_BITS], previous: vec![NOWHERE; plane.len()] }
    }

    fn slot(&self, position: usize) -> Option<usize> {
        let bytes = self.plane.get(position..)?.first_chunk::<COPY_LEN_MIN>()?;
        Some((u32::from_le_bytes(*bytes).wrapping_mul(2_654_435_761) >> (32 - HASH_BITS)) as usize)
    }

    fn insert(&mut self, position: usize) {
        if let Some(slot) = self.slot(position) {
            self.previous[position] = std::mem::replace(&mut self.head[slot], position as u32);
        }
    }

    /// Length and distance of the longest copy at `position`, if one is worth its distance.
    fn longest(&self, position: usize) -> Option<(usize, usize)> {
        let mut candidate = self.head[self.slot(position)?];
        let here = &self.plane[position..];
        let mut best: Option<(usize, usize)> = None;
        for _ in 0..CHAIN_LEN {
            if candidate == NOWHERE {
                break;
            }
            let distance = position - candidate as usize;
            let there = &self.plane[candidate as usize..];
            let len = here.iter().zip(there).take_while(|(a, b)| a == b).count();
            let worth = len >= COPY_LEN_MIN + usize::from(distance > 1 << 11) + usize::from(distance > 1 << 16);
            if worth && best.is_none_or(|(longest, _)| len > longest) {
                best = Some((len, distance));
            }
            if len >= LONG_ENOUGH {
                break;
            }
            candidate = self.previous[candidate as usize];
        }
        best
    }
}
