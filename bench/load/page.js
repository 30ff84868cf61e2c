// The browser's part of load.mjs: from the navigation to weights in memory, a session of onnxruntime-web, and its first result.

/** What each model is run on: its input, as the runtime takes it. */
const INPUTS = { minilm: sentence, tuned: sentence, ocr: line };
/** In the demo's picture of a page, and how large PP-OCRv4 reads it. */
const LINE = { x: 258, y: 108, width: 540, height: 81 };
const READ = { width: 320, height: 48 };
/** Of an output, as many numbers are sent on at the most. */
const NUMBERS = 1000;
/** What visits.mjs asks for. */
const visit = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const marks = {};
const mark = (name) => (marks[name] = performance.now());

/** Settles when what is to be in the cache is there. */
let kept;

/** What to do for each kind of variant. Gives a session, but without a model or a runtime. */
const SESSIONS = {
  async nothing() {
    await inputs;
  },

  async onnx() {
    const bytes = await (visit.cached ? cachedBytes(visit.url) : download(visit.url));
    mark('weights');
    return sessionOf(bytes);
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
    return sessionOf(bytes);
  },

  /** An archive by the adapter, which decodes what the runtime asks for; without a runtime all of its tensors. */
  async archive() {
    const modules = visit.weightsOnly ? ['index'] : ['index', 'onnxruntime'];
    const [{ open }, adapter] = await Promise.all(modules.map((name) => import(`${visit.package}/${name}.js`)));
    // What a delta is predicted from is there already; the delta itself is downloaded every time.
    const delta = visit.base && fetch(visit.url);
    const base = visit.base && (await open(visit.base, { backend: 'cpu', cache: true }));
    const archive = await open((await delta) ?? visit.url, { backend: 'cpu', cache: visit.cached, base });
    archive.downloaded.then(() => mark('downloaded'));
    kept = Promise.all([archive.cached, base?.cached]);
    const session = await adapter?.createSession(await imported, archive);
    if (visit.weightsOnly) {
      await Promise.all([...archive].map(({ name }) => archive.tensor(name)));
      mark('weights');
    }
    archive.close();
    base?.close();
    return session;
  },

  /** What the browser decodes another file with. */
  async dictionary() {
    await download(`${visit.url}/dictionary`);
  },
};

// The runtime starts, and the input is made, while the weights are on their way.
const inputs = visit.weightsOnly ? undefined : INPUTS[visit.model]?.();
const imported = visit.weightsOnly ? undefined : importRuntime();
const started = visit.weightsOnly ? undefined : startRuntime();
/** Times in milliseconds since the navigation, and what tells the model's first output from another. */
globalThis.result = load();

async function load() {
  const session = await SESSIONS[visit.kind]();
  const ort = await started;
  if (!session) {
    await kept;
    return { marks };
  }
  mark('session');
  const outputs = await session.run(tensorsOf(await inputs, ort));
  mark('inference');
  // So that the next visit finds all of it.
  await kept;
  return { marks, output: summed(Object.values(outputs)[0].data) };
}

async function sessionOf(bytes) {
  const ort = await started;
  return ort?.InferenceSession.create(bytes);
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

async function sentence() {
  const data = BigInt64Array.of(101n, 2023n, 2003n, 1037n, 7099n, 6251n, 2008n, 2003n, 2000n, 2022n, 7861n, 8270n, 5732n, 2182n, 1012n, 102n);
  return { ids: { type: 'int64', shape: [1, data.length], data } };
}

/** As the demo reads it. */
async function line() {
  const [{ RECOGNITION, toPlanes }, response] = await Promise.all([import('/planes.js'), fetch('/book.webp')]);
  const context = new OffscreenCanvas(READ.width, READ.height).getContext('2d');
  context.imageSmoothingQuality = 'high';
  const picture = await createImageBitmap(await response.blob());
  context.drawImage(picture, LINE.x, LINE.y, LINE.width, LINE.height, 0, 0, READ.width, READ.height);
  const data = toPlanes(context.getImageData(0, 0, READ.width, READ.height), RECOGNITION);
  return { x: { type: 'float32', shape: [1, 3, READ.height, READ.width], data } };
}

function tensorsOf(inputs, ort) {
  return Object.fromEntries(Object.entries(inputs).map(([name, { type, shape, data }]) => [name, new ort.Tensor(type, data, shape)]));
}

/** The whole output in few numbers: sums of neighbours. */
function summed(values) {
  const count = Math.ceil(values.length / NUMBERS);
  const starts = Array.from({ length: Math.ceil(values.length / count) }, (_, index) => index * count);
  return starts.map((start) => values.subarray(start, start + count).reduce((sum, value) => sum + value, 0));
}
