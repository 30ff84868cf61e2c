//! Words on their way to a device, a few megabytes at a time: each write has memory of its own, and chunks are short.

use std::num::NonZeroU64;

use super::device::Device;
use super::error::gpu_error;
use crate::error::Result;

/// Bytes that are sent together, a multiple of 4.
const RUN_BYTES: u64 = 4 << 20;

/// Parts that follow one another, but for what fills up multiples of 4.
struct Run<'p> {
    at: u64,
    bytes: u64,
    parts: Vec<&'p [u8]>,
}

/// A run, and the memory that the device takes it from.
pub(super) struct Window<'p> {
    view: wgpu::QueueWriteBufferView,
    parts: Vec<&'p [u8]>,
}

/// What parts of a buffer that begin at multiples of 4 are written through. Up to the next multiple, anything may follow a part.
///
/// # Errors
/// `Gpu` if the device fails; others may be the device's too.
pub(super) fn windows<'p>(
    device: &Device,
    buffer: &wgpu::Buffer,
    parts: impl IntoIterator<Item = (u64, &'p [u8])>,
) -> Result<Vec<Window<'p>>> {
    let window = |Run { at, bytes, parts }| {
        let view = NonZeroU64::new(bytes).and_then(|bytes| device.queue.write_buffer_with(buffer, at, bytes));
        Ok(Window { view: view.ok_or_else(|| gpu_error("the words cannot be written"))?, parts })
    };
    runs(parts).into_iter().map(window).collect()
}

impl Window<'_> {
    /// Sends it; errors are the device's.
    pub fn send(mut self, device: &Device) {
        let mut at = 0;
        for part in self.parts {
            self.view.slice(at..at + part.len()).copy_from_slice(part);
            at += part.len().next_multiple_of(4);
        }
        drop(self.view);
        // It is on its way while others are filled.
        device.queue.submit([]);
    }
}

fn runs<'p>(parts: impl IntoIterator<Item = (u64, &'p [u8])>) -> Vec<Run<'p>> {
    let mut runs: Vec<Run> = Vec::new();
    for (mut at, mut part) in parts {
        while !part.is_empty() {
            let open = runs.pop_if(|last| last.at + last.bytes == at && last.bytes < RUN_BYTES);
            let mut run = open.unwrap_or_else(|| Run { at, bytes: 0, parts: Vec::new() });
            let (now, later) = part.split_at(part.len().min((RUN_BYTES - run.bytes) as usize));
            let bytes = (now.len() as u64).next_multiple_of(4);
            run.parts.push(now);
            run.bytes += bytes;
            runs.push(run);
            (at, part) = (at + bytes, later);
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_all_bytes_in_their_places() {
        let bytes: Vec<u8> = (0..3 * RUN_BYTES + 5).map(|index| (index % 251) as u8).collect();
        let (first, rest) = bytes.split_at(7);
        let (second, third) = rest.split_at(2 * RUN_BYTES as usize);
        // The first two follow one another, the third does not; an empty one adds nothing.
        let at = [8, 16, 16, 2 * RUN_BYTES + 64];
        let runs = runs(at.into_iter().zip([first, &[], second, third]));
        assert_eq!(runs.iter().map(|run| run.at).collect::<Vec<_>>(), [8, RUN_BYTES + 8, 2 * RUN_BYTES + 8, at[3]]);
        let mut written = vec![0; (at[3] as usize + third.len()).next_multiple_of(4)];
        for run in &runs {
            assert!(run.bytes <= RUN_BYTES && run.bytes.is_multiple_of(4));
            let mut place = run.at as usize;
            for part in &run.parts {
                written[place..place + part.len()].copy_from_slice(part);
                place += part.len().next_multiple_of(4);
            }
            assert_eq!(place as u64, run.at + run.bytes);
        }
        for (at, part) in at.into_iter().zip([first, &[], second, third]) {
            assert_eq!(&written[at as usize..][..part.len()], part);
        }
    }
}
