//! A statistics file -> what is known of each weight: how much the outputs depend on it, and what it is multiplied with.
//!
//! The layout is that of docs/CALIBRATION.md: a safetensors file whose tensors are named `<weight>/<statistic>`.

mod fit;

use std::collections::HashMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::formats::{self, Format, SourceFile, safetensors};
use crate::source::{Source, read_range};
use crate::tensor::{DType, Shape, TensorLocation};

use crate::encode::levels::matrix::Orders;
use crate::encode::levels::moments::Moments;
use crate::encode::levels::weights::to_f32;

pub(crate) use fit::fit;

/// What is known of the weights of a model.
#[derive(Debug, Default)]
pub struct Statistics {
    /// The file that they come from, for messages.
    name: String,
    /// What they were measured on.
    pub inputs: Inputs,
    weights: HashMap<String, WeightStatistics>,
}

/// What a model was measured on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    /// What the model is made for.
    #[default]
    Samples,
    /// Random numbers, which may leave parts of the model idle that real inputs use.
    Random {
        /// How many times the expected error other random inputs gave, if that was checked.
        second_draw: Option<f64>,
    },
}

impl Inputs {
    /// Of several files: random if any is, and checked if all random ones are.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Inputs::Samples, inputs) | (inputs, Inputs::Samples) => inputs,
            (Inputs::Random { second_draw: one }, Inputs::Random { second_draw: other }) => {
                Inputs::Random { second_draw: one.zip(other).map(|(one, other)| one.max(other)) }
            }
        }
    }
}

/// What is known of one weight.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WeightStatistics {
    /// Expected distortion of the outputs for each unit of squared error.
    pub importance: Option<f64>,
    /// Relative importance of each row.
    pub rows: Vec<f32>,
    /// Second moments of the inputs that the columns are multiplied with.
    pub columns: Option<Moments>,
    /// Second moments of the inputs, where they run along the rows.
    pub row_moments: Option<Moments>,
}

/// Least importance of a row by its gradient, compared to the mean.
const ROW_MIN: f32 = 0.1;

const FORMAT: &str = "mcwc-statistics";
const VERSION: &str = "1";

impl WeightStatistics {
    /// Whether rows or columns are told apart.
    pub fn has_parts(&self) -> bool {
        !self.rows.is_empty() || self.has_moments()
    }

    /// What is known of the tensor as a whole.
    pub fn of_tensor(&self) -> Self {
        WeightStatistics { importance: self.importance, ..WeightStatistics::default() }
    }

    /// Whether there are second moments.
    pub fn has_moments(&self) -> bool {
        self.columns.is_some() || self.row_moments.is_some()
    }

    /// The same, of a weight whose rows and columns lie in another order.
    pub fn permuted(&self, [rows, columns]: &Orders) -> Self {
        let moments = |moments: &Option<Moments>, order: &Option<Vec<u32>>| match (moments, order) {
            (Some(moments), Some(order)) => moments.permuted(order),
            _ => moments.clone(),
        };
        let rows_of = |values: &[f32], order: &[u32]| order.iter().map(|&row| values[row as usize]).collect();
        WeightStatistics {
            importance: self.importance,
            rows: match rows {
                Some(order) if self.rows.len() == order.len() => rows_of(&self.rows, order),
                _ => self.rows.clone(),
            },
            columns: moments(&self.columns, columns),
            row_moments: moments(&self.row_moments, rows),
        }
    }
}

impl Statistics {
    /// Parses a statistics file, one tensor after another.
    ///
    /// # Errors
    /// `Invalid` if it is none, naming the tensor at fault; whatever reading it gives.
    pub fn parse(name: &str, source: &dyn Source) -> Result<Self> {
        let invalid = |reason: String| Error::invalid("statistics", format!("{name}: {reason}"));
        if formats::detect(name, source)? != Format::Safetensors {
            return Err(invalid("not a safetensors file".into()));
        }
        let file = SourceFile { name: name.to_string(), source };
        let (tensors, metadata) =
            safetensors::find_with_metadata(&file).map_err(|error| formats::limit_within(error, name))?;
        if metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(invalid(format!("its metadata does not say format = {FORMAT}: is it a model?")));
        }
        if metadata.get("version").map(String::as_str) != Some(VERSION) {
            return Err(invalid("a version that this encoder does not know".into()));
        }
        let inputs = inputs(&metadata).map_err(invalid)?;
        let mut statistics = Statistics { name: name.to_owned(), inputs, weights: HashMap::new() };
        for tensor in &tensors {
            let (weight, statistic) =
                tensor.name.rsplit_once('/').ok_or_else(|| invalid(format!("{:?} names no statistic", tensor.name)))?;
            let bytes = read_range(source, tensor.offset..tensor.offset + tensor.bytes)?;
            let values = finite(tensor, &bytes).map_err(invalid)?;
            let entry = statistics.weights.entry(weight.to_string()).or_default();
            entry.take(statistic, &tensor.shape, values).map_err(|why| invalid(format!("{:?}: {why}", tensor.name)))?;
        }
        if statistics.weights.is_empty() {
            return Err(invalid("it holds no statistics".into()));
        }
        let random = inputs != Inputs::Samples;
        statistics.weights.values_mut().for_each(|weight| weight.temper_rows(random));
        Ok(statistics)
    }
}

