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

type Created<Ort extends Runtime> = Awaited<ReturnType<Ort['InferenceSession']['create']>>;
type OwnOptions<Ort extends Runtime> = NonNullable<Parameters<Ort['InferenceSession']['create']>[1]>;

export interface SessionOptions {
  /** The model's name in the archive, if there are several. */
  model?: string;
  /** How the archive is opened. Default: decoded on the CPU. */
  mcwc?: OpenOptions;
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
  const { model: name, mcwc, onProgress, signal, ...own } = options;
  // While the archive arrives the runtime is loaded.
  const access = accessFor(ort, own);
  access.catch(() => {});
  const given = isArchive(source) ? source : undefined;
  const archive = given ?? (await open(source as ArchiveSource, { backend: 'cpu', ...defined({ onProgress, signal }), ...mcwc }));
  try {
    return await sessionOf(ort, archive, modelIn(archive, name), await access, own, signal);
  } finally {
    if (!given) archive.close();
  }
}

async function sessionOf(
  ort: Runtime,
  archive: Archive,
  name: string,
  access: Access | undefined,
  own: { externalData?: readonly unknown[] },
  signal: AbortSignal | undefined,
): Promise<any> {
  const create = async (model: Uint8Array, externalData: unknown[]) => {
    signal?.throwIfAborted();
    return ort.InferenceSession.create(model, { ...own, externalData: [...(own.externalData ?? []), ...externalData] });
  };
  const parts = await split(archive, name);
  if (access && parts) {
    const data = new LazyData(archive, parts.extents, access);
    await data.prepare();
    try {
      return await create(parts.model, Array.from(parts.locations, ([path, file]) => ({ path, data: data.file(file) })));
    } catch (error) {
      if (!data.surprised) throw data.error ?? error;
    }
  }
  const outside = Array.from(parts?.locations ?? []).filter(([, file]) => file !== name);
  const files = outside.map(async ([path, file]) => ({ path, data: await archive.file(file).bytes() }));
  return create(await archive.file(name).bytes(), await Promise.all(files));
}

/** By the runtime's entry point, and by what it is to run on. */
const known = new WeakMap<object, Map<string, Promise<Access | undefined>>>();

async function accessFor(ort: Runtime, own: { executionProviders?: readonly unknown[] }): Promise<Access | undefined> {
  const { InferenceSession, env } = ort;
  const providers = own.executionProviders?.map((provider) => (typeof provider === 'string' ? provider : (provider as { name: string }).name));
  // Neither what is sent to a worker, nor what goes to native code, can decode anything there.
  if (env.wasm?.proxy || env.versions?.node || providers?.includes('webnn')) return undefined;
  const ofRuntime = known.get(InferenceSession) ?? new Map<string, Promise<Access | undefined>>();
  known.set(InferenceSession, ofRuntime);
  const key = `${providers}`;
  const access = ofRuntime.get(key) ?? accessOf(ort, own.executionProviders);
  ofRuntime.set(key, access);
  return access;
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
