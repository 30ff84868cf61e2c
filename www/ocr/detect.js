// Image -> text boxes: scales the image for the PP-OCR detection network, runs it, and maps its boxes back.
import { Tensor } from 'onnxruntime-web/wasm';
import { findBoxes } from './boxes.js';
import { DETECTION, toPlanes } from './planes.js';

const MAX_SIDE = 960;
const MULTIPLE = 32;

/**
 * @param {import('onnxruntime-web').InferenceSession} session
 * @param {ImageBitmap} image
 * @returns {Promise<import('./boxes.js').Box[]>} in image coordinates, in reading order
 */
export async function detect(session, image) {
  const scale = Math.min(1, MAX_SIDE / Math.max(image.width, image.height));
  const width = toMultiple(image.width * scale);
  const height = toMultiple(image.height * scale);
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  const map = await textProbability(session, toPlanes(context.getImageData(0, 0, width, height), DETECTION), width, height);

  const [scaleX, scaleY] = [image.width / width, image.height / height];
  return findBoxes(map, width, height).map(({ points, score }) => ({
    points: points.map(([x, y]) => [clamp(x * scaleX, image.width), clamp(y * scaleY, image.height)]),
    score,
  }));
}

/**
 * @param {Float32Array} planes three colour planes
 * @returns {Promise<Float32Array>} one probability per pixel
 */
export async function textProbability(session, planes, width, height) {
  const input = new Tensor('float32', planes, [1, 3, height, width]);
  const output = (await session.run({ [session.inputNames[0]]: input }))[session.outputNames[0]];
  return output.data;
}

const toMultiple = (side) => Math.max(MULTIPLE, Math.round(side / MULTIPLE) * MULTIPLE);
const clamp = (value, max) => Math.min(Math.max(value, 0), max);
