//! The yardstick of `bench/decode.mjs`: an archive's levels, coded once more by constriction alone.
//!
//! Every frame of levels becomes one `SmallAnsCoder` stream in row-major order, under the archive's own tables and
//! classes, so that the only difference to the archive is the coder: no lanes, and constriction's decoder. A symbol that
//! a table cannot code is replaced by one that it can, as in the archive, where escapes then correct it.

use constriction::UnwrapInfallible;
use constriction::backends::Cursor;
use constriction::stream::model::{ContiguousCategoricalEntropyModel, ContiguousLookupDecoderModel};
use constriction::stream::stack::{AnsCoder, SmallAnsCoder};
use constriction::stream::{Decode, Encode};
use mcwc::container::{Archive, Coding, Levels, Side};
use mcwc::decode::Reader;
use mcwc::entropy::Table;
use mcwc::error::{Error, Result};
use mcwc::reconstruct::SideArrays;
use mcwc::stages::trellis;
use mcwc::tensor::Limits;
use wasm_bindgen::prelude::*;

const PRECISION: usize = 12;
type Encoder = ContiguousCategoricalEntropyModel<u16, Vec<u16>, PRECISION>;
type Decoder = ContiguousLookupDecoderModel<u16, Vec<u16>, Box<[u16]>, PRECISION>;

/// Streams of all frames of levels, in the order of the frames.
#[wasm_bindgen]
pub struct Baseline {
    streams: Vec<Stream>,
    models: Vec<Model>,
    symbols: Vec<i8>,
    decoded: Vec<i8>,
}

/// The symbols of one frame.
struct Stream {
    row_class: Vec<i8>,
    col_class: Vec<i8>,
    first_table: usize,
    /// Tables of one quantizer.
    table_count: usize,
    /// Under the trellis, whose states start anew in every chunk: rows of a chunk.
    trellis_rows: Option<usize>,
    words: Vec<u16>,
}

/// A table as constriction sees it: its symbols count from `first`.
struct Model {
    first: i16,
    last: i16,
    encoder: Encoder,
    decoder: Decoder,
}

#[wasm_bindgen]
impl Baseline {
    /// Decodes the levels of an archive and encodes them again.
    #[wasm_bindgen(constructor)]
    pub fn new(archive: &[u8]) -> std::result::Result<Baseline, JsError> {
        Ok(Self::of(archive)?)
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Length of all streams.
    pub fn bytes(&self) -> usize {
        self.streams.iter().map(|stream| 2 * stream.words.len()).sum()
    }

    /// Where the symbols lie, frame after frame, row-major.
    pub fn symbols(&self) -> *const i8 {
        self.symbols.as_ptr()
    }

    /// Where [`Baseline::decode`] writes.
    pub fn decoded(&self) -> *const i8 {
        self.decoded.as_ptr()
    }

    /// Decodes all streams.
    pub fn decode(&mut self) {
        let mut rest = self.decoded.as_mut_slice();
        for stream in &self.streams {
            let symbols;
            (symbols, rest) = rest.split_at_mut(stream.len());
            stream.decode(&self.models, symbols);
        }
    }
}

impl Baseline {
    fn of(bytes: &[u8]) -> Result<Self> {
        let reader = Reader::open(bytes, &Limits::default())?;
        let archive = reader.archive();
        let models: Vec<Model> = archive.tables.iter().map(Model::new).collect::<Result<_>>()?;
        let (mut streams, mut symbols) = (Vec::new(), Vec::new());
        for (index, frame) in archive.frames.iter().enumerate() {
            let Coding::Levels(levels) = &frame.coding else { continue };
            let frame_levels = frame_levels(&reader, index)?;
            let decoder = reader.frame(index)?;
            let side = decoder.levels().map(|levels| levels.side()).ok_or_else(|| Error::argument("no levels"))?;
            let chunk_rows = frame.chunk_len as usize / levels.row_len();
            let stream = Stream::encode(&frame_levels, levels, side, chunk_rows, &models, &mut symbols);
            streams.push(stream);
        }
        Ok(Baseline { streams, models, decoded: vec![0; symbols.len()], symbols })
    }
}

/// The levels of a frame in coded order.
fn frame_levels(reader: &Reader<[u8]>, index: usize) -> Result<Vec<i32>> {
    let archive: &Archive = reader.archive();
    let frame = &archive.frames[index];
    let mut decoder = reader.frame(index)?;
    let mut levels = Vec::new();
    for chunk in 0..frame.chunk_count {
        levels.extend(decoder.decode_levels(chunk, &reader.payload(frame.first_chunk + chunk)?)?);
    }
    Ok(levels)
}

impl Model {
    fn new(table: &Table) -> Result<Self> {
        let frequencies = without_zeros(table.frequencies());
        let invalid = |()| Error::argument("a table that constriction does not take");
        Ok(Model {
            first: table.first(),
            last: table.last(),
            encoder: Encoder::from_nonzero_fixed_point_probabilities(&frequencies, false).map_err(invalid)?,
            decoder: Decoder::from_nonzero_fixed_point_probabilities(&frequencies, false).map_err(invalid)?,
        })
    }

