//! Entropy models: frequencies in 1/4096 over a range of small integers (FORMAT.md, section 7.2).

use crate::error::{Error, Result};
use crate::fields::{pack_bits, put_varint, take_array, take_bits, take_varint, unpack_bits};
use crate::format::{PRECISION, STEPS, TABLES_MAX, TOTAL};

/// Frequency number `index` of the coarse form: 0 to 8, then four to an octave.
#[expect(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "steps are below 44")]
pub fn step(index: usize) -> u16 {
    match index {
        0..4 => index as u16,
        _ => (4 + (index as u16 & 3)) << ((index >> 2) - 1),
    }
}

/// The coarse form of `len` frequencies: changes of the step, zigzag, in unary down to their lowest bit.
#[expect(clippy::arithmetic_side_effects, reason = "counts of bits in memory")]
fn parse_coarse(bytes: &mut &[u8], len: usize) -> Result<Vec<u16>> {
    let invalid = || Error::invalid("table", "its coarse form breaks a rule");
    let mut bits = unpack_bits(bytes, 1);
    let (mut bit_len, mut index) = (0, 0);
    let mut frequencies = Vec::with_capacity(len);
    for _ in 0..len {
        let ones = bits.by_ref().take_while(|&bit| bit == 1).count();
        let sign = bits.next().ok_or_else(invalid)?;
        let change = if sign == 1 { -(ones as isize) - 1 } else { ones as isize };
        index = usize::checked_add_signed(index, change).filter(|&index| index < STEPS).ok_or_else(invalid)?;
        frequencies.push(step(index));
        bit_len += ones + 2;
    }
    take_bits(bytes, bit_len, "table")?;
    add_rest(&mut frequencies).ok_or_else(invalid)?;
    Ok(frequencies)
}

/// Gives the first of the largest frequencies what all lack; `None` if they are too large.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "no more than 4096 is added to one that is less"
)]
fn add_rest(frequencies: &mut [u16]) -> Option<()> {
    let sum: u32 = frequencies.iter().map(|&frequency| u32::from(frequency)).sum();
    let rest = TOTAL.checked_sub(sum)?;
    let largest = frequencies.iter().copied().max()?;
    *frequencies.iter_mut().find(|frequency| **frequency == largest)? += rest as u16;
    Some(())
}

/// Frequencies of the symbols `first ..= first + frequencies.len() - 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    first: i16,
    frequencies: Vec<u16>,
}

impl Table {
    /// A table, checked: at least two symbols, the outer ones possible, the sum [`TOTAL`].
    ///
    /// # Errors
    /// `Invalid` if a rule is broken.
    pub fn new(first: i16, frequencies: Vec<u16>) -> Result<Self> {
        let sum: u32 = frequencies.iter().map(|&frequency| u32::from(frequency)).sum();
        let outer = [frequencies.first(), frequencies.last()];
        if sum != TOTAL {
            return Err(Error::invalid("table", "frequencies do not sum to 4096"));
        }
        if frequencies.len() < 2 || frequencies.len() > 256 || outer.contains(&Some(&0)) {
            return Err(Error::invalid("table", "the first and the last symbol must differ and be possible"));
        }
        Ok(Table { first, frequencies })
    }

    /// Smallest symbol.
    pub fn first(&self) -> i16 {
        self.first
    }

    /// Largest symbol.
    #[expect(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "there are 2 to 256 symbols")]
    pub fn last(&self) -> i16 {
        self.first + (self.frequencies.len() - 1) as i16
    }

    /// Frequencies from the smallest symbol to the largest.
    pub fn frequencies(&self) -> &[u16] {
        &self.frequencies
    }

    /// Reads one table of bytes (`u8` symbols) from the front of `bytes`.
    pub(crate) fn parse_bytes(bytes: &mut &[u8]) -> Result<Self> {
        Self::parse(bytes, i16::from)
    }

