//! The exact inverse pairs between entropy coding and weights, each beside the WGSL twin of its inverse.

pub mod pack;
pub mod permute;
pub mod planes;
pub mod predict;
pub mod quantize;
pub mod transform;
pub mod trellis;
