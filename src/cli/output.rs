//! What the command prints: results as text or JSON, and progress.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::files::io_error;
use super::printable::printable_json;
use crate::encode::Progress;
use crate::error::{Error, Result};

/// What a command has to say.
pub struct Printed {
    pub text: String,
    /// Because standard output has the bytes that were asked for.
    pub to_stderr: bool,
}

impl From<String> for Printed {
    fn from(text: String) -> Self {
        Printed { text, to_stderr: false }
    }
}

impl Printed {
    pub fn print(&self) -> Result<()> {
        let bytes = self.text.as_bytes();
        let (written, name) = if self.to_stderr {
            (io::stderr().write_all(bytes), "standard error")
        } else {
            (io::stdout().write_all(bytes), "standard output")
        };
        match written {
            // Whoever reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(io_error(Path::new(name))),
        }
    }
}

/// What was found, for programs and for people.
pub struct Found {
    pub json: Value,
    pub text: String,
}

impl Found {
    /// With more, which programs find under `key`.
    #[cfg(feature = "gpu")]
    pub fn and(mut self, key: &str, more: Found) -> Self {
        self.json[key] = more.json;
        self.text += &more.text;
        self
    }

    /// What is printed of it.
    pub fn printed(self, json: bool) -> Result<String> {
        if json { json_text(&self.json) } else { Ok(self.text) }
    }
}

pub fn json_text(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::argument(error.to_string()))?;
    Ok(printable_json(&text).into_owned() + "\n")
}

/// A bar on a terminal; nothing elsewhere, or beside JSON.
pub fn progress_bar(len: u64, json: bool, template: &str) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style.progress_chars("━╸─"))
}

/// Progress as lines of JSON on standard error, one for each tensor and each percent of a stage.
#[derive(Default)]
pub struct ProgressLines {
    last: Mutex<Option<(&'static str, u8, Option<String>)>>,
}

impl ProgressLines {
    pub fn print(&self, Progress { stage, done, tensor }: &Progress) {
        let now = Some((*stage, (100.0 * done) as u8, tensor.map(str::to_owned)));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != now {
            *last = now;
            let line = serde_json::json!({ "stage": stage, "done": done, "tensor": tensor }).to_string();
            eprintln!("{}", printable_json(&line));
        }
    }
}
