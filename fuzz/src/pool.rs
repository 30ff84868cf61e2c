//! Seeds, and the mutants that were taken in a way that none was before: so changes add up.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use mcwc_fuzz::common::Noise;
use mcwc_fuzz::mutation::{Target, pair, split_pair};

/// Most mutants that are kept beside the seeds, of each outcome and in all.
const EACH_MAX: usize = 8;
const MUTANTS_MAX: usize = 4000;
const MUTANT_BYTES_MAX: usize = 32 << 10;

pub struct Pool {
    seed_len: usize,
    cases: Vec<Vec<u8>>,
    /// How often each outcome was met.
    outcomes: HashMap<String, u64>,
}

impl Pool {
    pub fn new(seeds: Vec<Vec<u8>>) -> Self {
        Pool { seed_len: seeds.len(), cases: seeds, outcomes: HashMap::new() }
    }

    /// Writes the mutants to a file, for [`load`].
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mutants = self.cases[self.seed_len..].iter().flat_map(|case| pair(case, &[]));
        fs::write(path, mutants.collect::<Vec<u8>>())
    }

    pub fn len(&self) -> usize {
        self.cases.len()
    }

    pub fn outcome_count(&self) -> usize {
        self.outcomes.len()
    }

    /// A case changed; seeds are as likely as mutants.
    pub fn mutated(&self, target: &Target, random: &mut Noise) -> Vec<u8> {
        let mut pick = || {
            let len = if random.below(2) == 0 { self.seed_len } else { self.cases.len() };
            &self.cases[random.below(len)]
        };
        let (case, donor) = (pick(), pick());
        (target.mutate)(case, donor, random)
    }

    /// Keeps a case whose outcome is new or rare. Of those that come again and again, some replace others.
    pub fn add(&mut self, told: String, case: Vec<u8>, random: &mut Noise) {
        let count = self.outcomes.entry(told).or_default();
        *count += 1;
        // The more often an outcome was met, the less a case of it tells.
        let chosen = *count <= EACH_MAX as u64 || count.is_power_of_two() || random.below(20_000) == 0;
        if !chosen || case.len() > MUTANT_BYTES_MAX {
            return;
        }
        if self.cases.len() < self.seed_len + MUTANTS_MAX {
            self.cases.push(case);
        } else {
            let place = self.seed_len + random.below(MUTANTS_MAX);
            self.cases[place] = case;
        }
    }
}

/// The mutants that a run has saved; none if there is no such file.
pub fn load(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let bytes = if path.exists() { fs::read(path)? } else { Vec::new() };
    let mut rest = bytes.as_slice();
    let next = || {
        let (case, after) = split_pair(rest)?;
        rest = after;
        Some(case.to_vec())
    };
    Ok(std::iter::from_fn(next).collect())
}
