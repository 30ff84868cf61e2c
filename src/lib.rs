#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod container;
pub mod decode;
#[cfg(feature = "encoder")]
pub mod encode;
pub mod entropy;
pub mod error;
#[cfg(feature = "encoder")]
pub mod formats;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(all(test, feature = "encoder"))]
mod noise;
pub mod reconstruct;
pub mod source;
pub mod stages;
pub mod tensor;
#[cfg(target_arch = "wasm32")]
mod web;

pub use error::{Error, Result};
