//! Everything that loses nothing: bytes -> planes and copies, 8-bit integers -> levels.

pub mod adaptive;
pub mod copies;
pub mod frame;
pub mod planes;
pub mod tables;
