//! Bytes -> the places before them that they repeat.

use crate::format::COPY_LEN_MIN;

/// Most bits of a hash of four bytes.
const HASH_BITS: u32 = 18;
/// A copy this long is taken without looking further.
pub const LONG_ENOUGH: usize = 256;

/// A copy of `len` bytes from `distance` bytes before.
#[derive(Clone, Copy)]
pub struct Copy {
    /// Its bytes.
    pub len: usize,
    /// From where.
    pub distance: usize,
}

/// Earlier places of the same four bytes, the latest first.
pub struct Finder<'p> {
    plane: &'p [u8],
    previous: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl<'p> Finder<'p> {
    /// Of a plane.
    pub fn new(plane: &'p [u8]) -> Self {
        let hash_bits = HASH_BITS.min(plane.len().max(2).ilog2() + 1);
        let mut head = vec![NOWHERE; 1 << hash_bits];
        let previous = plane.windows(COPY_LEN_MIN).zip(0..).map(|(bytes, position)| {
            let key = bytes.iter().rev().fold(0, |key: u32, &byte| key << 8 | u32::from(byte));
            let slot = key.wrapping_mul(2_654_435_761) >> (32 - hash_bits);
            std::mem::replace(&mut head[slot as usize], position)
        });
        Finder { plane, previous: previous.collect() }
    }

    /// Copies that could be made at `position`, from ever further away; none after a long one.
    pub fn copies(&self, position: usize, chain_len: usize) -> impl Iterator<Item = Copy> {
        let here = &self.plane[position..];
        let earlier = |place: u32| self.previous.get(place as usize).copied().filter(|&place| place != NOWHERE);
        let places = std::iter::successors(earlier(position as u32), move |&place| earlier(place)).take(chain_len);
        let mut enough = false;
        let copies = places.map_while(move |place| {
            let len = common_len(here, &self.plane[place as usize..]);
            let copy = Copy { len, distance: position - place as usize };
            (!std::mem::replace(&mut enough, len > LONG_ENOUGH)).then_some(copy)
        });
        copies.filter(|copy| copy.len >= COPY_LEN_MIN)
    }
}

/// How many bytes are the same, from the first on.
pub fn common_len(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let len = 8 * words.take_while(|(a, b)| a == b).count();
    len + a[len..].iter().zip(&b[len..]).take_while(|(a, b)| a == b).count()
}
