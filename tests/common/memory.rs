//! The memory that a thread holds, counted. A test that uses it has this allocator.

#![allow(dead_code, reason = "each test uses some of this")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's memory, counted by thread.
struct Counted;

fn count(taken: usize, given: usize) {
    let held = HELD.get().wrapping_add(taken).saturating_sub(given);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

#[expect(unsafe_code, reason = "memory is counted where it is taken")]
// SAFETY: all is left to the system's allocator, as it comes.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new memory may exist side by side.
        count(size, 0);
        let moved = unsafe { System.realloc(memory, layout, size) };
        count(0, layout.size());
        moved
    }
}

#[global_allocator]
static COUNTED: Counted = Counted;

/// What `read` gives, and the most memory that it has held.
pub fn with_peak<T>(read: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let read = read();
    (read, PEAK.get() - before)
}
