// Payload of a chunk of levels -> the words of its lanes, which a page hands to the GPU as they are, and what surrounds them.

export interface Cut {
  /** Where the words begin in the payload. */
  first: number;
  bytes: number;
  /** The payload without them. */
  rest: Uint8Array;
}

/** The module that takes the rest proves that it is sound; of a payload that is not, there may be no words. */
export function cutWords(payload: Uint8Array): Cut {
  const lanes = 1 << Math.min(payload[0], 8);
  const first = 1 + 2 * lanes;
  let words = 0;
  for (let at = 1; at < first; at += 2) words += payload[at] | (payload[at + 1] << 8);
  const bytes = 2 * words;
  const end = first + bytes;
  if (end > payload.length) return { first: 0, bytes: 0, rest: payload.subarray(0, first) };
  const rest = new Uint8Array(payload.length - bytes);
  rest.set(payload.subarray(0, first));
  rest.set(payload.subarray(end), first);
  return { first, bytes, rest };
}
