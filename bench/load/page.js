// The browser's part of load.mjs: from the navigation to weights in memory, a session of onnxruntime-web, and its first result.

/** A sentence as MiniLM reads it, and a picture of nothing. */
const INPUTS = {
  minilm: { ids: { type: 'int64', shape: [1, 16], data: [101, 2023, 2003, 1037, 7099, 6251, 2008, 2003, 2000, 2022, 7861, 8270, 5732, 2182, 1012, 102] } },
  ocr: { x: { type: 'float32', shape: [1, 3, 48, 320], data: Array.from({ length: 3 * 48 * 320 }, (_, index) => Math.sin(index / 7)) } },
};
INPUTS.tuned = INPUTS.minilm;
/** What visits.mjs asks for. */
const visit = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const marks = {};
const mark = (name) => (marks[name] = performance.now());

/** Settles when what is to be in the cache is there. */
let kept;

/** What to do for each kind of variant, beside the runtime's start; gives a session if there is a model. */
const SESSIONS = {
  async nothing() {},

  async onnx() {
    const bytes = await (visit.cached ? cachedBytes(visit.url) : download(visit.url));
    mark('weights');
    const ort = await started;
    return ort.InferenceSession.create(bytes);
  },

  /** An archive's file, decoded whole. */
  async bytes() {
    const { open } = await import(`${visit.package}/index.js`);
    const archive = await open(visit.url, { backend: 'cpu', cache: visit.cached });
    archive.downloaded.then(() => mark('downloaded'));
    kept = archive.cached;
    const bytes = await archive.file(visit.file).bytes();
    mark('weights');
    archive.close();
    const ort = await started;
    return ort.InferenceSession.create(bytes);
  },

  /** An archive by the adapter, which decodes what the runtime asks for. */
  async archive() {
    const [{ open }, { createSession }] = await Promise.all(['index', 'onnxruntime'].map((name) => import(`${visit.package}/${name}.js`)));
    // What a delta is predicted from is there already; the delta itself is downloaded every time.
    const delta = visit.base && fetch(visit.url);
    const base = visit.base && (await open(visit.base, { backend: 'cpu', cache: true }));
    const archive = await open((await delta) ?? visit.url, { backend: 'cpu', cache: visit.cached, base });
    archive.downloaded.then(() => mark('downloaded'));
    kept = Promise.all([archive.cached, base?.cached]);
    const session = await createSession(watched(await imported), archive);
    archive.close();
    base?.close();
    return session;
  },

  /** What the browser decodes another file with. */
  async dictionary() {
    await download(`${visit.url}/dictionary`);
  },
};

// The runtime starts while the weights are on their way.
const imported = importRuntime();
const started = startRuntime();
/** Times in milliseconds since the navigation, and the beginning of the model's first output. */
globalThis.result = load();

async function load() {
  const session = await SESSIONS[visit.kind]();
  const ort = await started;
  if (!session) return { marks };
  mark('session');
  const outputs = await session.run(inputsOf(INPUTS[visit.model], ort));
  mark('inference');
  // So that the next visit finds all of it.
  await kept;
  return { marks, output: Array.from(Object.values(outputs)[0].data.slice(0, 1000)) };
}

async function importRuntime() {
  const ort = await import(`${visit.runtime}/ort.wasm.min.mjs`);
  ort.env.wasm.wasmPaths = `${visit.runtime}/`;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  return ort;
}

async function startRuntime() {
  const ort = await imported;
  await ort.InferenceSession.create('/identity.onnx');
  mark('runtime');
  return ort;
}

/** The runtime, but that it tells when it gets a model: the last is that of the archive, its weights decoded, and the runtime itself started. */
function watched({ InferenceSession, Tensor, env }) {
  const create = (...args) => {
    mark('weights');
    return InferenceSession.create(...args);
  };
  return { InferenceSession: { create }, Tensor, env };
}

async function download(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** As transformers.js keeps models: decoded, in the Cache API. */
async function cachedBytes(url) {
  const cache = await caches.open('weights');
  const kept = await cache.match(url);
  if (kept) return new Uint8Array(await kept.arrayBuffer());
  const bytes = await download(url);
  await cache.put(url, new Response(bytes, { headers: { 'content-length': bytes.length } }));
  return bytes;
}

function inputsOf(inputs, ort) {
  const tensors = Object.entries(inputs).map(([name, { type, shape, data }]) => [name, new ort.Tensor(type, type === 'int64' ? data.map(BigInt) : data, shape)]);
  return Object.fromEntries(tensors);
}
