//! The exact inverse pairs between entropy coding and weights, each beside the WGSL twin of its inverse.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod permute;
pub mod planes;
pub mod predict;
pub mod quantize;
pub mod transform;
pub mod trellis;
