//! The `mcwc` command.

fn main() -> std::process::ExitCode {
    // A WASI host gives the whole file system, and says here where relative paths begin.
    #[cfg(target_os = "wasi")]
    if let Some(folder) = std::env::var_os("PWD") {
        let _ = std::env::set_current_dir(folder);
    }
    mcwc::cli::run()
}
