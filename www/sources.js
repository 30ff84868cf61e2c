// What the page downloads, relative to the page. The list of models says how long each file is, and which version.

export const DETECTOR = 'ch_PP-OCRv4_det_infer.onnx';
export const RECOGNIZER = 'ch_PP-OCRv4_rec_infer.onnx';
export const MODELS = 'models/models.json';
export const KEYS = 'models/ppocr_keys_v1.txt';
/** The two networks without their weights: zeros, to run everything once before anything is timed. */
export const WARM_UP = 'models/warm-up.mcwc';

/** @param {Models} models @returns {Record<'archive' | 'original', number>} bytes of all files of each */
export function sizesOf(models) {
  const sum = (files) => files.reduce((total, { bytes }) => total + bytes, 0);
  return { archive: sum(models.archive), original: sum(models.original) };
}

/**
 * @typedef {{path: string, bytes: number, version: string}} ModelFile  `version`: an archive's integrity value, or a hash
 * @typedef {Record<'archive' | 'original', ModelFile[]>} Models
 */
