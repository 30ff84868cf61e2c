// One of the demo's pictures -> what its two networks see of it, as samples for `mcwc calibrate`. The other pictures stay unseen.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { DETECTION, RECOGNITION, toPlanes } from '../www/ocr/planes.js';
import { ROOT } from './tools.mjs';

export const PICTURE = join(ROOT, 'www/samples/book.webp');
/** Half of what the page reads, which shows as much of the weights in a quarter of the time. */
const PAGE = { width: 480, height: 384 };
const STRIP = { width: 320, height: 48 };
/** Of some of its lines. */
const LINES = [
  { left: 271, top: 128, width: 515, height: 52 },
  { left: 328, top: 209, width: 396, height: 38 },
  { left: 151, top: 479, width: 625, height: 42 },
];

/** @returns {Promise<{detector: string, recognizer: string}>} the folders, in this one */
export async function writeSamples(folder) {
  const [detector, recognizer] = ['detector', 'recognizer'].map((name) => join(folder, name));
  rmSync(folder, { recursive: true, force: true });
  for (const each of [detector, recognizer]) mkdirSync(each, { recursive: true });
  writeFileSync(join(detector, 'page.npy'), npy(await planes(sharp(PICTURE).resize({ ...PAGE, fit: 'fill' }), PAGE, DETECTION)));
  for (const [index, line] of LINES.entries()) {
    const cut = sharp(PICTURE).extract(line).resize({ height: STRIP.height });
    const strip = cut.resize({ ...STRIP, fit: 'cover', position: 'left' });
    writeFileSync(join(recognizer, `line-${index}.npy`), npy(await planes(strip, STRIP, RECOGNITION)));
  }
  return { detector, recognizer };
}

async function planes(picture, { width, height }, normalization) {
  const data = await picture.ensureAlpha().raw().toBuffer();
  return { shape: [1, 3, height, width], values: toPlanes({ data, width, height }, normalization) };
}

/** NumPy's file of one array. */
function npy({ shape, values }) {
  const described = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(', ')}), }`;
  const header = Buffer.from(`\x93NUMPY\x01\x00\0\0${described}`.padEnd(127) + '\n', 'latin1');
  header.writeUInt16LE(header.length - 10, 8);
  return Buffer.concat([header, Buffer.from(values.buffer)]);
}
