//! Units of a model -> the order in which they resemble their references.

pub mod alignment;
pub mod arranged;
pub mod matching;
pub mod symmetry;
