// Samples -> the two numbers that are reported.

/** The middle sample: what one run usually takes on a machine that others use too. */
export function median(samples) {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** Millions of elements a second, and seconds a run, from milliseconds a run. */
export function rates(elements, samplesMs) {
  const rate = (ms) => elements / ms / 1000;
  return { median: rate(median(samplesMs)), best: rate(Math.min(...samplesMs)), samplesMs };
}

export function round(value, digits) {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
