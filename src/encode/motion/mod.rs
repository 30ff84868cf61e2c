//! Motion compensation: what a tensor may be predicted from, and what that gives.

pub mod candidates;
pub mod predict;
pub mod references;
