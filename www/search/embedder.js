// A worker with one variant of MiniLM in transformers.js: texts -> embeddings.
import { env, pipeline } from '@huggingface/transformers';
import runtimeScript from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url';
import runtime from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url';
import { enable } from '../../pkg/transformers.js';
import archive from 'searched-with/onnx/model.onnx?mcwc&preset=balanced&with=../config.json,../tokenizer.json,../tokenizer_config.json';

const BATCH = 16;
const here = (path) => new URL(path, import.meta.url).href;

Object.assign(env, { remoteHost: here('/models/'), remotePathTemplate: '{model}/', allowLocalModels: false, useBrowserCache: false, useWasmCache: false });
Object.assign(env.backends.onnx.wasm, { numThreads: 1, wasmPaths: { mjs: here(runtimeScript), wasm: here(runtime) } });
enable(env, { archive: here(archive) });

let embed;

onmessage = async ({ data: { id, type, ...rest } }) => {
  try {
    postMessage({ id, result: await (type === 'load' ? load(rest) : embedAll(rest)) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};

/** The runtime itself is there before the clock starts: all three need it. */
async function load({ model, dtype }) {
  await Promise.all([runtime, runtimeScript].map(async (url) => (await fetch(here(url))).arrayBuffer()));
  const started = performance.now();
  embed = await pipeline('feature-extraction', model, { dtype, device: 'wasm', progress_callback: report });
  const ms = performance.now() - started;
  return { ms, bytes: [...downloads().values()].reduce((sum, bytes) => sum + bytes) };
}

/** Bytes of each file of the model. Some were asked for twice: once only for their size. */
function downloads() {
  const entries = performance.getEntriesByType('resource').filter(({ name }) => name.includes('/models/') || name.endsWith('.mcwc'));
  const sizes = new Map();
  for (const { name, encodedBodySize } of entries) sizes.set(name, Math.max(encodedBodySize, sizes.get(name) ?? 0));
  return sizes;
}

function report({ status, progress }) {
  if (status === 'progress_total') postMessage({ progress: progress / 100 });
}

/** Rows of the result are unit vectors. */
async function embedAll({ texts }) {
  const rows = [];
  for (let start = 0; start < texts.length; start += BATCH) {
    const { data, dims } = await embed(texts.slice(start, start + BATCH), { pooling: 'mean', normalize: true });
    for (let row = 0; row < dims[0]; row++) rows.push(data.slice(row * dims[1], (row + 1) * dims[1]));
    if (texts.length > BATCH) postMessage({ progress: Math.min(1, (start + BATCH) / texts.length) });
  }
  return rows;
}
