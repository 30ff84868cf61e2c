//! Archives changed at random, and what reading them gives, on standard output: for another reader to compare with.
//!
//! Of each case five strings, each after its length (u32): the archive, its base (or nothing), and, space-separated, the codes of
//! errors of which one refuses it (or nothing), the outcomes of its files and those of its tensors.

use std::io::{BufWriter, Write};

use mcwc::Error;
use mcwc::container::{Archive, Hash};
use mcwc::decode::Reader;
use mcwc::tensor::Limits;
use mcwc_fuzz::common::Noise;
use mcwc_fuzz::mutation::check::{Outcome, Read, read, small_limits};
use mcwc_fuzz::mutation::split_pair;

use crate::options::Options;
use crate::pool::Pool;

pub fn run(options: &Options) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut random = Noise(options.seed.unwrap_or(0));
    let targets: Vec<_> = options.targets.iter().filter(|target| ARCHIVE_TARGETS.contains(&target.name)).collect();
    let mut pools: Vec<Pool> = targets.iter().map(|target| Pool::new((target.seeds)())).collect();
    let mut written = 0;
    while written < options.cases {
        let index = random.below(targets.len());
        let case = pools[index].mutated(targets[index], &mut random);
        let is_delta = targets[index].name == "delta";
        let (base, archive) = if is_delta { split_pair(&case).unwrap_or_default() } else { (&[][..], case.as_slice()) };
        if is_delta && base.is_empty() {
            continue;
        }
        // Another reader has the default limits, and need not write gigabytes.
        let parsed = Archive::parse(archive, &Limits::default());
        let bytes = parsed.map_or(0, |parsed| parsed.files.iter().map(|file| file.bytes).sum());
        if bytes > small_limits().output_bytes {
            continue;
        }
        let read = read(archive, is_delta.then_some(base), &Limits::default());
        let told = read.as_ref().map_or_else(|error| error.code().to_owned(), |read| read.told.clone());
        let (code, files, tensors) = match &read {
            Ok(Read { files, tensors, .. }) => (String::new(), words(files), words(tensors)),
            Err(error) => (codes(error, archive, base), String::new(), String::new()),
        };
        for part in [archive, base, code.as_bytes(), files.as_bytes(), tensors.as_bytes()] {
            out.write_all(&(part.len() as u32).to_le_bytes())?;
            out.write_all(part)?;
        }
        pools[index].add(told, case, &mut random);
        written += 1;
    }
    out.flush()
}

/// The code of an error; and of a delta those of what else is wrong with it or its base, which another reader may meet first.
fn codes(error: &Error, archive: &[u8], base: &[u8]) -> String {
    let limits = Limits::default();
    let mut errors = vec![error.code()];
    if !base.is_empty() {
        let linked = Archive::parse(archive, &limits)
            .and_then(|mut own| Archive::parse(base, &limits).and_then(|base| own.link(base)));
        errors.extend(linked.err().map(|error| error.code()));
        errors.extend(Reader::open(base, &limits).err().map(|error| error.code()));
    }
    errors.join(" ")
}

/// Targets whose cases are archives.
const ARCHIVE_TARGETS: [&str; 4] = ["header", "chunks", "archive", "delta"];

fn words(outcomes: &[Outcome]) -> String {
    let word = |outcome: &Outcome| match outcome {
        Ok(bytes) => Hash::of(&[bytes]).to_string(),
        Err(code) => (*code).to_owned(),
    };
    outcomes.iter().map(word).collect::<Vec<_>>().join(" ")
}
