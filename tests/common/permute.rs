//! Model files -> the same models with their units in another order, for tests that run both.
//!
//! `cargo run --release --example permute -- SEED OUTPUT_FOLDER FILE…` permutes every group that is found, one after the
//! other, and lists them. `--only ROLE` permutes groups of one role, and `--leave-out N` leaves the last N members of
//! each group where they are, which must break the model.

use std::path::{Path, PathBuf};

use mcwc::encode::align::symmetry::discover;
use mcwc::formats::{SourceFile, find_tensors};
use mcwc::stages::permute::Permutation;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (mut only, mut leave_out, mut rest) = (None, 0, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => only = arguments.next(),
            "--leave-out" => leave_out = arguments.next().ok_or("--leave-out needs a number")?.parse()?,
            _ => rest.push(argument),
        }
    }
    let [seed, output, paths @ ..] = &rest[..] else { return Err("SEED OUTPUT_FOLDER FILE… are missing".into()) };
    let mut state: u64 = seed.parse()?;
    let contents = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = paths.iter().map(file_name).collect();
    let files: Vec<SourceFile> =
        names.iter().zip(&contents).map(|(name, source)| SourceFile { name: name.clone(), source }).collect();
    let tensors = find_tensors(&files)?;
    let groups = discover(&files, &tensors)?;
    let mut permuted = contents.clone();
    for mut group in groups.into_iter().filter(|group| only.as_ref().is_none_or(|only| *only == group.role)) {
        let all = group.members.len();
        group.members.truncate(all.saturating_sub(leave_out));
        let permutation = Permutation::new(shuffled(group.units, &mut state))?;
        group.permute(&permutation, &tensors, &mut permuted)?;
        println!("{}\t{}\t{:?}\t{}\t{all}", group.role, group.layer, group.head, group.units);
    }
    for (name, bytes) in names.iter().zip(permuted) {
        std::fs::write(PathBuf::from(output).join(name), bytes)?;
    }
    Ok(())
}

fn file_name(path: impl AsRef<Path>) -> String {
    path.as_ref().file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// The numbers below `len`, in an order that the state determines.
fn shuffled(len: usize, state: &mut u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    for last in (1..len).rev() {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        order.swap(last, (*state >> 33) as usize % (last + 1));
    }
    order
}
