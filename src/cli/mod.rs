//! The `mcwc` command. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

mod compare;
mod decode;
mod destination;
mod encode;
mod files;
#[cfg(feature = "gpu")]
mod gpu;
mod inspect;
mod names;
mod output;
mod part;
mod printable;
mod sizes;
mod table;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::Printed;
use part::remove_on_interrupt;
use printable::printable;

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
    remove_on_interrupt();
    let done = match arguments.command {
        Command::Encode(arguments) => encode::run(&arguments, json),
        Command::Decode(arguments) => decode::run(&arguments, json),
        Command::Inspect(arguments) => inspect::run(&arguments, json),
        Command::Verify(arguments) => verify::run(&arguments, json).map(Printed::from),
        Command::Compare(arguments) => compare::run(&arguments, json).map(Printed::from),
    };
    match done.and_then(|printed| printed.print()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcwc: {}", printable(&error.to_string()));
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
