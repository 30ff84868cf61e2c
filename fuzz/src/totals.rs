//! What runs have seen, one small file each, and the sum of all.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FINDINGS: &str = "findings";
const SECONDS: &str = "seconds";

#[derive(Default)]
pub struct Totals {
    /// Of each target.
    pub cases: BTreeMap<String, u64>,
    pub findings: u64,
    /// Of processor time.
    pub seconds: u64,
}

/// The file of the next run in this folder, and its number.
pub fn next_run(folder: &Path) -> io::Result<(PathBuf, u64)> {
    let number = runs(folder)?.len() as u64;
    Ok((folder.join(format!("{number}.run")), number))
}

fn runs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "run")).collect())
}

impl Totals {
    /// The sum of all runs in this folder.
    pub fn of_runs(folder: &Path) -> io::Result<Totals> {
        let mut totals = Totals::default();
        for path in runs(folder)? {
            for line in fs::read_to_string(path)?.lines() {
                let Some((name, Ok(count))) = line.split_once(' ').map(|(name, count)| (name, count.parse::<u64>()))
                else {
                    continue;
                };
                match name {
                    FINDINGS => totals.findings += count,
                    SECONDS => totals.seconds += count,
                    _ => *totals.cases.entry(name.to_owned()).or_default() += count,
                }
            }
        }
        Ok(totals)
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text: String = self.cases.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        text += &format!("{FINDINGS} {}\n{SECONDS} {}\n", self.findings, self.seconds);
        fs::write(path, text)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum: u64 = self.cases.values().sum();
        let each: Vec<String> = self.cases.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let hours = self.seconds as f64 / 3600.0;
        write!(f, "{sum} cases ({}), {} findings, {hours:.2} hours of processor time", each.join(", "), self.findings)
    }
}
