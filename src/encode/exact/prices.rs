//! Literals and copies of one parse -> what each of them would take in the next, in bits.

use std::array;

use crate::encode::exact::adaptive::{SHORT_CONTEXTS, Way};
use crate::encode::exact::copies::{Sequences, distance_bytes};
use crate::encode::portable::log2;
use crate::format::DISTANCE_BYTES;

/// Bits of each byte of a plane.
pub type BytePrices = [f32; 256];

/// What the way of a stream is chosen on: one part of so many.
const SAMPLE_PARTS: usize = 16;
/// What a byte that did not occur takes more than one that did.
const UNSEEN_BITS: f32 = 2.0;
/// Distances that a parse keeps in mind.
const LAST: usize = 3;
/// A byte is that of one of the last distances, or of none.
const RELATIONS: usize = LAST + 1;

/// The distances of the last copies, the latest first.
#[derive(Clone, Copy)]
pub struct LastDistances(pub [u32; LAST]);

impl Default for LastDistances {
    fn default() -> Self {
        LastDistances([1; LAST])
    }
}

impl LastDistances {
    /// After one more copy.
    pub fn then(self, distance: usize) -> Self {
        LastDistances(array::from_fn(|back| if back == 0 { distance as u32 } else { self.0[back - 1] }))
    }

    /// Their bytes: of each plane, those of the last.
    pub fn bytes(&self) -> [[u8; LAST]; DISTANCE_BYTES] {
        let bytes = self.0.map(|distance| distance_bytes(distance as usize));
        array::from_fn(|plane| bytes.map(|bytes| bytes[plane]))
    }
}

fn relation(byte: u8, last: &[u8; LAST]) -> usize {
    last.iter().position(|&last| last == byte).map_or(0, |back| back + 1)
}

/// What literals, lengths and distances cost.
pub struct Prices {
    /// Literals, by the literal before.
    pub literals: Vec<BytePrices>,
    /// Bytes of the numbers of literals.
    pub literal_lens: BytePrices,
    /// Bytes of the lengths of copies.
    pub copy_lens: BytePrices,
    /// Bytes of distances, by whether the last ones had them too.
    distances: [[BytePrices; RELATIONS]; DISTANCE_BYTES],
}

impl Prices {
    /// Before anything is known but the plane: small numbers are likely, and so are distances that were there before.
    pub fn first(plane: &[u8]) -> Self {
        let number = array::from_fn(|number| 2.0 + 1.2 * log2(number as f32 + 1.0));
        let related = |prices: BytePrices, relation: usize| match relation {
            0 => prices,
            back => prices.map(|price| price.min(2.0 + back as f32)),
        };
        Prices {
            literals: pair_prices(plane),
            literal_lens: number,
            copy_lens: number,
            distances: array::from_fn(|byte| {
                array::from_fn(|relation| related(if byte == 0 { [8.0; 256] } else { number }, relation))
            }),
        }
    }

    /// After a parse.
    pub fn of(sequences: &Sequences) -> Self {
        Prices {
            literals: pair_prices(&sequences.literals),
            literal_lens: number_prices(&sequences.literal_lens),
            copy_lens: number_prices(&sequences.copy_lens),
            distances: sequences.distances.each_ref().map(|plane| stream_prices(plane, relation)),
        }
    }

    /// Bits of a distance after others with these bytes.
    pub fn distance(&self, distance: usize, last: &[[u8; LAST]; DISTANCE_BYTES]) -> f32 {
        let bytes = distance_bytes(distance).into_iter().zip(last);
        bytes.zip(&self.distances).map(|((byte, last), prices)| prices[relation(byte, last)][usize::from(byte)]).sum()
    }
}

/// Bits of a varint of bytes of these prices.
pub fn varint_price(prices: &BytePrices, mut number: usize) -> f32 {
    let mut price = 0.0;
    while number >= 0x80 {
        price += prices[number & 0x7f | 0x80];
        number >>= 7;
    }
    price + prices[number]
}

/// What bytes take by how often each occurs, times a factor.
pub fn byte_prices(plane: &[u8], factor: f64) -> BytePrices {
    let mut counts = [0.5f32; 256];
    plane.iter().for_each(|&byte| counts[usize::from(byte)] += 1.0);
    let sum: f32 = counts.iter().sum();
    counts.map(|count| factor as f32 * log2(sum / count))
}

/// Bits of bytes, and how many of them there were.
#[derive(Clone, Copy, Default)]
struct Tally {
    bits: f32,
    len: f32,
}

impl Tally {
    fn add(&mut self, bits: f32) {
        self.bits += bits;
        self.len += 1.0;
    }

    fn mean(tallies: &[Tally]) -> f32 {
        let sum = |of: fn(&Tally) -> f32| tallies.iter().map(of).sum::<f32>();
        if tallies.iter().any(|tally| tally.len > 0.0) { sum(|tally| tally.bits) / sum(|tally| tally.len) } else { 8.0 }
    }

    /// Bits of one byte, if others tell as much of it as so many of its own.
    fn price(self, others: f32, weight: f32) -> f32 {
        (self.bits + weight * others) / (self.len + weight)
    }
}

/// The mean of what each byte takes where the stream is coded alone, by the relation to the bytes before.
fn stream_prices<const N: usize>(stream: &[u8], relation: impl Fn(u8, &[u8; LAST]) -> usize) -> [BytePrices; N] {
    let mut tallies = [[Tally::default(); 256]; N];
    let mut last = [0; LAST];
    each_bits(stream, |byte, bits| {
        tallies[relation(byte, &last)][usize::from(byte)].add(bits);
        last = array::from_fn(|back| if back == 0 { byte } else { last[back - 1] });
    });
    array::from_fn(|relation| {
        let unseen = Tally::mean(&tallies[relation]) + if relation == 0 { UNSEEN_BITS } else { 0.0 };
        tallies[relation].map(|tally| tally.price(unseen, 1.0))
    })
}

/// The same, whatever the bytes before.
fn number_prices(stream: &[u8]) -> BytePrices {
    let [prices] = stream_prices(stream, |_, _| 0);
    prices
}

/// The same by the byte before.
fn pair_prices(stream: &[u8]) -> Vec<BytePrices> {
    let (mut bytes, mut pairs) = ([Tally::default(); 256], vec![[Tally::default(); 256]; 256]);
    let mut last = 0;
    each_bits(stream, |byte, bits| {
        bytes[usize::from(byte)].add(bits);
        pairs[usize::from(last)][usize::from(byte)].add(bits);
        last = byte;
    });
    let unseen = Tally::mean(&bytes) + 2.0 * UNSEEN_BITS;
    let alone = bytes.map(|tally| tally.price(unseen, 1.0) + 0.5 * UNSEEN_BITS);
    pairs.into_iter().map(|pairs| array::from_fn(|byte| pairs[byte].price(alone[byte], 2.0))).collect()
}

fn each_bits(stream: &[u8], each: impl FnMut(u8, f32)) {
    if !stream.is_empty() {
        Way::best(stream, &SHORT_CONTEXTS, SAMPLE_PARTS, None, 0).each_bits(stream, each);
    }
}
