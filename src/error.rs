//! What can go wrong, split by what the caller can do about it.

use std::borrow::Cow;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that this crate reports. `field` is always the name that FORMAT.md uses.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes end early: feed at least `needed` bytes in all.
    #[error("incomplete: {needed} bytes are needed")]
    Incomplete {
        /// Total number of bytes, from the start of what was given, that the next attempt needs.
        needed: u64,
    },
    /// The bytes break a rule of the format.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// Which rule it breaks, with the offending value where there is one.
        reason: Cow<'static, str>,
    },
    /// The bytes are well formed but ask for something that this version cannot do.
    #[error("unsupported {field}: {value}")]
    Unsupported {
        /// The field at fault.
        field: &'static str,
        /// What it asked for.
        value: Cow<'static, str>,
    },
    /// A size that is legal but larger than [`Limits`](crate::tensor::Limits) allow.
    #[error("{field} is {value}, above the limit of {limit}")]
    LimitExceeded {
        /// The size at fault.
        field: Cow<'static, str>,
        /// What it asked for.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Bytes that do not hash to what the archive promised.
    #[error("checksum mismatch in {what}: the bytes are damaged")]
    Checksum {
        /// The header, or which chunk.
        what: Cow<'static, str>,
    },
    /// The caller asked for something that does not exist or makes no sense.
    #[error("{0}")]
    Argument(Cow<'static, str>),
    /// The GPU is missing, was lost, or refused.
    #[error("GPU: {0}")]
    Gpu(Cow<'static, str>),
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file, as the caller named it.
        path: String,
        /// The operating system's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// A stable word for each kind, the `code` of the JavaScript error.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Incomplete { .. } => "incomplete",
            Error::Invalid { .. } => "invalid",
            Error::Unsupported { .. } => "unsupported",
            Error::LimitExceeded { .. } => "limit-exceeded",
            Error::Checksum { .. } => "checksum",
            Error::Argument(_) => "argument",
            Error::Gpu(_) => "gpu",
            Error::Io { .. } => "io",
        }
    }

    /// An [`Error::Invalid`].
    pub fn invalid(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Error::Invalid { field, reason: reason.into() }
    }

    /// An [`Error::Unsupported`].
    pub fn unsupported(field: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        Error::Unsupported { field, value: value.into() }
    }

    /// The same, met in this file, frame, tensor or chunk. What the bytes have nothing to do with stays as it is.
    ///
    /// ```
    /// let error = mcwc::Error::invalid("state", "below 2^16").within("chunk 3 of tensor w");
    /// assert_eq!(error.to_string(), "invalid state: below 2^16 (chunk 3 of tensor w)");
    /// ```
    pub fn within(self, part: &str) -> Self {
        let with = |text: Cow<str>| Cow::from(format!("{text} ({part})"));
        match self {
            Error::Invalid { field, reason } => Error::Invalid { field, reason: with(reason) },
            Error::Unsupported { field, value } => Error::Unsupported { field, value: with(value) },
            Error::LimitExceeded { field, value, limit } => Error::LimitExceeded { field: with(field), value, limit },
            other => other,
        }
    }

    /// The same, met where `rest` is what is left of `bytes`.
    #[cold]
    pub(crate) fn at(self, bytes: &[u8], rest: &[u8]) -> Self {
        self.within(&format!("byte {}", bytes.len().saturating_sub(rest.len())))
    }

    /// An [`Error::LimitExceeded`].
    pub fn limit_exceeded(field: &'static str, value: u64, limit: u64) -> Self {
        Error::LimitExceeded { field: field.into(), value, limit }
    }

    /// An [`Error::Argument`].
    pub fn argument(reason: impl Into<Cow<'static, str>>) -> Self {
        Error::Argument(reason.into())
    }
}