    /// Reads a header's tables (`i8` symbols).
    pub(crate) fn parse_set(mut bytes: &[u8]) -> Result<Vec<Self>> {
        let mut tables = Vec::new();
        while !bytes.is_empty() {
            let value = tables.len() as u64;
            if value == TABLES_MAX {
                return Err(Error::limit_exceeded("tables", value, TABLES_MAX));
            }
            tables.push(Self::parse(&mut bytes, |byte| i16::from(byte as i8))?);
        }
        Ok(tables)
    }

    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "the difference of two bytes; frequencies are below 4096"
    )]
    fn parse(bytes: &mut &[u8], symbol: impl Fn(u8) -> i16) -> Result<Self> {
        let [first, last] = take_array::<2>(bytes, "table")?.map(symbol);
        if last < first {
            return Table::new(last, parse_coarse(bytes, (first - last) as usize + 1)?);
        }
        let mut frequencies = Vec::new();
        for _ in first..=last {
            let frequency = take_varint(bytes, "table")?;
            if frequency >= TOTAL {
                return Err(Error::invalid("table", "a frequency is above 4095"));
            }
            frequencies.push(frequency as u16);
        }
        Table::new(first, frequencies)
    }

    /// Appends the stored form: the shorter one, if there are two.
    #[expect(clippy::cast_possible_truncation, reason = "symbols are bytes")]
    pub fn serialize(&self, bytes: &mut Vec<u8>) {
        let mut exact = vec![self.first as u8, self.last() as u8];
        self.frequencies.iter().for_each(|&frequency| put_varint(u32::from(frequency), &mut exact));
        let coarse = self.coarse().filter(|coarse| coarse.len() < exact.len());
        bytes.extend(coarse.unwrap_or(exact));
    }

    /// The coarse form, if it gives just these frequencies.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "steps are below 44, and symbols are bytes"
    )]
    fn coarse(&self) -> Option<Vec<u8>> {
        let below = |frequency| (0..STEPS).rev().find(|&index| step(index) <= frequency);
        let indices: Vec<usize> = self.frequencies.iter().map(|&frequency| below(frequency)).collect::<Option<_>>()?;
        let mut frequencies: Vec<u16> = indices.iter().map(|&index| step(index)).collect();
        add_rest(&mut frequencies)?;
        let mut bits = Vec::new();
        let mut previous = 0;
        for index in indices {
            let change = index as i32 - previous;
            let change = change << 1 ^ change >> 31;
            bits.extend(std::iter::repeat_n(1, (change >> 1) as usize).chain([0, change as u32 & 1]));
            previous = index as i32;
        }
        let mut bytes = vec![self.last() as u8, self.first as u8];
        bytes.extend(pack_bits(bits.into_iter(), 1));
        (frequencies == self.frequencies).then_some(bytes)
    }

    /// Appends the decoder's 4096 slots: symbol (8 bits), frequency (12), slot − cumulative (12), high to low.
    #[expect(clippy::cast_possible_truncation, reason = "symbols are bytes")]
    pub fn push_slots(&self, slots: &mut Vec<u32>) {
        for (symbol, &frequency) in (self.first..).zip(&self.frequencies) {
            let head = u32::from(symbol as u8) << (2 * PRECISION) | u32::from(frequency) << PRECISION;
            slots.extend((0..u32::from(frequency)).map(|bias| head | bias));
        }
    }

    /// Whether a symbol can occur.
    #[cfg(all(test, feature = "encoder"))]
    pub(crate) fn is_possible(&self, symbol: i16) -> bool {
        (self.first..).zip(&self.frequencies).any(|(possible, &frequency)| possible == symbol && frequency > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_four_to_an_octave() {
        let steps: Vec<u16> = (0..STEPS).map(step).collect();
        assert_eq!(steps[..17], [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32]);
        assert_eq!(steps[STEPS - 1], 3584);
    }

    #[test]
    fn coarse_tables_read_as_the_page_says() {
        // Symbols 5 and 6 of steps 1 and 1: one change of 1 (`1`, `0`, `0`), one of 0 (`0`, `0`).
        assert_eq!(Table::parse_bytes(&mut &[6, 5, 0b00001][..]).unwrap(), Table::new(5, vec![4095, 1]).unwrap());
    }

    #[test]
    fn rejects_coarse_tables_that_break_a_rule() {
        let code = |bytes: &[u8]| Table::parse_bytes(&mut &bytes[..]).map_or_else(|error| error.code(), |_| "ok");
        // Ends early; a step below 0; a step above 43; two symbols of 3584; the first symbol impossible.
        let above = [255, 255, 255, 255, 255, 255, 255];
        let twice = [255, 255, 255, 255, 255, 7, 0];
        assert_eq!(code(&[6, 5]), "invalid");
        assert_eq!(code(&[6, 5, 0b10]), "invalid");
        assert_eq!(code(&[[6, 5].as_slice(), &above].concat()), "invalid");
        assert_eq!(code(&[[6, 5].as_slice(), &twice].concat()), "invalid");
        assert_eq!(code(&[6, 5, 0b00100]), "invalid");
    }
}
