// A model and a quality -> an archive, and what else there is to know of it, each from a worker of its own.
import { isOnnx } from './files.js';

/**
 * @typedef {import('./files.js').Model} Model
 * @typedef {{archive: Blob, report: import('mcwc/encoder').EncodeReport, ms: number}} Encoded
 */

/**
 * @param {Model} model
 * @param {import('mcwc/encoder').EncodeOptions} options what a worker can be sent
 * @param {AbortSignal} signal
 * @param {(progress: import('mcwc/encoder').EncodeProgress) => void} onProgress
 * @returns {Promise<Encoded>}
 */
export async function encodeModel({ files }, options, signal, onProgress) {
  const start = performance.now();
  const worker = new Worker(new URL('./encode-worker.js', import.meta.url), { type: 'module' });
  const tensors = [];
  const { archive, report } = await answer(worker, { files, options }, { signal, onProgress, tensors });
  return { archive, report: { ...report, tensors }, ms: performance.now() - start };
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
 * @param {(done: number) => void} onProgress hears how much of it is done, from 0 to 1
 * @returns {Promise<import('./verify-worker.js').Verified>}
 */
export async function verify({ archive, report }, { files }, signal, onProgress) {
  const worker = new Worker(new URL('./verify-worker.js', import.meta.url), { type: 'module' });
  const [exact, lossy] = [false, true].map((isLossy) => report.tensors.filter(({ lossy }) => lossy === isLossy));
  const request = { archive, files, exact: exact.map(({ name }) => name), lossyShapes: [...new Set(lossy.map(({ shape }) => shape.join()))] };
  const tensors = [];
  const verified = await answer(worker, request, { signal, onProgress, tensors });
  return { ...verified, tensors };
}

/**
 * What a worker posts last, as `{ result }` or `{ error }`. Before that, it may post `{ progress }`, and `{ tensors }`, which are added to
 * those that are given. It ends then.
 */
async function answer(worker, request, { signal, onProgress, tensors }) {
  let onAbort;
  try {
    return await new Promise((resolve, reject) => {
      onAbort = () => reject(signal.reason);
      signal.throwIfAborted();
      signal.addEventListener('abort', onAbort);
      worker.onerror = (event) => reject(new Error(event.message || 'a worker could not be started'));
      worker.onmessage = ({ data: { progress, tensors: some, result, error } }) => {
        if (progress) onProgress(...progress);
        else if (some) tensors.push(...some);
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
