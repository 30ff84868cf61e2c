//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use mcwc_fuzz::mutation::{TARGETS, Target};

use crate::findings_folder;

const USAGE: &str = "\
npm run fuzz -- [--hours H] [--target NAME]… [--seed N] [--findings FOLDER]
npm run fuzz -- --replay FILE…
npm run fuzz -- --wasm [--cases N] [--seed N]";

pub struct Options {
    pub targets: Vec<&'static Target>,
    pub duration: Duration,
    /// Only of a stream.
    pub cases: u64,
    /// If none is given, each run has the next one.
    pub seed: Option<u64>,
    /// Whether cases go to standard output, with what reading them gives.
    pub stream: bool,
    pub findings: PathBuf,
    pub replay: Vec<PathBuf>,
}

impl Options {
    pub fn parse() -> Options {
        let mut options = Options {
            targets: Vec::new(),
            duration: Duration::from_secs(60),
            cases: 10_000,
            seed: None,
            stream: false,
            findings: findings_folder(),
            replay: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| wrong_usage());
            match argument.as_str() {
                "--hours" => options.duration = Duration::from_secs_f64(3600.0 * number::<f64>(&value())),
                "--cases" => options.cases = number(&value()),
                "--seed" => options.seed = Some(number(&value())),
                "--stream" => options.stream = true,
                "--findings" => options.findings = value().into(),
                "--replay" => options.replay = arguments.by_ref().map(PathBuf::from).collect(),
                "--target" => {
                    let name = value();
                    let found = TARGETS.iter().find(|target| target.name == name);
                    options.targets.push(found.unwrap_or_else(|| wrong_usage()));
                }
                _ => wrong_usage(),
            }
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.iter().collect();
        }
        options
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| wrong_usage())
}

fn wrong_usage() -> ! {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!("{USAGE}\ntargets: {}", names.join(", "));
    std::process::exit(2);
}
