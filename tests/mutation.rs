//! Archives, model files and statistics, changed at random a few thousand times: `npm run fuzz` goes on for hours.

#![cfg(feature = "encoder")]

mod common;
#[path = "common/memory.rs"]
mod memory;
#[path = "common/mutation/mod.rs"]
mod mutation;

use std::collections::HashSet;

use common::Noise;
use mutation::{TARGETS, Target};

/// Of each target. An outcome is `ok`, or the words of an error.
const CASES: usize = 1500;
const OUTCOMES_MIN: usize = 20;

fn check(name: &str) {
    let Target { seeds, mutate, check, .. } = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut random = Noise(7);
    let seeds = seeds();
    let mut outcomes = HashSet::new();
    for _ in 0..CASES {
        let [seed, donor] = [0; 2].map(|_| &seeds[random.below(seeds.len())]);
        outcomes.insert(check(&mutate(seed, donor, &mut random)));
    }
    // What no change reaches is not tested.
    assert!(outcomes.len() >= OUTCOMES_MIN && outcomes.iter().any(|told| told.starts_with("ok")), "{outcomes:?}");
}

macro_rules! targets {
    ($($test:ident $name:literal),*) => {
        $(#[test]
        fn $test() {
            check($name);
        })*

        #[test]
        fn every_target_is_tried() {
            assert!(TARGETS.iter().map(|target| target.name).eq([$($name),*]));
        }
    };
}

targets!(
    changed_headers_give_a_result_or_a_typed_error "header",
    changed_chunks_give_a_result_or_a_typed_error "chunks",
    changed_archives_give_a_result_or_a_typed_error "archive",
    changed_deltas_and_bases_give_a_result_or_a_typed_error "delta",
    changed_model_files_give_a_result_or_a_typed_error "models",
    changed_statistics_give_a_result_or_a_typed_error "statistics",
    what_is_encoded_from_changed_files_comes_back "encode"
);
