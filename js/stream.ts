// Portions of bytes -> a stream of them.
import type { ByteArray } from './types.js';

/** A portion is done with when the next is asked for, and its memory then free: readers that bring their own are given no other. */
export function streamOf(portions: AsyncIterator<ByteArray, void>): ReadableStream<ByteArray> {
  let rest: ByteArray = new Uint8Array();
  const pull = async (controller: ReadableByteStreamController) => {
    if (rest.length === 0) rest = (await portions.next()).value ?? rest;
    const { byobRequest: request } = controller;
    const view = request?.view;
    if (rest.length === 0) {
      controller.close();
      // A reader that brought its own memory waits for an answer even at the end.
      request?.respond(0);
    } else if (view) {
      const bytes = Math.min(view.byteLength, rest.length);
      new Uint8Array(view.buffer, view.byteOffset, bytes).set(rest.subarray(0, bytes));
      rest = rest.subarray(bytes);
      request.respond(bytes);
    } else {
      controller.enqueue(rest);
      rest = new Uint8Array();
    }
  };
  return new ReadableStream({ type: 'bytes', pull }, { highWaterMark: 0 });
}
