//! Hostile bytes, made from good ones: what `tests/mutation.rs` tries for seconds and the fuzzers in `fuzz/` for hours.
//!
//! A [`Target`] has seeds, changes them where it matters (a header as a tree, payloads, two archives into each other; all hashes
//! right again), and panics where bytes do what they must not.

#![allow(dead_code, reason = "each test uses some of this")]

mod bytes;
mod cbor;
pub mod check;
mod models;
mod parts;
mod seeds;

use crate::common::Noise;
use models::mutate_model;
use parts::{Change, Parts};

/// Something that takes bytes from anywhere.
pub struct Target {
    pub name: &'static str,
    /// What changes begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Changes bytes; parts may come from others.
    pub mutate: fn(&[u8], &[u8], &mut Noise) -> Vec<u8>,
    /// Panics where a rule is broken. Says how the bytes were taken: an error without its numbers, or `ok`.
    pub check: fn(&[u8]) -> String,
}

pub const TARGETS: [Target; 7] = [
    Target {
        name: "header",
        seeds: seeds::archives,
        mutate: |seed, donor, random| mutate_archive(seed, donor, Change::Header, random),
        check: check::archive,
    },
    Target {
        name: "chunks",
        seeds: seeds::archives,
        mutate: |seed, donor, random| mutate_archive(seed, donor, Change::Chunks, random),
        check: check::archive,
    },
    Target {
        name: "archive",
        seeds: seeds::archives,
        mutate: |seed, donor, random| mutate_archive(seed, donor, Change::Both, random),
        check: check::archive,
    },
    Target {
        name: "delta",
        seeds: || seeds::deltas().into_iter().map(|[base, delta]| pair(&base, &delta)).collect(),
        mutate: mutate_delta,
        check: |case| split_pair(case).map_or_else(String::new, |(base, delta)| check::delta(base, delta)),
    },
    Target {
        name: "models",
        seeds: || (0..).zip(seeds::models()).map(|(index, model)| pair(&[index], &model[0].1)).collect(),
        mutate: |seed, _, random| mutate_second(seed, |file| mutate_model(file, random)),
        check: |case| split_pair(case).map_or_else(String::new, |(index, file)| check::model(index, file)),
    },
    Target {
        name: "statistics",
        seeds: seeds::statistics_files,
        mutate: |seed, _, random| mutate_model(seed, random),
        check: check::statistics,
    },
    Target {
        name: "encode",
        seeds: seeds::encodings,
        mutate: mutate_encoding,
        check: |case| check::encoding(case).unwrap_or_default(),
    },
];

/// Two strings of bytes as one.
pub fn pair(first: &[u8], second: &[u8]) -> Vec<u8> {
    [&(first.len() as u32).to_le_bytes(), first, second].concat()
}

/// The strings of a [`pair`].
pub fn split_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = pair.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

fn mutate_archive(archive: &[u8], donor: &[u8], change: Change, random: &mut Noise) -> Vec<u8> {
    match (Parts::split(archive), Parts::split(donor)) {
        (Some(parts), Some(mut donor)) => parts.mutated(&mut donor, change, random),
        _ => {
            let mut archive = archive.to_vec();
            bytes::edit(&mut archive, donor, random);
            archive
        }
    }
}

/// Changes a base, a delta to it, or both, and tells the delta which base it has.
fn mutate_delta(seed: &[u8], donor: &[u8], random: &mut Noise) -> Vec<u8> {
    let (Some((base, delta)), Some(donor)) = (split_pair(seed), split_pair(donor)) else { return seed.to_vec() };
    let which = random.below(3);
    let base = if which == 0 { base.to_vec() } else { mutate_archive(base, donor.0, Change::Both, random) };
    let mut delta = Parts::split(delta).map_or_else(
        || delta.to_vec(),
        |mut parts| {
            parts.set_base(&base);
            parts.join()
        },
    );
    if which != 1 {
        delta = mutate_archive(&delta, donor.1, Change::Both, random);
    }
    pair(&base, &delta)
}

fn mutate_second(seed: &[u8], mutate: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    split_pair(seed).map_or_else(|| seed.to_vec(), |(first, second)| pair(first, &mutate(second)))
}

/// Changes options, and the file or the base.
fn mutate_encoding(seed: &[u8], donor: &[u8], random: &mut Noise) -> Vec<u8> {
    let (Some((options, inputs)), Some((_, others))) = (split_pair(seed), split_pair(donor)) else {
        return seed.to_vec();
    };
    let (Some((base, file)), Some((other_base, _))) = (split_pair(inputs), split_pair(others)) else {
        return seed.to_vec();
    };
    let mut options = options.to_vec();
    bytes::overwrite(&mut options, random);
    let (mut base, mut file) = (base.to_vec(), file.to_vec());
    match random.below(4) {
        0 if !base.is_empty() => base = mutate_archive(&base, other_base, Change::Both, random),
        1 => file = mutate_model(&file, random),
        2 => bytes::overwrite(&mut file, random),
        _ => {}
    }
    pair(&options, &pair(&base, &file))
}
