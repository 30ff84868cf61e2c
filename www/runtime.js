// onnxruntime-web, set up once for both variants: one thread, no proxy, its wasm served by this page.
import * as ort from 'onnxruntime-web/wasm';
import wasmUrl from 'onnxruntime-web/ort-wasm-simd-threaded.wasm?url';
import { Link, collect, download } from './connection.js';
import { textProbability } from './ocr/detect.js';
import { STRIP_HEIGHT, classScores } from './ocr/recognize.js';

ort.env.wasm.numThreads = 1;

/** An ONNX graph of one Identity node, so that the runtime can start before any network's session is timed. */
const IDENTITY_MODEL = identityModel();

/**
 * Downloads and compiles the runtime.
 * @param {(loaded: number, total: number) => void} onProgress
 */
export async function startRuntime(onProgress) {
  let loaded = 0;
  let total = NaN;
  const count = (bytes) => onProgress((loaded += bytes), total);
  const { bytes, stream } = await download(new URL(wasmUrl, import.meta.url), new Link(Infinity), count, 'default');
  total = bytes;
  ort.env.wasm.wasmBinary = await collect(stream);
  await (await ort.InferenceSession.create(IDENTITY_MODEL)).release();
}

/** @typedef {{detector: ort.InferenceSession, recognizer: ort.InferenceSession}} Sessions */

/**
 * The first session and the first run make the browser compile much of the runtime. Both variants do both once
 * before anything is timed, so that neither pays for the other.
 * @param {import('./models.js').Weights} weights
 * @returns {Promise<{sessions: Sessions, sessionMs: number}>}
 */
export async function openSessions(weights) {
  const sessions = await createSessions(weights);
  await warmUp(sessions);
  const started = performance.now();
  const again = await createSessions(weights);
  const sessionMs = performance.now() - started;
  await releaseSessions(again);
  return { sessions, sessionMs };
}

async function createSessions({ detector, recognizer }) {
  return {
    detector: await ort.InferenceSession.create(detector),
    recognizer: await ort.InferenceSession.create(recognizer),
  };
}

async function warmUp({ detector, recognizer }) {
  const blank = (height, width) => new Float32Array(3 * height * width);
  await textProbability(detector, blank(320, 320), 320, 320);
  await classScores(recognizer, blank(STRIP_HEIGHT, 320), 320);
}

export async function releaseSessions({ detector, recognizer }) {
  await detector.release();
  await recognizer.release();
}

function identityModel() {
  const field = (number, ...bytes) => [(number << 3) | 2, bytes.length, ...bytes];
  const text = (number, value) => field(number, ...new TextEncoder().encode(value));
  const varint = (number, value) => [number << 3, value];
  const shape = field(2, ...field(1, ...varint(1, 1)));
  const floatTensor = field(2, ...field(1, ...varint(1, 1), ...shape));
  const node = field(1, ...text(1, 'x'), ...text(2, 'y'), ...text(4, 'Identity'));
  const value = (number, name) => field(number, ...text(1, name), ...floatTensor);
  const graph = field(7, ...node, ...text(2, 'identity'), ...value(11, 'x'), ...value(12, 'y'));
  return new Uint8Array([...varint(1, 8), ...graph, ...field(8, ...varint(2, 13))]);
}
