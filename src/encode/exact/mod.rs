//! Everything that loses nothing: bytes -> planes and copies.

pub mod adaptive;
pub mod computed;
pub mod copies;
pub mod frame;
pub mod planes;
pub mod repeats;
pub mod tables;
