// A thread that decodes. Buffers come and go by transfer; nothing is shared.
//
// Bundled twice, once with the bindings of each wasm module (scripts/build.mjs).
import { Archive, initSync } from 'mcwc-wasm';
import { type Batch, Decoder } from './decoder.js';
import { McwcError, type ErrorCode } from './errors.js';
import { nodeModule } from './platform.js';
import type { Backend } from './types.js';
import { instantiate } from './wasm.js';

export type Request =
  | { type: 'start'; module: WebAssembly.Module; builtFor: Backend; heads: Uint8Array[] }
  | { type: 'batch'; job: number; begin?: { bytes: number; buffer?: ArrayBuffer }; batch: Batch; last: boolean }
  | { type: 'cancel'; job: number };

export type Reply =
  | { type: 'started' }
  /** A batch is done with, whatever became of it; its buffer can be filled again. */
  | { type: 'decoded'; job: number; payloads: ArrayBuffer }
  | { type: 'finished'; job: number; buffer: ArrayBuffer; memoryBytes: number }
  | { type: 'failed'; job: number; code: ErrorCode; message: string }
  /** The wasm instance trapped; nothing it holds can be trusted. */
  | { type: 'broken'; message: string };

const port: { postMessage(reply: Reply, transfer: Transferable[]): void } =
  nodeModule('node:worker_threads')?.parentPort ?? (globalThis as any);

let decoder: Decoder;
let current: { job: number; out: Uint8Array<ArrayBuffer> } | undefined;
/** Cancelled while jobs before them were being decoded. */
const cancelled = new Set<number>();
let lastBegun = 0;
/** Requests are carried out one after another, although decoding waits for hashes in between. */
let turn = Promise.resolve();

function receive(request: Request): void {
  if (request.type !== 'cancel') turn = turn.then(() => carryOut(request));
  else if (request.job > lastBegun) cancelled.add(request.job);
  else if (request.job === current?.job) current = undefined;
}

async function carryOut(request: Exclude<Request, { type: 'cancel' }>): Promise<void> {
  const job = request.type === 'start' ? 0 : request.job;
  try {
    if (request.type === 'start') {
      const { module, builtFor, heads } = request;
      decoder = new Decoder(instantiate(module, { Archive, initSync }, builtFor), heads);
      return port.postMessage({ type: 'started' }, []);
    }
    await decode(request);
  } catch (error) {
    if (current?.job === job) current = undefined;
    if (error instanceof WebAssembly.RuntimeError) return port.postMessage({ type: 'broken', message: error.message }, []);
    const { code, message } = McwcError.from(error);
    port.postMessage({ type: 'failed', job, code, message }, []);
  }
}

async function decode({ job, begin, batch, last }: Extract<Request, { type: 'batch' }>): Promise<void> {
  try {
    if (begin) {
      lastBegun = job;
      if (!cancelled.delete(job)) current = { job, out: new Uint8Array(begin.buffer ?? new ArrayBuffer(begin.bytes)) };
    }
    if (current?.job !== job) return;
    const { out } = current;
    await decoder.decode(batch, out, () => {
      if (current?.job !== job) throw new McwcError('closed', 'cancelled');
    });
    if (!last) return;
    current = undefined;
    const memoryBytes = decoder.memory.buffer.byteLength;
    port.postMessage({ type: 'finished', job, buffer: out.buffer, memoryBytes }, [out.buffer]);
  } finally {
    const payloads = batch.payloads.buffer;
    port.postMessage({ type: 'decoded', job, payloads }, [payloads]);
  }
}

const { parentPort } = nodeModule('node:worker_threads') ?? {};
if (parentPort) parentPort.on('message', receive);
else globalThis.onmessage = ({ data }: MessageEvent<Request>) => receive(data);
