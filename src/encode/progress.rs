//! What goes on and how far it is, and how much of it goes on at once.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::error::Result;

/// What the encoder begins, and how far it is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// What is being done, in a few words.
    pub stage: &'static str,
    /// The part of the stage that is done, 0 to 1.
    pub done: f64,
    /// The name of what it is done to now, if that is one tensor.
    pub tensor: Option<&'a str>,
}

/// The stage that comes first.
pub const READING: &str = "reading";

/// Counts what of a stage has begun, from any thread: elements, or bytes.
pub struct Counter {
    stage: &'static str,
    begun: AtomicU64,
    total: u64,
}

impl Counter {
    /// Of a stage that is `total` long.
    pub fn new(stage: &'static str, total: u64) -> Self {
        Counter { stage, begun: AtomicU64::new(0), total }
    }

    /// So much more begins: what began before counts as done, and all of it if some comes again.
    pub fn begin<'a>(&self, tensor: Option<&'a str>, len: u64) -> Progress<'a> {
        let before = self.begun.fetch_add(len, Ordering::Relaxed);
        Progress { stage: self.stage, done: (before as f64 / self.total.max(1) as f64).min(1.0), tensor }
    }
}

/// Elements that are worked on at once, or one tensor's if it has more.
const ELEMENTS_AT_ONCE: usize = 1 << 25;

/// What `work` makes of all items, in their order: on all threads, but of few enough at once for their elements to fit in memory.
///
/// # Errors
/// The first error of `work`.
pub fn map_in_parts<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    elements: impl Fn(&T) -> usize,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let mut items = items.into_iter().peekable();
    let mut results = Vec::new();
    while let Some(first) = items.next() {
        let mut sum = elements(&first);
        let mut part = vec![first];
        while let Some(next) = items.next_if(|next| sum + elements(next) <= ELEMENTS_AT_ONCE) {
            sum += elements(&next);
            part.push(next);
        }
        results.extend(part.into_par_iter().map(&work).collect::<Result<Vec<R>>>()?);
    }
    Ok(results)
}
