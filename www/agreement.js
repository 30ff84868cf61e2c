// Two lists of recognized lines -> which lines belong together, and where their characters differ.

/**
 * @typedef {import('./ocr/boxes.js').Box & import('./ocr/recognize.js').Reading} Line
 * @typedef {{text: string, same: boolean}} Run  consecutive characters that are, or are not, in the other text
 * @typedef {object} Pair
 * @property {Line} [archive]
 * @property {Line} [original]
 * @property {Run[]} archiveRuns
 * @property {Run[]} originalRuns
 * @property {number} characters length of the longer text
 * @property {number} agreeing characters less the edit distance
 */

/** Boxes that share less than this of their union are different lines. */
const MIN_OVERLAP = 0.3;

/**
 * @param {Line[]} archive
 * @param {Line[]} original
 * @returns {{pairs: Pair[], characters: number, agreeing: number}} pairs in the original's reading order
 */
export function compareLines(archive, original) {
  const unmatched = new Set(archive);
  const pairs = original.map((line) => {
    const partner = bestOverlap(line, unmatched);
    unmatched.delete(partner);
    return pair(partner, line);
  });
  pairs.push(...[...unmatched].map((line) => pair(line, undefined)));
  const sum = (key) => pairs.reduce((total, entry) => total + entry[key], 0);
  return { pairs, characters: sum('characters'), agreeing: sum('agreeing') };
}

function pair(archive, original) {
  const a = [...(archive?.text ?? '')];
  const b = [...(original?.text ?? '')];
  const { distance, archiveSame, originalSame } = align(a, b);
  const characters = Math.max(a.length, b.length);
  return {
    archive,
    original,
    archiveRuns: runs(a, archiveSame),
    originalRuns: runs(b, originalSame),
    characters,
    agreeing: characters - distance,
  };
}

/** Levenshtein distance, and which characters one cheapest edit keeps. */
function align(a, b) {
  const width = b.length + 1;
  const cost = new Uint32Array((a.length + 1) * width);
  for (let j = 0; j < width; j++) cost[j] = j;
  for (let i = 1; i <= a.length; i++) {
    cost[i * width] = i;
    for (let j = 1; j < width; j++) {
      const at = i * width + j;
      const replaced = cost[at - width - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      cost[at] = Math.min(replaced, cost[at - width] + 1, cost[at - 1] + 1);
    }
  }
  const archiveSame = new Array(a.length).fill(false);
  const originalSame = new Array(b.length).fill(false);
  for (let i = a.length, j = b.length; i > 0 && j > 0; ) {
    const at = i * width + j;
    const equal = a[i - 1] === b[j - 1];
    if (cost[at] === cost[at - width - 1] + (equal ? 0 : 1)) {
      i--;
      j--;
      archiveSame[i] = originalSame[j] = equal;
    } else if (cost[at] === cost[at - width] + 1) i--;
    else j--;
  }
  return { distance: cost.at(-1), archiveSame, originalSame };
}

function runs(characters, same) {
  const found = [];
  characters.forEach((character, i) => {
    if (found.at(-1)?.same === same[i]) found.at(-1).text += character;
    else found.push({ text: character, same: same[i] });
  });
  return found;
}

function bestOverlap(line, candidates) {
  let [best, bestOverlap] = [undefined, MIN_OVERLAP];
  for (const candidate of candidates) {
    const shared = overlap(bounds(line), bounds(candidate));
    if (shared >= bestOverlap) [best, bestOverlap] = [candidate, shared];
  }
  return best;
}

function bounds({ points }) {
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  return { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys) };
}

/** Intersection over union of two upright rectangles. */
function overlap(a, b) {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (width <= 0 || height <= 0) return 0;
  const area = ({ left, top, right, bottom }) => (right - left) * (bottom - top);
  const shared = width * height;
  return shared / (area(a) + area(b) - shared);
}
