//! Levels -> bytes of tensors on a GPU: the contract of [`reconstruct`](crate::reconstruct) for whole frames of levels.
//!
//! The CPU entropy-decodes and packs levels ([`stages::pack`](crate::stages::pack)); the GPU un-permutes, scales and casts
//! them with the WGSL twins of the stages. All but one multiplication is integer arithmetic, so that a GPU differs from
//! the CPU by one unit in the last place at most. Frames that a device cannot take are refused as `Unsupported`, and the
//! caller turns to the CPU.

#[cfg(target_arch = "wasm32")]
mod browser;
mod device;
mod error;
mod frame;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod navigator;
mod reconstructor;
mod self_test;
mod shader;

pub use device::Device;
pub use frame::LevelFrame;
pub use reconstructor::{Reconstruction, Reconstructor};
pub use shader::{SHADER, WORKGROUP_LEN};
