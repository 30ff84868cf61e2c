// ONNX models -> what their weights matter for, measured on random inputs by onnxruntime-web, as `npx mcwc encode` measures it.
import * as ort from 'onnxruntime-web/wasm';
import wasmUrl from 'onnxruntime-web/ort-wasm-simd-threaded.wasm?url';
import { calibrateModel, RANDOM_INPUTS } from '../../js/cli/calibration.ts';

/**
 * @typedef {{name: string, bytes: Uint8Array, inputs: number}} Statistics  of a model: a statistics file, and how many inputs it ran on
 * @typedef {{name: string, reason: string}} Failure
 * @typedef {{statistics: Statistics[], failures: Failure[]}} Calibrated
 */

Object.assign(ort.env.wasm, { numThreads: 1, wasmPaths: { wasm: new URL(wasmUrl, import.meta.url).href } });

onmessage = async ({ data: { models, files } }) => {
  const calibrated = { statistics: [], failures: [] };
  for (const [index, name] of models.entries()) {
    const report = (done, tensor) => postMessage({ progress: [{ stage: 'calibrating', done: (index + done) / models.length, tensor }] });
    // What comes before and after the weights are measured takes little of the time.
    const progress = (what, done, total) => what.startsWith('importance') && report(done / total, what.split('importance of ')[1]);
    const options = { count: RANDOM_INPUTS, shapes: new Map(), distortion: 'relative', seed: 0, progress };
    try {
      const { bytes, feeds } = await calibrateModel(new BlobFile(name, files), ort, options);
      calibrated.statistics.push({ name, bytes, inputs: feeds });
    } catch (error) {
      // A model can be compressed all the same.
      calibrated.failures.push({ name, reason: error.message ?? String(error) });
    }
  }
  postMessage({ result: calibrated });
};

/** As calibration reads models. */
class BlobFile {
  #files;

  /** @param {string} path @param {import('./files.js').ModelFile[]} files */
  constructor(path, files) {
    this.path = path;
    this.#files = files;
  }

  read() {
    return bytesOf(this.#blob(this.path));
  }

  readBeside(location, offset, length) {
    const blob = this.#blob(this.path.slice(0, this.path.lastIndexOf('/') + 1) + location);
    if (offset + length > blob.size) throw new Error(`${location} is too short`);
    return bytesOf(blob.slice(offset, offset + length));
  }

  #blob(path) {
    const file = this.#files.find(({ name }) => name === path);
    if (!file) throw new Error(`its data file ${path} is missing`);
    return file.data;
  }
}

function bytesOf(blob) {
  return new Uint8Array(new FileReaderSync().readAsArrayBuffer(blob));
}
