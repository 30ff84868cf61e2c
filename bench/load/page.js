// The browser's part of load.mjs: from the navigation to weights in memory, a session of onnxruntime-web, and its first result.

/** What visits.mjs asks for. */
const visit = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const marks = {};
const mark = (name) => (marks[name] = performance.now());

const LOADERS = {
  /** The runtime alone. */
  async nothing() {},

  async onnx() {
    const bytes = await (visit.cached ? cachedBytes(visit.url) : download(visit.url));
    mark('weights');
    return bytes;
  },

  async archive() {
    const { open } = await import(`${visit.package}/index.js`);
    // What a delta is predicted from is there already; the delta itself is downloaded every time.
    const delta = visit.base && fetch(visit.url);
    const base = visit.base && (await open(visit.base, { backend: 'cpu', cache: true }));
    const archive = await open((await delta) ?? visit.url, { backend: 'cpu', cache: visit.cached, base });
    archive.downloaded.then(() => mark('downloaded'));
    const bytes = await archive.file(visit.file).bytes();
    mark('weights');
    archive.close();
    base?.close();
    return bytes;
  },

  /** What the browser decodes another file with. */
  async dictionary() {
    await download(`${visit.url}/dictionary`);
  },
};

/** Times in milliseconds since the navigation, and the beginning of the model's first output. */
globalThis.result = load();

async function load() {
  // The runtime starts while the weights are on their way.
  const started = startRuntime();
  const bytes = await LOADERS[visit.kind]();
  const ort = await started;
  if (!bytes) return { marks };
  const session = await ort.InferenceSession.create(bytes);
  mark('session');
  const outputs = await session.run(inputsOf(visit.inputs, ort));
  mark('inference');
  return { marks, output: Array.from(Object.values(outputs)[0].data.slice(0, 1000)) };
}

async function startRuntime() {
  const ort = await import(`${visit.runtime}/ort.wasm.min.mjs`);
  ort.env.wasm.wasmPaths = `${visit.runtime}/`;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  await ort.InferenceSession.create('/identity.onnx');
  mark('runtime');
  return ort;
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
