//! A predicted frame, decoded -> what it would be without its prediction.

use super::report::{FrameReport, Mode};
use crate::container::{Coding, Levels, Side};
use crate::decode::Reader;
use crate::encode::exact::frame::exact;
use crate::encode::levels::matrix::Matrix;
use crate::encode::search::key_rate::KeyFrame;
use crate::error::Result;
use crate::source::FileSource;
use crate::stages::predict::prediction;

/// What a predicted frame would be without its prediction.
#[derive(Default)]
pub struct Without {
    pub key: Option<KeyFrame>,
    /// Of planes: the bits of a key frame.
    pub bits: Option<f64>,
    pub residual_energy: Option<f64>,
}

pub fn without_prediction(reader: &Reader<FileSource>, report: &FrameReport) -> Result<Without> {
    let archive = reader.archive();
    let frame = &archive.frames[report.frame];
    match &frame.coding {
        Coding::Planes(fields) if report.mode == Mode::Predicted => {
            let elementwise = fields.iter().all(|&field| field == 1);
            let record: Vec<u16> =
                if elementwise { Vec::new() } else { fields.iter().map(|&field| field as u16).collect() };
            let key = exact(&reader.tensor(&report.tensors[0])?, frame.dtype, &record, false);
            Ok(Without { bits: Some(8.0 * key.bytes() as f64), ..Without::default() })
        }
        Coding::Planes(_) => Ok(Without::default()),
        Coding::Levels(levels) => {
            let (decoder, decoded) = reader.levels(report.frame)?;
            let side = decoder.levels().map(|decoder| decoder.side());
            let row_gain = side.map_or(&[][..], |side| &side.row_gain);
            let reference = frame.reference.map(|reference| reader.levels(reference)).transpose()?;
            let reference = reference.map_or(Vec::new(), |(_, levels)| levels);
            let key = (report.mode == Mode::Predicted).then(|| {
                let exponents = [Side::RowExponent, Side::ColumnExponent, Side::TapExponent];
                let array = |which: Side| side.map_or(Vec::new(), |side| side.arrays[which as usize].clone());
                let Levels { rows, columns, taps, .. } = *levels;
                let follows_trellis =
                    |index: usize| matches!(&archive.frames[index].coding, Coding::Levels(levels) if levels.trellis);
                // What a trellis found once stays on its path, but for the changes.
                let trellis = levels.trellis || archive.references(report.frame).into_iter().any(follows_trellis);
                KeyFrame::new(Matrix { rows, columns, taps }, &exponents.map(array), trellis, &decoded)
            });
            let residual_energy = Some(residual_energy(levels, row_gain, &decoded, &reference));
            Ok(Without { key, residual_energy, ..Without::default() })
        }
    }
}

/// Energy of the residuals over that of the levels; 0 if there is none.
fn residual_energy(levels: &Levels, row_gain: &[i16], decoded: &[i32], reference: &[i32]) -> f64 {
    let row_len = levels.row_len().max(1);
    let square = |level: i32| f64::from(level) * f64::from(level);
    let mut sums = (0.0, 0.0);
    for (row, decoded) in decoded.chunks(row_len).enumerate() {
        let gain = row_gain.get(row).map_or(levels.gain, |&gain| gain.into());
        let reference = reference.get(row * row_len..).unwrap_or_default().iter().copied();
        for (&level, reference) in decoded.iter().zip(reference.chain(std::iter::repeat(0))) {
            sums.0 += square(level - prediction(reference, gain));
            sums.1 += square(level);
        }
    }
    if sums.1 > 0.0 { sums.0 / sums.1 } else { 0.0 }
}