impl WeightStatistics {
    fn take(&mut self, statistic: &str, shape: &Shape, values: Vec<f32>) -> std::result::Result<(), String> {
        let negative = values.iter().any(|&value| value < 0.0);
        match (statistic, shape.0.as_slice()) {
            ("importance" | "row_importance", [] | [_]) if negative => return Err("an importance is negative".into()),
            ("importance", [] | [1]) => self.importance = values.first().map(|&value| f64::from(value)),
            ("row_importance", &[len]) if len > 0 => self.rows = values,
            ("column_moments", &[len, width]) if len == width => self.columns = Some(Moments::new(&values)?),
            ("row_moments", &[len, width]) if len == width => self.row_moments = Some(Moments::new(&values)?),
            ("importance" | "row_importance" | "column_moments" | "row_moments", _) => {
                return Err(format!("cannot have the shape {shape}"));
            }
            _ => {} // Written by a later version, for whoever knows it.
        }
        Ok(())
    }

    /// Rows that are looked up matter as often as they are. Importances of other rows come from gradients, which overstate how far
    /// rows are apart once errors are no longer small: their roots did better on every model measured. And a row without
    /// a gradient may have one on other inputs: units that random inputs leave silent speak on real ones.
    fn temper_rows(&mut self, random: bool) {
        let mean = self.rows.iter().sum::<f32>() / self.rows.len() as f32;
        if mean <= 0.0 || mean.is_nan() {
            self.rows.clear();
        } else if random || self.columns.is_some() {
            self.rows.iter_mut().for_each(|row| *row = (*row / mean).max(ROW_MIN).sqrt());
        }
        let mean = self.rows.iter().sum::<f32>() / self.rows.len() as f32;
        self.rows.iter_mut().for_each(|row| *row /= mean);
    }

    fn check(&self, shape: &Shape) -> std::result::Result<(), String> {
        let matrix = crate::encode::levels::matrix::Matrix::of(shape);
        let fits = |what: &str, has: usize, wants: usize| {
            if has == wants { Ok(()) } else { Err(format!("{what} of {has} where {wants} are needed")) }
        };
        if !self.rows.is_empty() {
            fits("row_importance", self.rows.len(), matrix.rows)?;
        }
        if let Some(moments) = &self.columns {
            fits("column_moments", moments.len, matrix.row_len())?;
        }
        if let Some(moments) = &self.row_moments {
            fits("row_moments", moments.len, matrix.rows)?;
        }
        Ok(())
    }
}

fn inputs(metadata: &HashMap<String, String>) -> std::result::Result<Inputs, String> {
    if metadata.get("inputs").map(String::as_str) != Some("random") {
        return Ok(Inputs::Samples);
    }
    let Some(text) = metadata.get("second_draw") else { return Ok(Inputs::Random { second_draw: None }) };
    match text.parse() {
        Ok(ratio) if f64::is_finite(ratio) && ratio >= 0.0 => Ok(Inputs::Random { second_draw: Some(ratio) }),
        _ => Err(format!("its metadata say second_draw = {text:?}, which is no ratio")),
    }
}

fn finite(tensor: &TensorLocation, bytes: &[u8]) -> std::result::Result<Vec<f32>, String> {
    if tensor.dtype != DType::F32 {
        return Err(format!("{:?} is not float32", tensor.name));
    }
    let values = to_f32(bytes, tensor.dtype);
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("{:?} holds {value}", tensor.name)),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_follow_rows_and_columns_and_their_taps() {
        let moments = |len: usize| Moments::from_fn(len, |i, j| (10 * i + j) as f32);
        let statistics = WeightStatistics {
            importance: Some(2.0),
            rows: vec![1.0, 2.0, 3.0],
            columns: Some(moments(4)),
            row_moments: Some(moments(3)),
        };
        let permuted = statistics.permuted(&[Some(vec![2, 0, 1]), Some(vec![1, 0])]);
        assert_eq!(permuted.rows, [3.0, 1.0, 2.0]);
        // Two inputs of two taps: 2 3 0 1.
        let row = |moments: Moments, i: usize| (0..moments.len).map(|j| moments.get(i, j)).collect::<Vec<_>>();
        assert_eq!(row(permuted.columns.unwrap(), 1), [32.0, 33.0, 30.0, 31.0]);
        assert_eq!(row(permuted.row_moments.unwrap(), 0), [22.0, 20.0, 21.0]);
        assert_eq!(statistics.permuted(&[None, None]), statistics);
        assert_eq!(statistics.permuted(&[None, Some(vec![0, 1, 2])]).columns, None);
    }
}
