//! What all parts of the page write: escaped text, numbers in few letters, the class that a frame's colour hangs on.

use crate::cli::inspect::report::{FrameReport, Mode};

/// Text of a page, or of an attribute's value.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            _ => safe.push(letter),
        }
    }
    safe
}

/// The colour of a frame.
pub fn class(frame: &FrameReport) -> &'static str {
    match frame.mode {
        _ if !frame.is_lossy() && frame.mode == Mode::Key => "exact",
        Mode::Key => "key",
        Mode::Predicted => "predicted",
        Mode::Refinement => "refinement",
    }
}

/// A number in four characters at most.
pub fn short(value: f64) -> String {
    match value {
        value if value >= 9.95 => format!("{value:.0}"),
        value if value >= 0.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

pub fn percent(part: f64) -> String {
    match 100.0 * part {
        percent if percent >= 9.95 => format!("{percent:.0} %"),
        percent if percent >= 0.095 => format!("{percent:.1} %"),
        percent => format!("{percent:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_is_markup() {
        assert_eq!(escaped("<a href='x'>\"&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
    }
}
