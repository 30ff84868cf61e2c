//! Arguments, files and tables of the `mcwc` command. Exit status: 0 done, 1 failed, 2 wrong usage.

mod compare;
mod decode;
mod encode;
mod inspect;
mod table;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::container::Archive;
use crate::decode::Reader;
use crate::error::{Error, Result};
use crate::source::FileSource;
use crate::tensor::Limits;

/// Makes neural-network weight files several times smaller, in a form that browsers decode.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Examples:
  mcwc encode model.safetensors -o model.mcwc --bits 4
  mcwc encode det.onnx rec.onnx keys.txt -o ocr.mcwc --size 3MB
  mcwc encode finetuned.safetensors --base model.mcwc -o delta.mcwc
  mcwc decode model.mcwc -o restored/
  mcwc inspect model.mcwc --html report.html
  mcwc compare model.safetensors model.mcwc")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print results as JSON, and no progress
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    Encode(encode::Arguments),
    Decode(decode::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Compare(compare::Arguments),
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let done = match arguments.command {
        Command::Encode(arguments) => encode::run(&arguments, json),
        Command::Decode(arguments) => decode::run(&arguments, json),
        Command::Inspect(arguments) => inspect::run(&arguments, json),
        Command::Verify(arguments) => verify::run(&arguments, json),
        Command::Compare(arguments) => compare::run(&arguments, json),
    };
    let printed = done.and_then(|text| match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(io_error(Path::new("standard output"))),
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcwc: {error}");
            ExitCode::FAILURE
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |error| Error::Io { path, source: error.into() }
}

/// Reads a file, naming it in the error.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(io_error(path))
}

/// The archive that a delta needs
#[derive(clap::Args)]
struct BaseArgument {
    /// The archive that a delta was made against
    #[arg(long, value_name = "BASE.mcwc")]
    base: Option<PathBuf>,
}

impl BaseArgument {
    /// Calls `read` with a reader of the archive, linked to its base if one is given, and with the base's header.
    fn open<T>(
        &self,
        input: &Path,
        read: impl FnOnce(&Reader<FileSource>, Option<&Archive>) -> Result<T>,
    ) -> Result<T> {
        let source = FileSource::open(input)?;
        let reader = Reader::open(&source, &Limits::default())?;
        let Some(base) = &self.base else { return read(&reader, None) };
        let base_source = FileSource::open(base)?;
        let base = Reader::open(&base_source, &Limits::default())?;
        read(&reader.with_base(&base)?, Some(base.archive()))
    }
}

/// Writes through a neighbouring temporary file, so that a failure leaves whatever was there before.
fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = std::fs::File::create(&part).map_err(io_error(path)).and_then(|file| {
        let mut out = std::io::BufWriter::new(file);
        write(&mut out)?;
        out.flush().map_err(io_error(path))
    });
    let moved = written.and_then(|()| std::fs::rename(&part, path).map_err(io_error(path)));
    if moved.is_err() {
        // The error that stopped the writing is the one to report.
        let _ = std::fs::remove_file(&part);
    }
    moved
}

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::argument(error.to_string()))?;
    Ok(text + "\n")
}

/// A bar on a terminal; nothing elsewhere, or beside JSON.
fn progress_bar(len: u64, json: bool, template: &str) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style.progress_chars("━╸─"))
}

/// 12345678 as "12.35 MB".
fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let power = (0..UNITS.len() - 1).take_while(|&power| bytes as f64 >= 1000f64.powi(power as i32 + 1)).count();
    let value = bytes as f64 / 1000f64.powi(power as i32);
    if power == 0 { format!("{bytes} B") } else { format!("{value:.2} {}", UNITS[power]) }
}

/// "12MB", "1.5 MiB" or "4096" as bytes.
fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("unknown unit {other:?}; use B, kB, MB, GB, KiB, MiB or GiB")),
    };
    let value: f64 = number.parse().map_err(|_| format!("{text:?} is not a size such as 12MB"))?;
    Ok((value * factor) as u64)
}

/// The last component of a path, as text.
fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Error::argument(format!("{}: not a file name in UTF-8", path.display())))
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(parse_bytes("12MB"), Ok(12_000_000));
        assert_eq!(parse_bytes("1.5 MiB"), Ok(1_572_864));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert!(parse_bytes("many").is_err() && parse_bytes("3 lightyears").is_err());
    }

    #[test]
    fn bytes_print_in_round_units() {
        assert_eq!([999, 1000, 12_345_678].map(human_bytes), ["999 B", "1.00 kB", "12.35 MB"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
