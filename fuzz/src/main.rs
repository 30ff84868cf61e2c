//! Mutations for hours, on stable Rust: `npm run fuzz`.
//!
//! What is taken in a new way becomes a seed, in later runs too. A finding (a panic, memory beyond limits, a case that takes too long) is written to
//! a file and its name printed. What ends the process itself (a stack that overflows, memory that runs out) is the file
//! `TARGET.current`, written before each case.

mod options;
mod pool;
mod stream;
mod totals;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mcwc::container::Hash;
use mcwc_fuzz::common::Noise;
use mcwc_fuzz::mutation::Target;

use options::Options;
use pool::Pool;
use totals::Totals;

/// A case of less than 100 kB hangs if it takes more processor time.
const CASE_MAX: Duration = Duration::from_secs(1);
/// How long a target is fuzzed before the next has its turn, and how often numbers are printed. Statistics are a small format, and
/// quickly read.
const TURN: Duration = Duration::from_secs(5);
const STATISTICS_TURN: Duration = Duration::from_secs(1);
const REPORT: Duration = Duration::from_secs(60);

static PANIC: Mutex<String> = Mutex::new(String::new());

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    if options.stream {
        return stream::run(&options);
    }
    std::panic::set_hook(Box::new(|panic| *PANIC.lock().unwrap() = panic.to_string()));
    fs::create_dir_all(&options.findings)?;
    if !options.replay.is_empty() {
        return replay(&options);
    }
    let (path, number) = totals::next_run(&options.findings)?;
    let seed = options.seed.unwrap_or(number);
    println!("seed {seed}");
    let mut runs =
        options.targets.iter().map(|target| Run::new(target, seed, &options)).collect::<std::io::Result<Vec<_>>>()?;
    let began = Instant::now();
    let mut reported = began;
    while began.elapsed() < options.duration {
        for run in &mut runs {
            let turn = Instant::now();
            let turn_max = if run.target.name == "statistics" { STATISTICS_TURN } else { TURN };
            while turn.elapsed() < turn_max && began.elapsed() < options.duration {
                run.step()?;
            }
            run.spent += turn.elapsed();
        }
        if reported.elapsed() > REPORT {
            report(&runs, &path)?;
            reported = Instant::now();
        }
    }
    let totals = report(&runs, &path)?;
    println!("{totals}");
    println!("all runs: {}", Totals::of_runs(&options.findings)?);
    std::process::exit(i32::from(totals.findings > 0));
}

/// Prints what the targets have seen, and keeps it: a run may end at any time.
fn report(runs: &[Run], path: &Path) -> std::io::Result<Totals> {
    let mut totals = Totals { seconds: cpu_time().as_secs(), ..Totals::default() };
    for run in runs {
        run.print();
        run.pool.save(&run.pool_path())?;
        totals.findings += run.findings.len() as u64;
        totals.cases.insert(run.target.name.to_owned(), run.cases);
    }
    totals.write(path)?;
    Ok(totals)
}

/// Processor time of this process so far, as Linux counts it.
fn cpu_time() -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    TICK * fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum()
}

fn processor_time<T>(work: impl FnOnce() -> T) -> Duration {
    let before = cpu_time();
    work();
    cpu_time() - before
}

/// Tries files once more, whichever target they are of.
fn replay(options: &Options) -> std::io::Result<()> {
    for path in &options.replay {
        let case = fs::read(path)?;
        for target in &options.targets {
            let began = Instant::now();
            let told = check(target, &case).unwrap_or_else(|panic| format!("FINDING: {panic}"));
            println!("{} {} {:.0?}: {told}", path.display(), target.name, began.elapsed());
        }
    }
    Ok(())
}

/// How bytes were taken, or how a rule was broken.
fn check(target: &Target, case: &[u8]) -> Result<String, String> {
    catch_unwind(AssertUnwindSafe(|| (target.check)(case))).map_err(|_| std::mem::take(&mut *PANIC.lock().unwrap()))
}

/// One target's progress.
struct Run {
    target: &'static Target,
    folder: PathBuf,
    current: File,
    random: Noise,
    pool: Pool,
    cases: u64,
    spent: Duration,
    /// How often each was met.
    findings: BTreeMap<String, u64>,
}

impl Run {
    /// Begins with the seeds, and with what earlier runs have kept.
    fn new(target: &'static Target, seed: u64, options: &Options) -> std::io::Result<Run> {
        let folder = options.findings.clone();
        let current = File::create(folder.join(format!("{}.current", target.name)))?;
        let seed = Hash::of(&[&seed.to_le_bytes(), target.name.as_bytes()]).0;
        let random = Noise(seed.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
        let pool = Pool::new((target.seeds)());
        let (spent, findings) = Default::default();
        let mut run = Run { target, folder, current, random, pool, cases: 0, spent, findings };
        for case in pool::load(&run.pool_path())? {
            run.take(case)?;
        }
        Ok(run)
    }

    fn pool_path(&self) -> PathBuf {
        self.folder.join(format!("{}.pool", self.target.name))
    }

    fn step(&mut self) -> std::io::Result<()> {
        let case = self.pool.mutated(self.target, &mut self.random);
        self.take(case)
    }

    fn take(&mut self, case: Vec<u8>) -> std::io::Result<()> {
        self.current.set_len(case.len() as u64)?;
        self.current.write_all_at(&case, 0)?;
        self.cases += 1;
        let began = Instant::now();
        let checked = check(self.target, &case);
        match checked {
            // Others may have kept the processor from it: only then is it worth asking the system.
            Ok(_) if began.elapsed() > CASE_MAX && processor_time(|| check(self.target, &case)) > CASE_MAX => {
                self.keep("it takes too long", &case)?;
            }
            Ok(told) => self.pool.add(told, case, &mut self.random),
            Err(panic) => self.keep(&panic, &case)?,
        }
        Ok(())
    }

    /// Writes a finding the first time that it is met.
    fn keep(&mut self, why: &str, case: &[u8]) -> std::io::Result<()> {
        let kind: String = why.chars().filter(|character| !character.is_ascii_digit()).take(300).collect();
        let count = self.findings.entry(kind).or_default();
        *count += 1;
        if *count == 1 {
            let path = self.folder.join(format!("{}-{}", self.target.name, Hash::of(&[case])));
            fs::write(&path, case)?;
            println!("FINDING {}: {why}", path.display());
        }
        Ok(())
    }

    fn print(&self) {
        let per_second = self.cases as f64 / self.spent.as_secs_f64().max(1e-3);
        println!(
            "{:10} {:>11} cases {per_second:>7.0}/s {:>5} seeds {:>4} outcomes, {} findings",
            self.target.name,
            self.cases,
            self.pool.len(),
            self.pool.outcome_count(),
            self.findings.len(),
        );
    }
}

/// Where findings go if nothing else is said.
fn findings_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("findings")
}
