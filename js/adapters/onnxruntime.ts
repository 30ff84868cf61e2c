// An archive with an ONNX model -> an inference session of onnxruntime-web, whose weights are decoded as it takes them over.
import type { Archive, ArchiveSource, OpenOptions, Progress } from '../index.js';
import { McwcError, open } from '../index.js';
import { type GpuWeights, type Provider, deviceOf, gpuWeights, webgpuIn } from './gpu-weights.js';
import { type Access, LazyData } from './lazy-data.js';
import { type Split, split } from './onnx.js';
import { type Probe, probe } from './probe.js';
import type { Runtime } from './runtime.js';

export type { Runtime } from './runtime.js';

interface Providers {
  executionProviders?: readonly (string | Provider)[];
}

type Created<Ort extends Runtime> = Awaited<ReturnType<Ort['InferenceSession']['create']>>;
type OwnOptions<Ort extends Runtime> = NonNullable<Parameters<Ort['InferenceSession']['create']>[1]>;

/** Of the many small ones; where each would be waited for, which takes longer than to decode it. */
const AHEAD_BYTES = { blob: 1 << 20, array: 0 };

export interface SessionOptions {
  /** The model's name in the archive, if there are several. */
  model?: string;
  /** How the archive is opened. Default: decoded on the CPU. */
  mcwc?: OpenOptions;
  /**
   * Bytes of weights that are decoded before the runtime asks for them, on workers, while the archive arrives. Default: 1 MiB with
   * JSPI, else none.
   */
  aheadBytes?: number;
  /** `gpu`: large weights become buffers of the GPU, decoded there, that the runtime uses as they are. Only with the provider `webgpu`. */
  weights?: 'gpu';
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

/**
 * Creates a session for the ONNX model in an archive: `source` is an open one, or what `open` takes. Options are the runtime's
 * own, and those above. An archive that was opened for it is closed again.
 */
export async function createSession<Ort extends Runtime>(
  ort: Ort,
  source: Archive | ArchiveSource,
  options: SessionOptions & Partial<OwnOptions<Ort>> = {},
): Promise<Created<Ort>> {
  const { model, mcwc, aheadBytes, weights, onProgress, signal, ...own } = options;
  const opening = { ...defined({ onProgress, signal }), ...mcwc };
  // The runtime is loaded while the archive arrives.
  if (weights === undefined) return load(ort, source, { opening, own, model, aheadBytes, signal, access: accessFor(ort, own) });
  if (weights !== 'gpu') throw new McwcError('argument', `there is no place ${JSON.stringify(weights)} for weights`);
  const provider = webgpuIn(own);
  const { access, release } = await probeOf(ort, own);
  try {
    if (!access) throw new McwcError('gpu', 'the runtime does not take its weights on this thread');
    const device = await deviceOf(ort, provider);
    // A blob, or what is decoded ahead, would be decoded on the GPU, and read back.
    return await load(ort, source, { opening, own, model, aheadBytes: 0, signal, access: 'array', device });
  } finally {
    await release();
  }
}

interface LoadOptions {
  opening: OpenOptions;
  /** The runtime's. */
  own: Providers & { externalData?: readonly unknown[] };
  model: string | undefined;
  aheadBytes: number | undefined;
  signal: AbortSignal | undefined;
  access: Promise<Access | undefined> | Access | undefined;
  /** Where large weights are to be. */
  device?: GPUDevice;
}

async function load(ort: Runtime, source: Archive | ArchiveSource, options: LoadOptions): Promise<any> {
  const { opening, own, signal, device } = options;
  const given = isArchive(source) ? source : undefined;
  const backend = device ? { backend: 'webgpu' as const, device } : { backend: 'cpu' as const };
  const archive = given ?? (await open(source as ArchiveSource, { ...backend, ...opening }));
  let weights: GpuWeights | undefined;
  try {
    const name = modelIn(archive, options.model);
    const parts = await split(archive, name, device !== undefined);
    if (device) {
      if (!parts) throw new McwcError('unsupported', `the weights of ${name} cannot be told from the rest`);
      weights = await gpuWeights(archive, parts.inputs, device, signal);
    }
    const loaded = await contents(archive, name, parts, options);
    signal?.throwIfAborted();
    // Workers and compressed bytes would only take memory while the runtime needs the most.
    if (!given && loaded.access !== 'blob') archive.close();
    const all = { ...own, externalData: [...(own.externalData ?? []), ...loaded.externalData] };
    const session = await inTurn(ort, () => ort.InferenceSession.create(loaded.model, all)).catch((error: unknown) => {
      throw loaded.lazy?.error ?? error;
    });
    return weights?.feed(ort, session) ?? session;
  } catch (error) {
    weights?.destroy();
    throw error;
  } finally {
    if (!given) archive.close();
  }
}

interface Contents {
  model: Uint8Array;
  externalData: { path: string; data: Uint8Array | Blob }[];
  /** What the external data come from, and how, if they do not lie in memory. */
  lazy?: LazyData;
  access?: Access;
}

async function contents(archive: Archive, name: string, parts: Split | undefined, { access, aheadBytes }: LoadOptions): Promise<Contents> {
  const kind = await access;
  if (parts && kind) {
    const lazy = new LazyData(archive, parts.extents);
    await Promise.all([kind === 'array' ? lazy.prepare() : undefined, lazy.decodeAhead(aheadBytes ?? AHEAD_BYTES[kind])]);
    const externalData = Array.from(parts.locations, ([path, name]) => ({ path, data: lazy.file(name, archive.file(name).size, kind) }));
    return { model: parts.model, externalData, lazy, access: kind };
  }
  const outside = Array.from(parts?.locations ?? []).filter(([, file]) => file !== name);
  const files = outside.map(async ([path, file]) => ({ path, data: await archive.file(file).bytes() }));
  return { model: await archive.file(name).bytes(), externalData: await Promise.all(files) };
}

/** Whether it runs on this thread: neither what is sent to a worker nor what goes to native code can decode anything there. */
function isLazy({ env }: Runtime, own: Providers): boolean {
  return !env.wasm?.proxy && !env.versions?.node && !namesOf(own).includes('webnn');
}

/** By the runtime's entry point, and by what it is to run on. */
const known = new WeakMap<object, Map<string, Promise<Access | undefined>>>();

function accessFor(ort: Runtime, own: Providers): Promise<Access | undefined> | undefined {
  if (!isLazy(ort, own)) return undefined;
  const ofRuntime = known.get(ort.InferenceSession) ?? new Map<string, Promise<Access | undefined>>();
  known.set(ort.InferenceSession, ofRuntime);
  const key = namesOf(own).join();
  const found = ofRuntime.get(key) ?? probeOf(ort, own).then(({ access, release }) => release().then(() => access, () => undefined));
  ofRuntime.set(key, found);
  return found;
}

async function probeOf(ort: Runtime, own: Providers): Promise<Probe> {
  if (!isLazy(ort, own)) return { access: undefined, release: async () => {} };
  return inTurn(ort, () => probe(ort, own.executionProviders));
}

/** What was begun last with each runtime, which on WebGPU makes but one session at a time. */
const turns = new WeakMap<object, Promise<unknown>>();

function inTurn<T>({ InferenceSession }: Runtime, work: () => Promise<T>): Promise<T> {
  const turn = (turns.get(InferenceSession) ?? Promise.resolve()).then(work, work);
  turns.set(InferenceSession, turn);
  return turn;
}

function namesOf({ executionProviders = [] }: Providers): string[] {
  return executionProviders.map((provider) => (typeof provider === 'string' ? provider : provider.name));
}

function modelIn(archive: Archive, name: string | undefined): string {
  const names = archive.files.map(({ name }) => name);
  if (name !== undefined) {
    if (names.includes(name)) return name;
    throw new McwcError('argument', `the archive has no file named ${JSON.stringify(name)}, but ${names.join(', ')}`);
  }
  const models = names.filter((name) => name.endsWith('.onnx'));
  if (models.length === 1) return models[0];
  throw new McwcError('argument', models.length === 0 ? `no ONNX model is in the archive, but ${names.join(', ')}` : `the archive has several models, choose one by \`model\`: ${models.join(', ')}`);
}

function isArchive(source: Archive | ArchiveSource): source is Archive {
  return typeof (source as Partial<Archive>).tensor === 'function';
}

/** Without the options that are not given, so that they do not replace others. */
function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
