// Numbers that only this page shows -> words.
import { formatBytes } from '../format.js';

/** As `formatBytes`, also of a few bytes. @param {number} bytes */
export function formatSize(bytes) {
  return bytes < 1000 ? `${bytes} B` : formatBytes(bytes);
}

/** @param {number} error relative */
export function formatError(error) {
  if (error === 0) return 'exact';
  const percent = 100 * error;
  return `${percent < 10 ? percent.toPrecision(2) : percent.toFixed(0)} %`;
}

/** Rounded as far as an estimate is good for. @param {number} ms */
export function formatLeft(ms) {
  const seconds = ms / 1000;
  if (seconds < 10) return `about ${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 57.5) return `about ${5 * Math.round(seconds / 5)} s`;
  return `about ${Math.round(seconds / 60)} min`;
}

/** @param {number} count */
export function formatCount(count) {
  if (count < 1e6) return count.toLocaleString('en');
  return `${(count / 1e6).toFixed(count < 1e8 ? 2 : 0)} million`;
}
