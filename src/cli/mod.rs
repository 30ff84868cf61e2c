//! The `mcwc` command. Exit status: 0 done, 1 failed, 2 wrong usage.

mod compare;
mod decode;
mod encode;
mod files;
mod inspect;
mod output;
mod sizes;
mod table;
mod verify;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use files::io_error;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
