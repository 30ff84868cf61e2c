//! How far a stage is, and how much of it goes on at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::error::Result;

/// Counts finished parts of a stage, from any thread.
pub struct Counter {
    done: AtomicUsize,
    total: usize,
}

impl Counter {
    /// None of `total` done.
    pub fn new(total: usize) -> Self {
        Counter { done: AtomicUsize::new(0), total }
    }

    /// One more done; the part done so far, all of it if some is done again.
    pub fn step(&self) -> f64 {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (done as f64 / self.total.max(1) as f64).min(1.0)
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
