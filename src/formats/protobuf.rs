//! Protobuf wire format -> fields with their offsets in the file.
//!
//! A message is walked in place: nothing is copied or allocated, every length is checked against the bytes that are
//! there, and each span knows where in the file it begins, which decoders that build values cannot tell.
//! See <https://protobuf.dev/programming-guides/encoding>.

/// Consecutive bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<'a> {
    pub bytes: &'a [u8],
    /// Where in the file the first byte lies.
    pub offset: usize,
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
}

/// A field's value, by wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// Four or eight bytes: a single `float`, `double` or fixed-width integer.
    Fixed,
    /// A string, bytes, a message, or packed elements.
    Delimited(Span<'a>),
}

/// Bytes that are not protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where in the file the field begins that cannot be read.
    pub offset: usize,
}

impl<'a> Span<'a> {
    /// A whole file.
    pub fn of_file(bytes: &'a [u8]) -> Self {
        Span { bytes, offset: 0 }
    }

    /// The fields of this span as a message, in file order; the last one is an error if the bytes are malformed.
    pub fn fields(self) -> impl Iterator<Item = Result<Field<'a>, Malformed>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            if rest.bytes.is_empty() {
                return None;
            }
            let offset = rest.offset;
            let field = rest.take_field().ok_or(Malformed { offset });
            if field.is_err() {
                rest.bytes = &[];
            }
            Some(field)
        })
    }

    /// This span as packed varints; the last one is an error if the bytes are malformed.
    pub fn varints(self) -> impl Iterator<Item = Result<u64, Malformed>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            if rest.bytes.is_empty() {
                return None;
            }
            let offset = rest.offset;
            let value = rest.take_varint().ok_or(Malformed { offset });
            if value.is_err() {
                rest.bytes = &[];
            }
            Some(value)
        })
    }

    fn take_field(&mut self) -> Option<Field<'a>> {
        let key = self.take_varint()?;
        let number = key >> 3;
        if !(1..1 << 29).contains(&number) {
            return None;
        }
        let value = match key & 7 {
            0 => Value::Varint(self.take_varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.take_varint()?;
                Value::Delimited(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some(Field { number, value })
    }

    /// Seven bits a byte, the lowest first; `None` where the bytes end early or the value exceeds 64 bits.
    fn take_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1)?.bytes.first().copied()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits.checked_shl(shift)?;
            if shifted.checked_shr(shift)? != bits {
                return None;
            }
            value |= shifted;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: u64) -> Option<Span<'a>> {
        let len = usize::try_from(len).ok()?;
        let (head, tail) = self.bytes.split_at_checked(len)?;
        let taken = Span { bytes: head, offset: self.offset };
        *self = Span { bytes: tail, offset: self.offset.checked_add(len)? };
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Vec<Result<Field<'_>, Malformed>> {
        Span::of_file(bytes).fields().collect()
    }

    #[test]
    fn reads_every_wire_type_with_offsets() {
        let bytes = [
            0x08, 0x96, 0x01, // 1: 150
            0x11, 0, 0, 0, 0, 0, 0, 0, 0, // 2: eight bytes
            0x1a, 0x02, b'h', b'i', // 3: "hi"
            0x25, 0, 0, 0, 0, // 4: four bytes
        ];
        let hi = Span { bytes: b"hi", offset: 14 };
        let expected = [
            Field { number: 1, value: Value::Varint(150) },
            Field { number: 2, value: Value::Fixed },
            Field { number: 3, value: Value::Delimited(hi) },
            Field { number: 4, value: Value::Fixed },
        ];
        assert_eq!(fields(&bytes), expected.map(Ok));
    }

    #[test]
    fn offsets_count_from_the_file_not_the_message() {
        let bytes = [0x08, 0x01, 0x12, 0x04, 0x0a, 0x02, 7, 8];
        let Ok(Field { value: Value::Delimited(message), .. }) = fields(&bytes)[1] else { panic!("a message") };
        let inner: Vec<_> = message.fields().collect();
        let value = Value::Delimited(Span { bytes: &[7, 8], offset: 6 });
        assert_eq!(inner, [Ok(Field { number: 1, value })]);
    }

    #[test]
    fn reads_varints_up_to_64_bits_and_no_further() {
        let read = |bytes: &[u8]| Span::of_file(bytes).varints().collect::<Vec<_>>();
        assert_eq!(read(&[0x7f, 0x80, 0x01]), [Ok(0x7f), Ok(0x80)]);
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read(&largest), [Ok(u64::MAX)]);
        let bit_65 = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(read(&bit_65), [Err(Malformed { offset: 0 })]);
        assert_eq!(read(&[0x80; 11]), [Err(Malformed { offset: 0 })]);
        assert_eq!(read(&[0x01, 0x80]), [Ok(1), Err(Malformed { offset: 1 })]);
    }

    #[test]
    fn a_malformed_field_ends_the_walk() {
        let truncated_length = [0x08, 0x01, 0x12, 0x05, 1, 2];
        assert_eq!(fields(&truncated_length)[1..], [Err(Malformed { offset: 2 })]);
        let huge_length = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
        assert_eq!(fields(&huge_length), [Err(Malformed { offset: 0 })]);
        for key in [0x00, 0x02, 0x0b, 0x0c, 0x0e, 0x0f] {
            assert_eq!(fields(&[key, 0, 0]), [Err(Malformed { offset: 0 })], "key {key:#x}");
        }
    }
}
