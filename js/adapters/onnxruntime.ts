// An archive with an ONNX model -> an inference session of onnxruntime-web, whose weights are decoded as it takes them over.
import type { Archive, ArchiveSource, OpenOptions, Progress } from '../index.js';
import { McwcError, open } from '../index.js';
import { type Access, LazyData } from './lazy-data.js';
import { split } from './onnx.js';
import { accessOf } from './probe.js';

/** What is needed of onnxruntime-web: `import * as ort from 'onnxruntime-web'`, `/wasm`, `/webgpu`, `/all` or `/jspi`. */
export interface Runtime {
  InferenceSession: { create(model: Uint8Array, options?: any): Promise<any> };
  Tensor: new (type: 'float32', data: Float32Array, dims: number[]) => any;
  env: { wasm?: { proxy?: boolean }; versions?: { node?: string } };
}

interface Providers {
  executionProviders?: readonly (string | { name: string })[];
}

type Created<Ort extends Runtime> = Awaited<ReturnType<Ort['InferenceSession']['create']>>;
type OwnOptions<Ort extends Runtime> = NonNullable<Parameters<Ort['InferenceSession']['create']>[1]>;

/** Enough for most models, and little beside what a runtime needs for large ones. */
const AHEAD_BYTES = 128 << 20;

export interface SessionOptions {
  /** The model's name in the archive, if there are several. */
  model?: string;
  /** How the archive is opened. Default: decoded on the CPU. */
  mcwc?: OpenOptions;
  /** Bytes of weights that are decoded before the runtime asks for them, on workers, while the archive arrives. Default: 128 MiB. */
  aheadBytes?: number;
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
  const { model: name, mcwc, aheadBytes = AHEAD_BYTES, onProgress, signal, ...own } = options;
  // The runtime is loaded while the archive arrives.
  const access = isLazy(ort, own) ? accessFor(ort, own) : undefined;
  const given = isArchive(source) ? source : undefined;
  const archive = given ?? (await open(source as ArchiveSource, { backend: 'cpu', ...defined({ onProgress, signal }), ...mcwc }));
  try {
    const loaded = await load(archive, modelIn(archive, name), access, aheadBytes);
    signal?.throwIfAborted();
    return await create(ort, loaded, own);
  } finally {
    if (!given) archive.close();
  }
}

interface Loaded {
  model: Uint8Array;
  externalData: { path: string; data: Uint8Array | Blob }[];
  /** What the external data come from, if they do not lie in memory. */
  lazy?: LazyData;
  /** The same in memory. */
  plain(): Promise<Loaded>;
}

async function load(archive: Archive, name: string, access: Promise<Access | undefined> | undefined, aheadBytes: number): Promise<Loaded> {
  const parts = await split(archive, name);
  const plain = async () => {
    const outside = Array.from(parts?.locations ?? []).filter(([, file]) => file !== name);
    const files = outside.map(async ([path, file]) => ({ path, data: await archive.file(file).bytes() }));
    return { model: await archive.file(name).bytes(), externalData: await Promise.all(files), plain };
  };
  if (!parts || !access) return plain();
  const lazy = new LazyData(archive, parts.extents);
  const prepared = access.then((access) => (access === 'array' ? lazy.prepare() : undefined));
  const [kind] = await Promise.all([access, prepared, lazy.decodeAhead(aheadBytes)]);
  if (!kind) return plain();
  const externalData = Array.from(parts.locations, ([path, file]) => ({ path, data: lazy.file(file, kind) }));
  return { model: parts.model, externalData, lazy, plain };
}

async function create(ort: Runtime, { model, externalData, lazy, plain }: Loaded, own: { externalData?: readonly unknown[] }): Promise<any> {
  try {
    return await ort.InferenceSession.create(model, { ...own, externalData: [...(own.externalData ?? []), ...externalData] });
  } catch (error) {
    if (lazy?.surprised) return create(ort, await plain(), own);
    throw lazy?.error ?? error;
  }
}

/** Whether it runs on this thread: neither what is sent to a worker nor what goes to native code can decode anything there. */
function isLazy({ env }: Runtime, own: Providers): boolean {
  return !env.wasm?.proxy && !env.versions?.node && !namesOf(own).includes('webnn');
}

/** By the runtime's entry point, and by what it is to run on. */
const known = new WeakMap<object, Map<string, Promise<Access | undefined>>>();

function accessFor(ort: Runtime, own: Providers): Promise<Access | undefined> {
  const ofRuntime = known.get(ort.InferenceSession) ?? new Map<string, Promise<Access | undefined>>();
  known.set(ort.InferenceSession, ofRuntime);
  const key = namesOf(own).join();
  const access = ofRuntime.get(key) ?? accessOf(ort, own.executionProviders);
  ofRuntime.set(key, access);
  return access;
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
