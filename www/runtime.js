// onnxruntime-web, set up once for both variants: one thread, no proxy, its wasm served by this page.
import * as ort from 'onnxruntime-web/wasm';
import wasmUrl from 'onnxruntime-web/ort-wasm-simd-threaded.wasm?url';
import { collect, download } from './connection.js';
import { textProbability } from './ocr/detect.js';
import { STRIP_HEIGHT, classScores } from './ocr/recognize.js';

ort.env.wasm.numThreads = 1;

/** Of a picture, in pixels, and often enough that the browser has compiled what runs long. */
const WARM_UP_SIDE = 640;
const WARM_UP_RUNS = 3;

/** @param {(loaded: number) => void} onProgress called with the bytes that have come, uncompressed */
export async function startRuntime(onProgress) {
  let loaded = 0;
  const { body } = await download(new URL(wasmUrl, import.meta.url));
  ort.env.wasm.wasmBinary = await collect(body, (bytes) => onProgress((loaded += bytes)));
}

/** @typedef {{detector: ort.InferenceSession, recognizer: ort.InferenceSession}} Sessions */

/** @param {{detector: Uint8Array, recognizer: Uint8Array}} networks @returns {Promise<Sessions>} */
export async function openSessions({ detector, recognizer }) {
  return {
    detector: await ort.InferenceSession.create(detector),
    recognizer: await ort.InferenceSession.create(recognizer),
  };
}

/** Does everything once that is timed later, with networks that weigh nothing: the browser compiles what runs first. */
export async function warmUpRuntime(networks) {
  const sessions = await openSessions(networks);
  const blank = (height, width) => new Float32Array(3 * height * width);
  await textProbability(sessions.detector, blank(WARM_UP_SIDE, WARM_UP_SIDE), WARM_UP_SIDE, WARM_UP_SIDE);
  for (let run = 0; run < WARM_UP_RUNS; run++) await classScores(sessions.recognizer, blank(STRIP_HEIGHT, WARM_UP_SIDE), WARM_UP_SIDE);
  await releaseSessions(sessions);
}

export async function releaseSessions({ detector, recognizer }) {
  await detector.release();
  await recognizer.release();
}
