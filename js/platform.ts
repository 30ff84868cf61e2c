// What differs between browsers and Node.
import { McwcError } from './errors.js';
import { foundInstead } from './found.js';

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

/** `script` may be another origin's. */
export function startThread(script: string | URL, onMessage: (message: any) => void, onError: (error: unknown) => void): Thread {
  const node = typeof Worker === 'undefined' ? nodeModule('node:worker_threads') : undefined;
  if (node) {
    const worker = new node.Worker(script);
    worker.on('message', onMessage);
    worker.on('error', onError);
    return {
      post: (message, transfer) => worker.postMessage(message, transfer),
      setBusy: (busy) => (busy ? worker.ref() : worker.unref()),
      terminate: () => worker.terminate(),
    };
  }
  const worker = isElsewhere(script) ? new Worker(shimOf(script)) : new Worker(script, { type: 'module' });
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

/** Whether browsers refuse to run this script as a worker, as it is another origin's. */
function isElsewhere(script: string | URL): boolean {
  const { location } = globalThis;
  const { protocol, origin } = new URL(script, location?.href);
  return !!location && protocol.startsWith('http') && origin !== location.origin;
}

/** A script of this origin that runs it. It is small enough not to be missed. */
function shimOf(script: string | URL): string {
  const { href } = new URL(script, location.href);
  return URL.createObjectURL(new Blob([`importScripts(${JSON.stringify(href)})`], { type: 'text/javascript' }));
}

/** What lies beside this script, unless a bundler left no trace of where that is. */
export function address<T>(option: string, locate: () => T): T {
  try {
    return locate();
  } catch (error) {
    throw new McwcError('argument', `this script does not know its own address: set ${option}`, { cause: error });
  }
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

/** Calls it after a while, which does not keep Node running; gives what cancels that. */
export function later(ms: number, task: () => void): () => void {
  const timer = setTimeout(task, ms);
  (timer as { unref?: () => void }).unref?.();
  return () => clearTimeout(timer);
}

export async function loadWasm(url: URL): Promise<WebAssembly.Module> {
  try {
    const fs = url.protocol === 'file:' ? nodeModule('node:fs') : undefined;
    if (fs) return await WebAssembly.compile(fs.readFileSync(url));
    const response = await fetch(url);
    const type = response.headers.get('content-type');
    if (!response.ok) throw new Error(`HTTP ${response.status} (${type})`);
    // Streaming needs a MIME type that not every server sends.
    if (type?.startsWith('application/wasm')) return await WebAssembly.compileStreaming(response);
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (bytes[0] !== 0) throw new Error(`${foundInstead(bytes, type)} instead of a wasm module (HTTP ${response.status}, ${type})`);
    return await WebAssembly.compile(bytes);
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
  promise.catch(() => {});
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
