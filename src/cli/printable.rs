//! Text from files and names -> text that a terminal shows as it is.
//!
//! A name may hold escape sequences, line breaks, and marks that turn the direction of what follows: all are written as escapes.

use std::borrow::Cow;

/// Whether a terminal would act on this character instead of showing it.
fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` in one line.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.escape_default().to_string())
}

/// JSON that says the same: such characters can only be parts of its strings.
pub fn printable_json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| if c == '\n' { c.into() } else { format!("\\u{:04x}", u32::from(c)) })
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return text.into();
    }
    text.chars().map(|c| if is_command(c) { escape(c) } else { c.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_to_a_terminal_are_escaped_and_all_else_is_not() {
        let name = "é 漢 \u{1b}[31m\r\n\t\u{7f}\u{9b}\u{202e}\u{2066}\u{200f}\u{2028}\\";
        assert_eq!(printable(name), "é 漢 \\u{1b}[31m\\r\\n\\t\\u{7f}\\u{9b}\\u{202e}\\u{2066}\\u{200f}\\u{2028}\\");
        assert!(matches!(printable("weights/é 漢.bin"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_says_the_same() {
        let name = "\u{1b}\r\n\t\u{7f}\u{9b}\u{202e}\"\\";
        let json = serde_json::to_string_pretty(&[name]).unwrap();
        let printed = printable_json(&json);
        assert!(printed.lines().count() == 3 && !printed.contains(|c| c != '\n' && is_command(c)));
        assert_eq!(serde_json::from_str::<[String; 1]>(&printed).unwrap(), [name]);
    }
}
