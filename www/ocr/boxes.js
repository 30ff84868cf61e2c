// Text probability map -> rotated text boxes: the DB postprocess of PP-OCR (threshold, connected components,
// minimum-area rectangle, score, unclip). Pure arithmetic, no DOM.

/** @typedef {[number, number]} Point */
/** @typedef {{points: [Point, Point, Point, Point], score: number}} Box  corners clockwise from the top left */

const THRESHOLD = 0.3;
const MIN_SCORE = 0.6;
const UNCLIP_RATIO = 1.5;
const MIN_SIDE = 3;

/**
 * @param {Float32Array} map text probability per pixel, row by row
 * @param {number} width
 * @param {number} height
 * @returns {Box[]} in map coordinates, in reading order
 */
export function findBoxes(map, width, height) {
  const boxes = [];
  for (const outline of componentOutlines(map, width, height)) {
    const rect = minAreaRect(convexHull(outline));
    if (Math.min(rect.width, rect.height) < MIN_SIDE) continue;
    const score = meanInside(map, width, height, corners(rect));
    if (score < MIN_SCORE) continue;
    const grown = unclip(rect);
    if (Math.min(grown.width, grown.height) < MIN_SIDE + 2) continue;
    boxes.push({ points: fromTopLeft(corners(grown)), score });
  }
  return readingOrder(boxes);
}

/**
 * The corners of the leftmost and rightmost pixel of every row of each 8-connected component: all its convex hull
 * needs. Pixel (x, y) is the square from (x, y) to (x + 1, y + 1).
 * @returns {Point[][]}
 */
function componentOutlines(map, width, height) {
  const seen = new Uint8Array(width * height);
  const stack = [];
  const outlines = [];
  for (let start = 0; start < map.length; start++) {
    if (seen[start] || map[start] <= THRESHOLD) continue;
    const rows = new Map();
    seen[start] = 1;
    stack.push(start);
    while (stack.length > 0) {
      const at = stack.pop();
      const x = at % width;
      const y = (at - x) / width;
      const row = rows.get(y);
      if (row === undefined) rows.set(y, [x, x]);
      else if (x < row[0]) row[0] = x;
      else if (x > row[1]) row[1] = x;
      for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny++) {
        for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx++) {
          const next = ny * width + nx;
          if (seen[next] || map[next] <= THRESHOLD) continue;
          seen[next] = 1;
          stack.push(next);
        }
      }
    }
    outlines.push([...rows].flatMap(([y, [left, right]]) => [[left, y], [left, y + 1], [right + 1, y], [right + 1, y + 1]]));
  }
  return outlines;
}

/** Andrew's monotone chain. @param {Point[]} points @returns {Point[]} */
function convexHull(points) {
  const sorted = points.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]);
  const half = (ordered) => {
    const chain = [];
    for (const p of ordered) {
      while (chain.length >= 2 && turn(chain.at(-2), chain.at(-1), p) <= 0) chain.pop();
      chain.push(p);
    }
    chain.pop();
    return chain;
  };
  return [...half(sorted), ...half(sorted.toReversed())];
}

const turn = (a, b, c) => (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);

/** One side of a minimum-area rectangle always lies on a hull edge. */
function minAreaRect(hull) {
  let best;
  for (let i = 0; i < hull.length; i++) {
    const [x0, y0] = hull[i];
    const [x1, y1] = hull[(i + 1) % hull.length];
    const length = Math.hypot(x1 - x0, y1 - y0);
    const axis = length > 0 ? [(x1 - x0) / length, (y1 - y0) / length] : [1, 0];
    let [minU, maxU, minV, maxV] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [x, y] of hull) {
      const u = x * axis[0] + y * axis[1];
      const v = y * axis[0] - x * axis[1];
      minU = Math.min(minU, u);
      maxU = Math.max(maxU, u);
      minV = Math.min(minV, v);
      maxV = Math.max(maxV, v);
    }
    const area = (maxU - minU) * (maxV - minV);
    if (best !== undefined && area >= best.area) continue;
    const [u, v] = [(minU + maxU) / 2, (minV + maxV) / 2];
    best = {
      area,
      axis,
      x: u * axis[0] - v * axis[1],
      y: u * axis[1] + v * axis[0],
      width: maxU - minU,
      height: maxV - minV,
    };
  }
  return best ?? { area: 0, axis: [1, 0], x: 0, y: 0, width: 0, height: 0 };
}

function corners({ x, y, width, height, axis: [c, s] }) {
  return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) => [
    x + (u * width * c - v * height * s) / 2,
    y + (u * width * s + v * height * c) / 2,
  ]);
}

/** The training labels are shrunk by area * (1 - r^2) / perimeter; DB grows the box back by area * ratio / perimeter. */
function unclip(rect) {
  const distance = (rect.width * rect.height * UNCLIP_RATIO) / (2 * (rect.width + rect.height));
  return { ...rect, width: rect.width + 2 * distance, height: rect.height + 2 * distance };
}

/** Mean probability over the pixels whose centres lie in a convex quadrilateral. */
function meanInside(map, width, height, quad) {
  const [xs, ys] = [quad.map((p) => p[0]), quad.map((p) => p[1])];
  const left = Math.max(0, Math.floor(Math.min(...xs)));
  const right = Math.min(width - 1, Math.ceil(Math.max(...xs)));
  const top = Math.max(0, Math.floor(Math.min(...ys)));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(...ys)));
  let [sum, count] = [0, 0];
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      if (!quad.every((p, i) => turn(p, quad[(i + 1) % 4], [x + 0.5, y + 0.5]) >= 0)) continue;
      sum += map[y * width + x];
      count++;
    }
  }
  return count > 0 ? sum / count : 0;
}

/** Text is taken as upright within 45 degrees, so of the two leftmost corners the upper one starts the line. */
function fromTopLeft(points) {
  const byX = points.toSorted((a, b) => a[0] - b[0]);
  const [topLeft, bottomLeft] = byX.slice(0, 2).sort((a, b) => a[1] - b[1]);
  const [topRight, bottomRight] = byX.slice(2).sort((a, b) => a[1] - b[1]);
  return [topLeft, topRight, bottomRight, bottomLeft];
}

/**
 * Top to bottom, and left to right within a row. Rows are judged along the page's own slant (the median slope of
 * the long boxes), or the right end of a tilted row would be read before its left end.
 * @param {Box[]} boxes
 */
function readingOrder(boxes) {
  const slopes = boxes
    .filter(({ points: [tl, tr, , bl] }) => distance(tl, tr) > 2 * distance(tl, bl))
    .map(({ points: [tl, tr] }) => Math.atan2(tr[1] - tl[1], tr[0] - tl[0]))
    .sort((a, b) => a - b);
  const slant = slopes[slopes.length >> 1] ?? 0;
  const [c, s] = [Math.cos(slant), Math.sin(slant)];
  const placed = boxes
    .map((box) => {
      const [tl, , br, bl] = box.points;
      const [x, y] = [(tl[0] + br[0]) / 2, (tl[1] + br[1]) / 2];
      return { box, u: x * c + y * s, v: y * c - x * s, height: distance(tl, bl) };
    })
    .sort((a, b) => a.v - b.v);
  const rows = [];
  for (const item of placed) {
    const row = rows.at(-1);
    if (row !== undefined && item.v - row[0].v < Math.min(item.height, row[0].height) / 2) row.push(item);
    else rows.push([item]);
  }
  return rows.flatMap((row) => row.sort((a, b) => a.u - b.u).map(({ box }) => box));
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
