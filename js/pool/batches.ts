// Steps -> batches of them, each of which is one message, or one upload.
import type { Chunks } from '../chunks.js';
import type { Step } from '../steps.js';

/** Payload bytes of a batch: enough to hide the messages, little enough to come and go in a download. */
const BATCH_BYTES = 1 << 20;

/** Cuts steps into batches, each with a flag for the last. */
export function* batchesOf(steps: Iterable<Step>, chunks: Chunks): Generator<[Step[], boolean]> {
  let batch: Step[] = [];
  let bytes = 0;
  for (const step of steps) {
    const stepBytes = step.chunk < 0 ? 0 : chunks.place(step.chunk).bytes;
    if (batch.length > 0 && bytes + stepBytes > BATCH_BYTES) {
      yield [batch, false];
      batch = [];
      bytes = 0;
    }
    batch.push(step);
    bytes += stepBytes;
  }
  yield [batch, true];
}
