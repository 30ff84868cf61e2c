// Numbers -> the words the page shows.

/** @param {number} bytes */
export function formatBytes(bytes) {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(0)} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e8 ? 2 : 0)} MB`;
}

/** @param {number} ms */
export function formatMs(ms) {
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** "4.2×", or "1.25×" where one digit would hide the difference. @param {number} ratio */
export function formatRatio(ratio) {
  return `${ratio.toFixed(ratio < 2 ? 2 : 1)}×`;
}

/** Never rounds up to 100 %. @param {number} part @param {number} whole */
export function formatShare(part, whole) {
  if (part === whole) return '100 %';
  return `${(Math.floor((part / whole) * 1000) / 10).toFixed(1)} %`;
}
