#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod container;
#[doc(hidden)]
pub mod decode;
#[cfg(feature = "encoder")]
pub mod encode;
#[doc(hidden)]
pub mod entropy;
#[doc(hidden)]
pub mod error;
mod fields;
#[doc(hidden)]
pub mod format;
#[cfg(feature = "encoder")]
pub mod formats;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(all(test, feature = "encoder"))]
mod noise;
#[doc(hidden)]
pub mod reconstruct;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod stages;
#[doc(hidden)]
pub mod tensor;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod web;

pub use container::Archive;
pub use decode::Reader;
#[cfg(feature = "encoder")]
pub use encode::{Options, Report, Statistics, Target, encode, encode_to_vec};
pub use error::{Error, Result};
#[cfg(feature = "encoder")]
pub use formats::{SourceFile, companions, find_tensors};
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub use source::FileSource;
pub use source::Source;
pub use tensor::{Axes, DType, Limits, Shape, TensorLocation};
