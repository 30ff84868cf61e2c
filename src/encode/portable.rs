//! Logarithms and powers that are the same on every platform, as those of the standard library are not: they decide what is
//! chosen, and an archive is to have the same bytes wherever it is encoded.

/// A float of which they are taken.
pub trait Real {
    fn log2(self) -> Self;
    fn exp2(self) -> Self;
}

impl Real for f32 {
    fn log2(self) -> Self {
        libm::log2f(self)
    }

    fn exp2(self) -> Self {
        libm::exp2f(self)
    }
}

impl Real for f64 {
    fn log2(self) -> Self {
        libm::log2(self)
    }

    fn exp2(self) -> Self {
        libm::exp2(self)
    }
}

pub fn log2<T: Real>(x: T) -> T {
    Real::log2(x)
}

pub fn exp2<T: Real>(x: T) -> T {
    Real::exp2(x)
}

pub use libm::{erf, pow};
