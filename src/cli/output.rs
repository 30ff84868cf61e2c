//! Results as JSON, and progress.

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};

pub fn json_text(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::argument(error.to_string()))?;
    Ok(text + "\n")
}

/// A bar on a terminal; nothing elsewhere, or beside JSON.
pub fn progress_bar(len: u64, json: bool, template: &str) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style.progress_chars("━╸─"))
}
