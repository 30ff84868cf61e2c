//! What is known of a model -> what errors of each tensor cost its outputs.

pub mod importance;
pub mod statistics;
