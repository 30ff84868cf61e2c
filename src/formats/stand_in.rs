//! What lies under a model's name without being the model: a Git LFS pointer, or what a server sent instead of it.

use std::ops::RangeInclusive;

use super::reading::MODEL_ENDINGS;
use super::window::Window;
use super::{base_name, without_mark};
use crate::error::{Error, Result};

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// How documents begin, in lower case, and what they are called.
const DOCUMENTS: [(&[u8], &str); 5] = [
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document"),
    (b"<error", "an XML document"),
    (b"<head", "an HTML page"),
];
/// Where a document may begin at the latest.
const HEAD_BYTES: u64 = 512;
/// Lengths of texts that a server sends to say why it sends no model. Shorter ones may be the first bytes of one.
const TEXT_BYTES: RangeInclusive<u64> = 8..=4096;
/// Characters of such a text that are quoted.
const QUOTED: usize = 60;

/// Checks that a file with a model's name is no pointer, page or message.
///
/// # Errors
/// `Argument`, naming what it is; whatever reading it gives.
pub(super) fn refuse(file: &Window) -> Result<()> {
    let name = base_name(file.name).to_ascii_lowercase();
    let is_binary = MODEL_ENDINGS.iter().any(|ending| name.ends_with(ending));
    if !is_binary && ![".json", ".bin"].iter().any(|ending| name.ends_with(ending)) {
        return Ok(());
    }
    refuse_pointer(file)?;
    let head = head(file)?;
    let visible = without_mark(&head).trim_ascii_start();
    let begins_like =
        |document: &[u8]| visible.get(..document.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(document));
    if let Some((_, what)) = DOCUMENTS.iter().find(|(document, _)| begins_like(document)) {
        return Err(is_no_model(file, &format!("{what}, not the model: was its download refused?")));
    }
    match message(file)? {
        Some(text) if is_binary => Err(is_no_model(file, &format!("a text, not the model: it says {text:?}"))),
        _ => Ok(()),
    }
}

/// Checks that a file is no Git LFS pointer.
///
/// # Errors
/// As [`refuse`].
pub(super) fn refuse_pointer(file: &Window) -> Result<()> {
    match head(file)?.starts_with(POINTER) {
        true => Err(is_no_model(file, "a Git LFS pointer, not the model: run git lfs pull")),
        false => Ok(()),
    }
}

fn is_no_model(file: &Window, what: &str) -> Error {
    Error::argument(format!("{} is {what}", file.name))
}

fn head(file: &Window) -> Result<Vec<u8>> {
    // Through the window, so that whoever parses the file finds it read.
    file.byte(0)?;
    file.read(0..file.bytes.min(HEAD_BYTES), "head", HEAD_BYTES)
}

/// The beginning of a short text.
fn message(file: &Window) -> Result<Option<String>> {
    if !TEXT_BYTES.contains(&file.bytes) {
        return Ok(None);
    }
    let bytes = file.read(0..file.bytes, "text", *TEXT_BYTES.end())?;
    let text = str::from_utf8(without_mark(&bytes)).unwrap_or_default().trim();
    let is_text = !text.is_empty() && text.chars().all(|letter| !letter.is_control() || letter.is_ascii_whitespace());
    let line = text.lines().next().unwrap_or_default();
    Ok(is_text.then(|| line.chars().take(QUOTED).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, content: &[u8]) -> Option<String> {
        refuse(&Window::new(name, &content)).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_no_model_is_called_what_it_is() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".as_slice();
        let page = b"\xef\xbb\xbf \n<!DOCTYPE html><html></html>".as_slice();
        let long_page = [page, &[b'x'; 100_000]].concat();
        for (name, content, expected) in [
            (
                "a/model.safetensors",
                pointer,
                "a/model.safetensors is a Git LFS pointer, not the model: run git lfs pull",
            ),
            (
                "group1-shard1of1.bin",
                pointer,
                "group1-shard1of1.bin is a Git LFS pointer, not the model: run git lfs pull",
            ),
            ("model.json", pointer, "model.json is a Git LFS pointer, not the model: run git lfs pull"),
            ("M.ONNX", page, "M.ONNX is an HTML page, not the model: was its download refused?"),
            ("m.tflite", &long_page, "m.tflite is an HTML page, not the model: was its download refused?"),
            ("model.json", page, "model.json is an HTML page, not the model: was its download refused?"),
            (
                "m.gguf",
                b"<?xml version=\"1.0\"?><Error/>",
                "m.gguf is an XML document, not the model: was its download refused?",
            ),
            (
                "m.pth",
                b"{\"error\": \"gone\"}\n",
                "m.pth is a text, not the model: it says \"{\\\"error\\\": \\\"gone\\\"}\"",
            ),
            ("m.keras", b"Entry not found", "m.keras is a text, not the model: it says \"Entry not found\""),
        ] {
            assert_eq!(refusal(name, content).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn other_files_may_say_what_they_like() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\n".as_slice();
        for (name, content) in [
            ("README.md", pointer),
            ("index.html", b"<html></html>"),
            ("config.json", b"{\"error\": 1}"),
            ("words.bin", b"one two three"),
            ("m.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
            ("m.onnx", b"\x08\x07"),
            ("m.gguf", b""),
            ("m.gguf", b"GGUF"),
            ("m.pt", b"text\0"),
        ] {
            assert_eq!(refusal(name, content), None, "{name}");
        }
    }
}
