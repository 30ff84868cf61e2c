//! Protobuf wire format -> fields with their offsets in the file.
//!
//! A message is walked in place: payloads are passed over unread, every length is checked against the bytes that are
//! there, and each span knows where in the file it lies, which decoders that build values cannot tell.
//! See <https://protobuf.dev/programming-guides/encoding>.

use super::window::Window;
use crate::error::{Error, Result};

/// Longest name, or other text, that is read.
const MAX_TEXT_BYTES: u64 = 1 << 16;

/// Consecutive bytes of a file.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    pub file: &'a Window<'a>,
    /// Where in the file the first byte lies.
    pub start: u64,
    /// After the last byte.
    pub end: u64,
}

/// One field of a message.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
}

/// A field's value, by wire type.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// Four or eight bytes: a single `float`, `double` or fixed-width integer.
    Fixed,
    /// A string, bytes, a message, or packed elements.
    Delimited(Span<'a>),
}

impl<'a> Span<'a> {
    /// A whole file.
    pub fn of_file(file: &'a Window<'a>) -> Self {
        Span { file, start: 0, end: file.bytes }
    }

    pub fn bytes(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// What the span holds, if that is no longer than a text.
    pub fn read(self) -> Result<Vec<u8>> {
        self.file.read(self.start..self.end, "onnx text length", MAX_TEXT_BYTES)
    }

    /// What the span holds, with replacement characters for whatever is not UTF-8.
    pub fn text(self) -> Result<String> {
        self.read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The fields of this span as a message, in file order; the last one is an error if the bytes are malformed.
    pub fn fields(self) -> impl Iterator<Item = Result<Field<'a>>> {
        self.items(Span::take_field)
    }

    /// This span as packed varints; the last one is an error if the bytes are malformed.
    pub fn varints(self) -> impl Iterator<Item = Result<u64>> {
        self.items(Span::take_varint)
    }

    /// What `take` takes, given where the item begins, until nothing is left or after an error.
    fn items<T>(self, take: fn(&mut Self, u64) -> Result<T>) -> impl Iterator<Item = Result<T>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            if rest.bytes() == 0 {
                return None;
            }
            let start = rest.start;
            let item = take(&mut rest, start);
            if item.is_err() {
                rest.start = rest.end;
            }
            Some(item)
        })
    }

    fn take_field(&mut self, item: u64) -> Result<Field<'a>> {
        let key = self.take_varint(item)?;
        let number = key >> 3;
        if !(1..1 << 29).contains(&number) {
            return Err(self.malformed(item));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.take_varint(item)?),
            1 => self.take(8, item).map(|_| Value::Fixed)?,
            2 => {
                let len = self.take_varint(item)?;
                Value::Delimited(self.take(len, item)?)
            }
            5 => self.take(4, item).map(|_| Value::Fixed)?,
            _ => return Err(self.malformed(item)),
        };
        Ok(Field { number, value })
    }

    /// Seven bits a byte, the lowest first; malformed where the bytes end early or the value exceeds 64 bits.
    fn take_varint(&mut self, item: u64) -> Result<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1, item)?;
            let byte = byte.file.byte(byte.start)?.ok_or_else(|| self.malformed(item))?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits.wrapping_shl(shift);
            if shifted.wrapping_shr(shift) != bits {
                return Err(self.malformed(item));
            }
            value |= shifted;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed(item))
    }

    fn take(&mut self, len: u64, item: u64) -> Result<Span<'a>> {
        let end = self.start.checked_add(len).filter(|&end| end <= self.end).ok_or_else(|| self.malformed(item))?;
        let taken = Span { end, ..*self };
        self.start = end;
        Ok(taken)
    }

    /// `item` is where the field or the varint begins that cannot be read.
    fn malformed(&self, item: u64) -> Error {
        Error::invalid("onnx", format!("{}: malformed protobuf at byte {item}", self.file.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a file.
    fn fields(bytes: &[u8]) -> Vec<String> {
        let file = Window::new("m", &bytes);
        Span::of_file(&file).fields().map(described).collect()
    }

    /// Its number and value, or why it cannot be read.
    fn described(field: Result<Field>) -> String {
        match field {
            Ok(Field { number, value: Value::Varint(value) }) => format!("{number}: {value}"),
            Ok(Field { number, value: Value::Fixed }) => format!("{number}: fixed"),
            Ok(Field { number, value: Value::Delimited(span) }) => format!("{number}: {}..{}", span.start, span.end),
            Err(error) => error.to_string(),
        }
    }

    fn malformed(offset: u64) -> String {
        format!("invalid onnx: m: malformed protobuf at byte {offset}")
    }

    #[test]
    fn reads_every_wire_type_with_offsets() {
        let bytes: &[u8] = &[
            0x08, 0x96, 0x01, // 1: 150
            0x11, 0, 0, 0, 0, 0, 0, 0, 0, // 2: eight bytes
            0x1a, 0x02, b'h', b'i', // 3: "hi"
            0x25, 0, 0, 0, 0, // 4: four bytes
        ];
        assert_eq!(fields(bytes), ["1: 150", "2: fixed", "3: 14..16", "4: fixed"]);
        let file = Window::new("m", &bytes);
        assert_eq!(Span { file: &file, start: 14, end: 16 }.text().unwrap(), "hi");
    }

    #[test]
    fn offsets_count_from_the_file_not_the_message() {
        let bytes: &[u8] = &[0x08, 0x01, 0x12, 0x04, 0x0a, 0x02, 7, 8];
        let file = Window::new("m", &bytes);
        let Some(Ok(Field { value: Value::Delimited(message), .. })) = Span::of_file(&file).fields().nth(1) else {
            panic!("a message")
        };
        assert_eq!(message.fields().map(described).collect::<Vec<_>>(), ["1: 6..8"]);
    }

    #[test]
    fn reads_varints_up_to_64_bits_and_no_further() {
        let read = |bytes: &[u8]| {
            let file = Window::new("m", &bytes);
            Span::of_file(&file).varints().map(|value| value.map_err(|error| error.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(read(&[0x7f, 0x80, 0x01]), [Ok(0x7f), Ok(0x80)]);
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read(&largest), [Ok(u64::MAX)]);
        let bit_65 = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(read(&bit_65), [Err(malformed(0))]);
        assert_eq!(read(&[0x80; 11]), [Err(malformed(0))]);
        assert_eq!(read(&[0x01, 0x80]), [Ok(1), Err(malformed(1))]);
    }

    #[test]
    fn a_malformed_field_ends_the_walk() {
        let truncated_length = [0x08, 0x01, 0x12, 0x05, 1, 2];
        assert_eq!(fields(&truncated_length)[1..], [malformed(2)]);
        let huge_length = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
        assert_eq!(fields(&huge_length), [malformed(0)]);
        for key in [0x00, 0x02, 0x0b, 0x0c, 0x0e, 0x0f] {
            assert_eq!(fields(&[key, 0, 0]), [malformed(0)], "key {key:#x}");
        }
    }

    #[test]
    fn long_texts_are_not_read() {
        let bytes = vec![b'x'; MAX_TEXT_BYTES as usize + 1];
        let file = Window::new("m", &bytes);
        let whole = Span::of_file(&file);
        assert!(matches!(whole.read(), Err(Error::LimitExceeded { limit: MAX_TEXT_BYTES, .. })));
        assert_eq!(Span { end: MAX_TEXT_BYTES, ..whole }.text().unwrap().len() as u64, MAX_TEXT_BYTES);
    }
}
