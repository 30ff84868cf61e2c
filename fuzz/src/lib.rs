//! The mutation engine of the repository's tests, for programs that run for hours.

#[path = "../../tests/common/mod.rs"]
pub mod common;
#[path = "../../tests/common/memory.rs"]
pub mod memory;
#[path = "../../tests/common/mutation/mod.rs"]
pub mod mutation;

#[cfg(feature = "libfuzzer")]
pub mod libfuzzer;
