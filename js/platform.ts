// What differs between browsers and Node.
import { McwcError } from './errors.js';
import type { Backend } from './types.js';

interface NodeModules {
  'node:fs': { readFileSync(url: URL): Uint8Array<ArrayBuffer>; openAsBlob(path: string | URL): Promise<Blob> };
  'node:os': { availableParallelism(): number };
  'node:path': { resolve(path: string): string };
  'node:worker_threads': {
    Worker: new (url: URL | string) => NodeWorker;
    parentPort: NodeWorker | null;
  };
}

interface NodeWorker {
  postMessage(message: unknown, transfer: Transferable[]): void;
  on(event: 'message' | 'error', listener: (value: any) => void): void;
  ref(): void;
  unref(): void;
  terminate(): void;
}

/** A module of Node's; undefined elsewhere. */
export function nodeModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name] | undefined {
  const { process } = globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } };
  return process?.getBuiltinModule?.(name) as NodeModules[Name] | undefined;
}

export function hardwareConcurrency(): number {
  return globalThis.navigator?.hardwareConcurrency ?? nodeModule('node:os')?.availableParallelism() ?? 1;
}

/** The part of a worker that the pool needs. */
export interface Thread {
  post(message: unknown, transfer: Transferable[]): void;
  /** A thread that is not busy does not keep Node running. */
  setBusy(busy: boolean): void;
  terminate(): void;
}

export function startThread(
  url: string | URL | undefined,
  builtFor: Backend,
  onMessage: (message: any) => void,
  onError: (error: unknown) => void,
): Thread {
  const node = typeof Worker === 'undefined' ? nodeModule('node:worker_threads') : undefined;
  if (node) {
    const worker = new node.Worker(url ?? besideModule(builtFor));
    worker.on('message', onMessage);
    worker.on('error', onError);
    return {
      post: (message, transfer) => worker.postMessage(message, transfer),
      setBusy: (busy) => (busy ? worker.ref() : worker.unref()),
      terminate: () => worker.terminate(),
    };
  }
  const worker = url ? new Worker(url, { type: 'module' }) : startBundled(builtFor);
  worker.onmessage = ({ data }) => onMessage(data);
  worker.onerror = (event) => {
    event.preventDefault();
    onError(new Error(event.message || 'the worker script could not be loaded'));
  };
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    setBusy: () => {},
    terminate: () => worker.terminate(),
  };
}

/** Bundlers look for exactly these expressions. */
function startBundled(builtFor: Backend): Worker {
  return builtFor === 'cpu'
    ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module' })
    : new Worker(new URL('./gpu-worker.js', import.meta.url), { type: 'module' });
}

/** Written so that bundlers, which have no use for it, do not copy the workers a second time. */
function besideModule(builtFor: Backend, module = import.meta.url): URL {
  return new URL(builtFor === 'cpu' ? './worker.js' : './gpu-worker.js', module);
}

/** Lets the event loop take a turn, without the delay that timers have. */
export function nextTurn(): Promise<void> {
  const { scheduler } = globalThis as { scheduler?: { yield?(): Promise<void> } };
  if (scheduler?.yield) return scheduler.yield();
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

export async function loadWasm(url: URL): Promise<WebAssembly.Module> {
  try {
    const fs = url.protocol === 'file:' ? nodeModule('node:fs') : undefined;
    if (fs) return await WebAssembly.compile(fs.readFileSync(url));
    const response = await fetch(url);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    // Streaming needs a MIME type that not every server sends.
    const streams = response.headers.get('content-type')?.startsWith('application/wasm');
    return await (streams ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer()));
  } catch (error) {
    throw new McwcError('io', `${url}: ${(error as Error).message}`, { cause: error });
  }
}

/** The same memory; the caller's `buffer` is detached, as by a transfer to a worker. */
export function adopt(buffer: ArrayBuffer): ArrayBuffer {
  return structuredClone(buffer, { transfer: [buffer] });
}

/** The promise, or the signal's reason if that comes first. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  signal.throwIfAborted();
  let onAbort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
