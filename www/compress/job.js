// A model and a quality -> an archive, and what else there is to know of it, each from a worker of its own.
import { encode } from 'mcwc/encoder';
import { isOnnx } from './files.js';

/**
 * @typedef {import('./files.js').Model} Model
 * @typedef {{archive: Blob, report: import('mcwc/encoder').EncodeReport, ms: number}} Encoded
 */

/**
 * @param {Model} model
 * @param {import('mcwc/encoder').EncodeOptions} options
 * @returns {Promise<Encoded>}
 */
export async function encodeModel({ files }, options) {
  const start = performance.now();
  const { archive, report } = await encode(files, options);
  return { archive, report, ms: performance.now() - start };
}

/**
 * What the weights of ONNX models matter for, measured on random inputs; a model of which that cannot be told is named with the reason.
 * @param {Model} model
 * @param {AbortSignal} signal
 * @param {(progress: import('mcwc/encoder').EncodeProgress) => void} onProgress
 * @returns {Promise<import('./calibrate-worker.js').Calibrated>}
 */
export function calibrate({ files }, signal, onProgress) {
  const worker = new Worker(new URL('./calibrate-worker.js', import.meta.url), { type: 'module' });
  const models = files.map(({ name }) => name).filter(isOnnx);
  return answer(worker, { models, files }, { signal, onProgress });
}

/**
 * Bytes of all files under gzip, each by itself, as a server would send them.
 * @param {Model} model
 * @param {AbortSignal} signal
 * @param {(read: number, written: number) => void} onProgress
 * @returns {Promise<number>}
 */
export function gzippedBytes({ files }, signal, onProgress) {
  const worker = new Worker(new URL('./gzip-worker.js', import.meta.url), { type: 'module' });
  return answer(worker, { files: files.map(({ data }) => data) }, { signal, onProgress });
}

/**
 * Decodes an archive and compares it with what it was made of.
 * @param {Encoded} encoded
 * @param {Model} model
 * @param {AbortSignal} signal
 * @returns {Promise<import('./verify-worker.js').Verified>}
 */
export function verify({ archive, report }, { files }, signal) {
  const worker = new Worker(new URL('./verify-worker.js', import.meta.url), { type: 'module' });
  return answer(worker, { archive, files, coded: report.tensors }, { signal });
}

/** What a worker posts last, as `{ result }` or `{ error }`; before that, it may post `{ progress }`. It ends then. */
async function answer(worker, request, { signal, onProgress }) {
  let onAbort;
  try {
    return await new Promise((resolve, reject) => {
      onAbort = () => reject(signal.reason);
      signal.throwIfAborted();
      signal.addEventListener('abort', onAbort);
      worker.onerror = (event) => reject(new Error(event.message || 'a worker could not be started'));
      worker.onmessage = ({ data: { progress, result, error } }) => {
        if (progress) onProgress(...progress);
        else if (error) reject(Object.assign(new Error(error.message), { code: error.code }));
        else resolve(result);
      };
      worker.postMessage(request);
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
    worker.terminate();
  }
}
