// Image and text box -> text: straightens the box into a 48-pixel strip, runs the PP-OCR recognition network on it
// and decodes its CTC output.
import { Tensor } from 'onnxruntime-web/wasm';
import { RECOGNITION, toPlanes } from './planes.js';

export const STRIP_HEIGHT = 48;
const MIN_WIDTH = 320;
const MAX_WIDTH = 3200;

/** @typedef {{text: string, confidence: number}} Reading */

/**
 * The network's classes: the CTC blank, the key file's characters, a space.
 * @param {string} keys one character a line
 */
export function parseKeys(keys) {
  return ['', ...keys.replace(/\r?\n$/, '').split(/\r?\n/), ' '];
}

/**
 * @param {import('onnxruntime-web').InferenceSession} session
 * @param {ImageBitmap} image
 * @param {import('./boxes.js').Box} box
 * @param {string[]} classes
 * @returns {Promise<Reading>}
 */
export async function recognize(session, image, box, classes) {
  const strip = straighten(image, box.points);
  const width = Math.max(MIN_WIDTH, strip.width);
  const { data, dims } = await classScores(session, toPlanes(strip, RECOGNITION, width), width);
  return decodeCtc(data, dims[1], dims[2], classes);
}

/** @param {Float32Array} planes three colour planes of STRIP_HEIGHT rows */
export async function classScores(session, planes, width) {
  const input = new Tensor('float32', planes, [1, 3, STRIP_HEIGHT, width]);
  return (await session.run({ [session.inputNames[0]]: input }))[session.outputNames[0]];
}

/** @returns {ImageData} the box's content, turned upright and scaled to the strip height */
function straighten(image, [tl, tr, br, bl]) {
  let length = Math.max(distance(tl, tr), distance(bl, br));
  let thickness = Math.max(distance(tl, bl), distance(tr, br));
  let [origin, along, across] = [tl, tr, bl];
  // Tall boxes hold a line turned by a quarter; PP-OCR reads their right side as its top.
  if (thickness >= 1.5 * length) {
    [length, thickness] = [thickness, length];
    [origin, along, across] = [tr, br, tl];
  }
  const height = STRIP_HEIGHT;
  const width = Math.min(MAX_WIDTH, Math.max(1, Math.ceil((height * length) / Math.max(1, thickness))));
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  const u = [(along[0] - origin[0]) / width, (along[1] - origin[1]) / width];
  const v = [(across[0] - origin[0]) / height, (across[1] - origin[1]) / height];
  context.setTransform(new DOMMatrix([u[0], u[1], v[0], v[1], origin[0], origin[1]]).inverse());
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** Best path: the top class of every step, repeats merged, blanks dropped. @returns {Reading} */
function decodeCtc(scores, steps, classCount, classes) {
  let [text, sum, count, previous] = ['', 0, 0, 0];
  for (let step = 0; step < steps; step++) {
    const row = step * classCount;
    let best = 0;
    for (let c = 1; c < classCount; c++) if (scores[row + c] > scores[row + best]) best = c;
    if (best !== 0 && best !== previous) {
      text += classes[best] ?? '';
      sum += scores[row + best];
      count++;
    }
    previous = best;
  }
  return { text: text.trim(), confidence: count > 0 ? sum / count : 0 };
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
