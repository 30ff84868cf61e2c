//! Names of tensors in few words, for tables and for the film.

use super::report::{FrameReport, Mode};
use crate::cli::printable::printable;

const REFERENCE_WIDTH: usize = 22;

/// What a frame of tensor `name` is predicted from, in few words. What a refinement refines goes without saying.
pub fn reference_text(report: &FrameReport, name: &str) -> String {
    let Some(reference) = report.reference.as_ref().filter(|_| report.mode == Mode::Predicted) else {
        return String::new();
    };
    match &reference.tensor {
        Some(tensor) if tensor == name && reference.base => "base".into(),
        Some(tensor) if reference.base => {
            elided(&printable(&format!("base: {}", shortened(tensor, name))), REFERENCE_WIDTH)
        }
        Some(tensor) => elided(&printable(&shortened(tensor, name)), REFERENCE_WIDTH),
        None => reference.to_string(),
    }
}

/// The parts of `name` in which it differs from `other`.
pub fn shortened(name: &str, other: &str) -> String {
    let parts: Vec<&str> = name.split_inclusive(['.', '/']).collect();
    let others: Vec<&str> = other.split_inclusive(['.', '/']).collect();
    let same = parts.iter().zip(&others).take_while(|(part, other)| part == other).count();
    let rest = parts.len().min(others.len()) - same;
    let same_end =
        parts.iter().rev().zip(others.iter().rev()).take(rest).take_while(|(part, other)| part == other).count();
    let end = parts.len() - same_end;
    let is_number = |part: &str| part.trim_end_matches(['.', '/']).bytes().all(|byte| byte.is_ascii_digit());
    // A number alone says little.
    let start = if parts.get(same).is_some_and(|part| is_number(part)) { same.saturating_sub(1) } else { same };
    let middle = parts[start..end.max(start)].concat();
    match (start > 0, end < parts.len()) {
        (before, after) if before || after => {
            format!(
                "{}{}{}",
                if before { "…" } else { "" },
                middle.trim_end_matches(['.', '/']),
                if after { "…" } else { "" }
            )
        }
        _ => middle,
    }
}

/// `text` in at most `width` characters, its middle left out.
pub fn elided(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= width {
        return text.into();
    }
    let tail = width / 3;
    let head = width.saturating_sub(tail + 1);
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_named_by_what_differs() {
        let name = "encoder.layer.6.attention.self.query.weight";
        for (reference, expected) in [
            ("encoder.layer.0.attention.self.query.weight", "…layer.0…"),
            ("encoder.layer.6.attention.self.key.weight", "…key…"),
            ("encoder.layer.6.attention.self.query.bias", "…bias"),
            ("decoder.weight", "decoder…"),
            ("other", "other"),
        ] {
            assert_eq!(shortened(reference, name), expected);
        }
        assert_eq!(shortened(name, name).chars().filter(|&letter| letter != '…').count(), 0);
    }

    #[test]
    fn elided_names_keep_both_ends() {
        assert_eq!(elided("encoder.layer.10.weight", 12), "encoder…ight");
        assert_eq!(elided("weight", 6), "weight");
    }
}
