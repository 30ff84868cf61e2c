//! The `mcwc` command.

fn main() -> std::process::ExitCode {
    mcwc::cli::run()
}
