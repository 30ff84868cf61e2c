//! Targets for libFuzzer, which sees what a change reaches; the changes are ours, and so is what it begins with.

use std::sync::OnceLock;

pub use libfuzzer_sys::{fuzz_mutator, fuzz_target};

use crate::common::Noise;
use crate::mutation::{TARGETS, Target};

/// Bytes below which nothing is a case.
const CASE_BYTES_MIN: usize = 8;
/// Every how many changes begins with a seed again.
const SEED_EVERY: usize = 64;

/// The target of this name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target")
}

/// Changes the first `len` bytes of `data`, which may become as many as it has; gives how many they are now.
pub fn mutate(target: &Target, data: &mut [u8], len: usize, seed: u32) -> usize {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let seeds = SEEDS.get_or_init(target.seeds);
    let mut random = Noise(seed.into());
    let [fresh, donor] = [0; 2].map(|_| &seeds[random.below(seeds.len())]);
    let begins_anew = len < CASE_BYTES_MIN || random.below(SEED_EVERY) == 0;
    let mutated = (target.mutate)(if begins_anew { fresh } else { &data[..len] }, donor, &mut random);
    let Some(place) = data.get_mut(..mutated.len()) else { return len };
    place.copy_from_slice(&mutated);
    mutated.len()
}

/// The whole of a program in `fuzz_targets`.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::libfuzzer::fuzz_target!(|data: &[u8]| {
            ($crate::libfuzzer::target($name).check)(data);
        });
        $crate::libfuzzer::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::libfuzzer::mutate($crate::libfuzzer::target($name), &mut data[..max_size], size, seed)
        });
    };
}
