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
  /** A batch is done with, whatever became of it; its buffer can be filled again. Perhaps it was the last of its job. */
  | { type: 'decoded'; job: number; payloads: ArrayBuffer; finished?: { buffer: ArrayBuffer; memoryBytes: number } }
  | { type: 'failed'; job: number; code: ErrorCode; message: string; chunk?: number }
  /** The wasm instance trapped; nothing it holds can be trusted. */
  | { type: 'broken'; message: string };

const port: { postMessage(reply: Reply, transfer: Transferable[]): void } =
  nodeModule('node:worker_threads')?.parentPort ?? (globalThis as any);

let decoder: Decoder;
let current: { job: number; out: Uint8Array<ArrayBuffer> } | undefined;

function receive(request: Request): void {
  const job = request.type === 'start' ? 0 : request.job;
  try {
    carryOut(request);
  } catch (error) {
    if (current?.job === job) current = undefined;
    if (error instanceof WebAssembly.RuntimeError) return port.postMessage({ type: 'broken', message: error.message }, []);
    const { code, message, chunk } = McwcError.from(error);
    port.postMessage({ type: 'failed', job, code, message, chunk }, []);
  }
}

function carryOut(request: Request): void {
  if (request.type === 'start') {
    const { module, builtFor, heads } = request;
    decoder = new Decoder(instantiate(module, { Archive, initSync }, builtFor), heads);
    port.postMessage({ type: 'started' }, []);
  } else if (request.type === 'batch') {
    decode(request);
  } else if (request.job === current?.job) {
    current = undefined;
  }
}

function decode({ job, begin, batch, last }: Extract<Request, { type: 'batch' }>): void {
  const payloads = batch.payloads.buffer;
  const transfer = [payloads];
  let finished;
  try {
    if (begin) current = { job, out: new Uint8Array(begin.buffer ?? new ArrayBuffer(begin.bytes)) };
    // What follows a batch that failed, or that was cancelled.
    if (current?.job !== job) return;
    const { out } = current;
    for (const _ of decoder.decode(batch, out));
    if (!last) return;
    current = undefined;
    finished = { buffer: out.buffer, memoryBytes: decoder.memory.buffer.byteLength };
    transfer.push(out.buffer);
  } finally {
    port.postMessage({ type: 'decoded', job, payloads, finished }, transfer);
  }
}

const { parentPort } = nodeModule('node:worker_threads') ?? {};
if (parentPort) parentPort.on('message', receive);
else globalThis.onmessage = ({ data }: MessageEvent<Request>) => receive(data);