    /// The possible symbol nearest to a value, of the same parity, on which the trellis depends.
    fn nearest(&self, value: i32) -> i8 {
        let (first, last) = (i32::from(self.first), i32::from(self.last));
        let clamped = value.clamp(first, last);
        let inwards = if clamped == last { -1 } else { 1 };
        (clamped + if (clamped ^ value) & 1 == 0 { 0 } else { inwards }) as i8
    }
}

/// Frequencies with each 0 made 1, at the cost of the largest: constriction's contiguous models have no zeros.
fn without_zeros(frequencies: &[u16]) -> Vec<u16> {
    let mut frequencies = frequencies.to_vec();
    for index in 0..frequencies.len() {
        if frequencies[index] == 0 {
            frequencies[index] = 1;
            *frequencies.iter_mut().max().expect("there are frequencies") -= 1;
        }
    }
    frequencies
}

impl Stream {
    /// Appends the frame's symbols to `symbols`, and encodes them.
    fn encode(
        frame: &[i32],
        levels: &Levels,
        side: &SideArrays,
        chunk_rows: usize,
        models: &[Model],
        symbols: &mut Vec<i8>,
    ) -> Self {
        let mut stream = Stream {
            row_class: (0..levels.rows).map(|row| class(side, Side::RowClass, row)).collect(),
            col_class: (0..levels.row_len()).map(|col| col_class(side, levels, col)).collect(),
            first_table: levels.first_table,
            table_count: levels.table_count / if levels.trellis { 2 } else { 1 },
            trellis_rows: levels.trellis.then_some(chunk_rows.max(1)),
            words: Vec::new(),
        };
        let first = symbols.len();
        let mut tables = Vec::with_capacity(frame.len());
        let mut states = vec![0; stream.col_class.len()];
        for (row, row_levels) in frame.chunks_exact(states.len()).enumerate() {
            stream.restart(row, &mut states);
            for (col, &level) in row_levels.iter().enumerate() {
                let table = stream.first_table + stream.table(stream.row_class[row], stream.col_class[col], states[col]);
                let value = match stream.trellis_rows {
                    Some(_) => (level + level.signum() * i32::from(trellis::quantizer(states[col]))) / 2,
                    None => level >> levels.low_bits,
                };
                let symbol = models[table].nearest(value);
                stream.advance(&mut states[col], symbol);
                tables.push(table);
                symbols.push(symbol);
            }
        }
        let mut coder = SmallAnsCoder::new();
        for (&symbol, &table) in symbols[first..].iter().zip(&tables).rev() {
            let model = &models[table];
            let index = (i16::from(symbol) - model.first) as usize;
            coder.encode_symbol(index, &model.encoder).expect("every symbol has a frequency");
        }
        stream.words = coder.into_compressed().unwrap_infallible();
        stream
    }

    fn len(&self) -> usize {
        self.row_class.len() * self.col_class.len()
    }

    /// Which of the frame's tables, in a state of the trellis.
    fn table(&self, row_class: i8, col_class: i8, state: u8) -> usize {
        let class = (i32::from(row_class) + i32::from(col_class)).clamp(0, self.table_count as i32 - 1) as usize;
        class + usize::from(trellis::quantizer(state)) * self.table_count
    }

    fn restart(&self, row: usize, states: &mut [u8]) {
        if self.trellis_rows.is_some_and(|rows| row.is_multiple_of(rows)) {
            states.fill(0);
        }
    }

    fn advance(&self, state: &mut u8, symbol: i8) {
        if self.trellis_rows.is_some() {
            *state = trellis::next(*state, symbol.into());
        }
    }

    fn decode(&self, models: &[Model], symbols: &mut [i8]) {
        match self.trellis_rows {
            Some(_) => self.decode_as::<true>(models, symbols),
            None => self.decode_as::<false>(models, symbols),
        }
    }

    fn decode_as<const TRELLIS: bool>(&self, models: &[Model], symbols: &mut [i8]) {
        let models = &models[self.first_table..];
        let words = Cursor::new_at_write_end(self.words.as_slice());
        let mut coder = AnsCoder::<u16, u32, _>::from_compressed(words).unwrap_or_else(|_| unreachable!("whole stream"));
        let mut states = vec![0; self.col_class.len()];
        let rows = symbols.chunks_exact_mut(self.col_class.len()).zip(&self.row_class);
        for (row, (symbols, &row_class)) in rows.enumerate() {
            self.restart(row, &mut states);
            for ((symbol, &col_class), state) in symbols.iter_mut().zip(&self.col_class).zip(&mut states) {
                let model = &models[self.table(row_class, col_class, if TRELLIS { *state } else { 0 })];
                let index = coder.decode_symbol(model.decoder.as_view()).expect("the stream is whole");
                *symbol = (index as i16 + model.first) as i8;
                if TRELLIS {
                    *state = trellis::next(*state, (*symbol).into());
                }
            }
        }
    }
}

fn class(side: &SideArrays, array: Side, index: usize) -> i8 {
    side.arrays[array as usize].get(index).copied().unwrap_or(0)
}

fn col_class(side: &SideArrays, levels: &Levels, col: usize) -> i8 {
    let column = class(side, Side::ColumnClass, col / levels.taps);
    column.saturating_add(class(side, Side::TapClass, col % levels.taps))
}
