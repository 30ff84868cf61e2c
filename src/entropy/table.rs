//! Entropy models: frequencies in 1/4096 over a range of small integers (FORMAT.md, section 7.2).

use crate::error::{Error, Result};

/// Bits of precision of every table.
pub const PRECISION: u32 = 12;
/// What the frequencies of a table sum to.
pub const TOTAL: u32 = 1 << PRECISION;

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
            if tables.len() == usize::from(u16::MAX) {
                return Err(Error::LimitExceeded { field: "tables", value: 65536, limit: 65535 });
            }
            tables.push(Self::parse(&mut bytes, |byte| i16::from(byte as i8))?);
        }
        Ok(tables)
    }

    fn parse(bytes: &mut &[u8], symbol: impl Fn(u8) -> i16) -> Result<Self> {
        let [first, last] = super::take_array::<2>(bytes, "table")?.map(symbol);
        if last <= first {
            return Err(Error::invalid("table", "fewer than two symbols"));
        }
        let mut frequencies = Vec::new();
        for _ in first..=last {
            let frequency = super::take_varint(bytes, "table")?;
            if frequency >= TOTAL {
                return Err(Error::invalid("table", "a frequency is above 4095"));
            }
            frequencies.push(frequency as u16);
        }
        Table::new(first, frequencies)
    }

    /// Appends the stored form.
    pub fn serialize(&self, bytes: &mut Vec<u8>) {
        bytes.extend([self.first as u8, self.last() as u8]);
        self.frequencies.iter().for_each(|&frequency| super::put_varint(u32::from(frequency), bytes));
    }

    /// Appends the decoder's 4096 slots: symbol (8 bits), frequency (12), slot − cumulative (12), high to low.
    pub fn push_slots(&self, slots: &mut Vec<u32>) {
        for (symbol, &frequency) in (self.first..).zip(&self.frequencies) {
            let head = u32::from(symbol as u8) << 24 | u32::from(frequency) << PRECISION;
            slots.extend((0..u32::from(frequency)).map(|bias| head | bias));
        }
    }

    /// Cumulative frequency and frequency of a symbol; `None` if it cannot occur.
    pub fn interval(&self, symbol: i16) -> Option<(u32, u32)> {
        let index = usize::try_from(symbol - self.first).ok()?;
        let frequency = u32::from(*self.frequencies.get(index)?);
        let cumulative = self.frequencies[..index].iter().map(|&frequency| u32::from(frequency)).sum();
        (frequency > 0).then_some((cumulative, frequency))
    }
}
