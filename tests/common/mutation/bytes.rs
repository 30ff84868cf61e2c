//! Bytes -> bytes with a few changes, more of them where formats keep their lengths: at the front and at the end.

use crate::common::Noise;

/// Changes `bytes` in one to four places; parts may come from `donor`.
pub fn edit(bytes: &mut Vec<u8>, donor: &[u8], random: &mut Noise) {
    for _ in 0..=random.below(4).min(random.below(4)) {
        edit_once(bytes, donor, random);
    }
}

/// As [`edit`], and the length stays.
pub fn overwrite(bytes: &mut [u8], random: &mut Noise) {
    for _ in 0..=random.below(3) {
        if !bytes.is_empty() {
            overwrite_once(bytes, random);
        }
    }
}

fn edit_once(bytes: &mut Vec<u8>, donor: &[u8], random: &mut Noise) {
    if bytes.is_empty() {
        *bytes = few(random);
        return;
    }
    let at = place(bytes.len(), random);
    let len_max = (1 << random.below(8)).min(bytes.len() - at);
    let len = 1 + random.below(len_max);
    match random.below(12) {
        0 => drop(bytes.drain(at..at + len)),
        1 => bytes.truncate(at),
        2 => {
            let copy = bytes[at..at + len].to_vec();
            bytes.splice(at..at, copy);
        }
        3 => {
            bytes.splice(at..at, few(random));
        }
        4 if !donor.is_empty() => {
            let from = place(donor.len(), random);
            let taken = &donor[from..(from + len).min(donor.len())];
            bytes.splice(at..at + random.below(2) * len, taken.iter().copied());
        }
        5 => bytes[at..at + len].fill([0, 0xff, 0x80, 1][random.below(4)]),
        _ => overwrite_once(bytes, random),
    }
}

fn overwrite_once(bytes: &mut [u8], random: &mut Noise) {
    let at = place(bytes.len(), random);
    let number = match random.below(4) {
        0 => 1u64 << random.below(64),
        1 => (1u64 << random.below(64)).wrapping_sub(1),
        2 => u64::MAX - random.below(3) as u64,
        _ => random.below(300) as u64,
    };
    match random.below(6) {
        0..3 => bytes[at] ^= 1 << random.below(8),
        3 => bytes[at] = bytes[at].wrapping_add((random.below(9) as u8).wrapping_sub(4)),
        4 => bytes[at] = random.next() as u8,
        _ => {
            let byte_len = (1 << random.below(4)).min(bytes.len() - at);
            let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
            let digits = if random.below(2) == 0 { &little[..byte_len] } else { &big[8 - byte_len..] };
            bytes[at..at + byte_len].copy_from_slice(digits);
        }
    }
}

fn few(random: &mut Noise) -> Vec<u8> {
    let len = 1 + random.below(8);
    random.bytes(len)
}

fn place(len: usize, random: &mut Noise) -> usize {
    let near = random.below(len.min(40));
    match random.below(4) {
        0 => near,
        1 => len - 1 - near,
        _ => random.below(len),
    }
}
