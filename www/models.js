// Where the two variants of the networks come from: one mcwc archive, or the original ONNX files; from the network, or from what this
// device has kept since an earlier visit.
import { open } from 'mcwc';
import { collect, download, slowDown } from './connection.js';
import { DETECTOR, RECOGNIZER, WARM_UP } from './sources.js';

/**
 * @typedef {'archive' | 'original'} Variant
 * @typedef {'auto' | 'cpu' | 'webgpu'} Backend
 * @typedef {{base: string, models: import('./sources.js').Models, bitsPerSecond: number, backend: Backend}} LoadOptions
 * @typedef {(stage: 'received' | 'decoded', loaded: number, total: number) => void} Report
 * @typedef {object} Weights
 * @property {Uint8Array} detector
 * @property {Uint8Array} recognizer
 * @property {number} bytes of what was read, over the network or not
 * @property {number} downloadedBytes over the network
 * @property {string} [backend] what decoded the archive
 * @property {string} [backendReason]
 * @property {() => Promise<void>} keep resolves when it is kept for the next visit, if it can be
 */

const ARCHIVE_CACHE = 'demo';
const ORIGINAL_CACHE = 'mcwc-demo-original';
/** As every visit should be the first unless a cache of ours says otherwise. */
const PAST_HTTP_CACHE = { cache: 'no-store' };

const loaders = { archive: loadArchive, original: loadOriginal };

/** @param {Variant} variant @param {LoadOptions} options @param {Report} report @returns {Promise<Weights>} */
export async function load(variant, { base, models, bitsPerSecond, backend }, report) {
  const files = models[variant].map((file) => ({ ...file, url: new URL(file.path, base).href }));
  const count = slowDown(files.map(({ url }) => url), bitsPerSecond);
  const weights = await loaders[variant](files, report, backend);
  return { ...weights, bytes: files.reduce((sum, file) => sum + file.bytes, 0), downloadedBytes: count.bytes };
}

async function loadArchive([{ url, version }], report, backend) {
  const archive = await open(new Request(url, PAST_HTTP_CACHE), {
    backend,
    integrity: version,
    cache: ARCHIVE_CACHE,
    onProgress({ loaded, decoded, total }) {
      report('received', loaded, total);
      if (decoded > 0) report('decoded', decoded, total);
    },
  });
  try {
    const networks = await bothNetworks(archive);
    const keep = async () => {
      await archive.cached;
      archive.close();
    };
    const { backend, backendReason, stats } = archive;
    // The CPU may have been sooner with all of it.
    return { ...networks, backend: stats?.uploadedBytes > 0 ? backend : 'cpu', backendReason, keep };
  } catch (error) {
    archive.close();
    throw error;
  }
}

async function bothNetworks(archive) {
  const [detector, recognizer] = await Promise.all([DETECTOR, RECOGNIZER].map((name) => archive.file(name).bytes()));
  return { detector, recognizer };
}

async function loadOriginal(files, report) {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const cache = await originalCache();
  const read = async ({ url, version }) => {
    const kept = await cache?.match(keyOf(url, version));
    const { body } = kept ?? (await download(url, PAST_HTTP_CACHE));
    return collect(body, (bytes) => report('received', (loaded += bytes), total));
  };
  const [detector, recognizer] = await Promise.all(files.map(read));
  const keep = async () => {
    if (!cache) return;
    const bodies = [detector, recognizer];
    await Promise.all(files.map(({ url, version }, index) => cache.put(keyOf(url, version), new Response(bodies[index])))).catch(() => {});
  };
  return { detector, recognizer, keep };
}

/** Another version is not found under it. */
const keyOf = (url, version) => `${url}?${version}`;

/** As `open` loads it: when it is wanted. */
async function archiveCaches() {
  const { caches } = await import('mcwc/cache');
  return caches();
}

/** Undefined where there is none: in private windows of some browsers, and on addresses that are not secure. */
async function originalCache() {
  return self.caches?.open(ORIGINAL_CACHE).catch(() => undefined);
}

/** @param {{base: string, models: import('./sources.js').Models}} where @returns {Promise<Record<Variant, boolean>>} what needs no network */
export async function kept({ base, models }) {
  const { archives } = await archiveCaches();
  const isKept = ({ version }) => archives.some(({ integrity, complete }) => complete && integrity === version);
  const cache = await originalCache();
  const found = await Promise.all(models.original.map(({ path, version }) => cache?.match(keyOf(new URL(path, base).href, version))));
  return { archive: models.archive.every(isKept), original: found.every(Boolean) };
}

/** Makes the next visit a first one. */
export async function forget() {
  const { delete: remove } = await archiveCaches();
  await remove({ cache: ARCHIVE_CACHE });
  await self.caches?.delete(ORIGINAL_CACHE);
}

/** Of float32: smaller ones are not worth a buffer each. */
const LARGE_BYTES = 16 << 10;

/**
 * Decodes the archive's large weights once more, to where the GPU computes with them, and on the CPU. What is timed has all bytes here.
 * @typedef {{ms: number, bytes: number, stats?: import('mcwc').GpuStats}} Decoding  `bytes` of what was made
 * @param {{base: string, models: import('./sources.js').Models}} where
 * @returns {Promise<{gpu: Decoding, cpu: Decoding}>}
 */
export async function timeDecoding({ base, models }) {
  const [{ path, version }] = models.archive;
  const timed = async (backend, decode) => {
    const archive = await open(new Request(new URL(path, base), PAST_HTTP_CACHE), { backend, integrity: version, cache: ARCHIVE_CACHE });
    try {
      await archive.cached;
      const large = archive.tensors.filter(({ dtype, bytes }) => dtype === 'f32' && bytes >= LARGE_BYTES);
      const began = performance.now();
      const undo = await decode(archive, large.map(({ name }) => name));
      const ms = performance.now() - began;
      undo?.();
      return { ms, bytes: large.reduce((sum, { bytes }) => sum + bytes, 0), stats: archive.stats };
    } finally {
      archive.close();
    }
  };
  const gpu = await timed('webgpu', async (archive, names) => {
    const tensors = await archive.gpuTensors(names);
    return () => tensors.forEach(({ buffer }) => buffer.destroy());
  });
  const cpu = await timed('cpu', (archive, names) => Promise.all(names.map((name) => archive.tensor(name))).then(() => {}));
  return { gpu, cpu };
}

/** By backend: an archive that stays open, so that its threads stay too. */
const warm = new Map();

/**
 * Decodes an archive, once for each backend, so that nothing of the decoder is started or compiled in what is timed.
 * @returns {Promise<{detector: Uint8Array, recognizer: Uint8Array}>} the networks without weights
 */
export function warmUpDecoder(base, backend) {
  if (!warm.has(backend)) warm.set(backend, open(new URL(WARM_UP, base), { backend }).then(bothNetworks));
  return warm.get(backend);
}
