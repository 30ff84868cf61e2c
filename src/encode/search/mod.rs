//! The search for a step, and the levels that it leads to.

pub mod attempt;
pub mod key_rate;
pub mod refinement;
pub mod step;
