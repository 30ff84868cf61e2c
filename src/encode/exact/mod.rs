//! Everything that loses nothing: bytes -> planes and copies.

pub mod adaptive;
pub mod copies;
pub mod frame;
pub mod planes;
pub mod tables;
