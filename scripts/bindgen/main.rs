//! The wasm module that cargo built -> the one that a page loads, and the JavaScript that binds it.
//!   bindgen MODULE NAME FOLDER
//!
//! The command of wasm-bindgen does the same, with much else to compile. And here the imports and exports that only its
//! script uses are numbered: their names hold hashes, which do not compress and stand in both files.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [module, name, folder] = arguments.as_slice() else {
        eprintln!("usage: bindgen MODULE NAME FOLDER");
        return ExitCode::from(2);
    };
    match bind(Path::new(module), name, Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{module}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bind(module: &Path, name: &str, folder: &Path) -> Result<()> {
    let mut output = Bindgen::new().input_path(module).out_name(name).web(true)?.typescript(true).generate_output()?;
    let wasm = output.wasm_mut();
    let imports = wasm.imports.iter_mut().map(|import| &mut import.name);
    let exports = wasm.exports.iter_mut().map(|export| &mut export.name);
    let mut numbers = HashMap::new();
    for name in imports.chain(exports).filter(|name| is_internal(name)) {
        let number = format!("_{}", numbers.len());
        let number = numbers.entry(name.clone()).or_insert(number);
        name.clone_from(number);
    }
    output.emit(folder)?;

    let bindings = folder.join(name).with_extension("js");
    fs::write(&bindings, renamed(&fs::read_to_string(&bindings)?, numbers)?)?;
    Ok(())
}

/// Whether the name is wasm-bindgen's own: nothing but its script uses it.
fn is_internal(name: &str) -> bool {
    name.starts_with("__wb") || name.starts_with("wasm_bindgen__")
}

/// JavaScript with other names for these. An error if it does not hold each of them.
fn renamed(script: &str, names: HashMap<String, String>) -> Result<String> {
    let mut missing = names.clone();
    let mut out = String::with_capacity(script.len());
    for token in script.split_inclusive(|c: char| !is_identifier(c)) {
        let identifier = token.trim_end_matches(|c: char| !is_identifier(c));
        missing.remove(identifier);
        out += names.get(identifier).map_or(identifier, String::as_str);
        out += &token[identifier.len()..];
    }
    if names.is_empty() || !missing.is_empty() {
        bail!("wasm-bindgen has changed its names; its script does not hold {:?}", missing.keys());
    }
    Ok(out)
}

fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$'
}
