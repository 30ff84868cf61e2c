// A thread that decodes, for several archives. Buffers come and go by transfer; nothing is shared.
//
// Bundled twice, once with the bindings of each wasm module (scripts/build.mjs).
import { Archive, initSync } from 'mcwc-wasm';
import { type Batch, Decoder } from './decoder.js';
import { McwcError, type ErrorCode } from './errors.js';
import { nodeModule } from './platform.js';
import type { Backend } from './types.js';
import { type Wasm, instantiate } from './wasm.js';

export type Request =
  | { type: 'start'; module: WebAssembly.Module; builtFor: Backend }
  /** An archive whose batches follow, by a number. */
  | { type: 'open'; archive: number; heads: Uint8Array[] }
  | { type: 'batch'; archive: number; job: number; begin?: { bytes: number; buffer?: ArrayBuffer }; batch: Batch; last: boolean }
  | { type: 'cancel'; archive: number; job: number }
  | { type: 'close'; archive: number };

export type Reply =
  | { type: 'started' }
  /** A batch is done with, whatever became of it; its buffer can be filled again. Perhaps it was the last of its job. */
  | { type: 'decoded'; job: number; payloads: ArrayBuffer; finished?: Finished }
  /** `job`: 0 if the worker cannot start. */
  | { type: 'failed'; job: number; code: ErrorCode; message: string; chunk?: number }
  /** The wasm instance trapped; nothing it holds can be trusted. */
  | { type: 'broken'; message: string };

export interface Finished {
  buffer: ArrayBuffer;
  /** Of the wasm memory. */
  memoryBytes: number;
}

const port: { postMessage(reply: Reply, transfer: Transferable[]): void } =
  nodeModule('node:worker_threads')?.parentPort ?? (globalThis as any);

/** An archive, whose jobs come one after another; those of several archives take turns. */
interface Opened {
  heads: Uint8Array[];
  decoder?: Decoder;
  current?: { job: number; out: Uint8Array<ArrayBuffer> };
}

let wasm: Wasm;
const archives = new Map<number, Opened>();

function receive(request: Request): void {
  const job = 'job' in request ? request.job : 0;
  try {
    carryOut(request);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) return port.postMessage({ type: 'broken', message: error.message }, []);
    const { code, message, chunk } = McwcError.from(error);
    port.postMessage({ type: 'failed', job, code, message, chunk }, []);
  }
}

function carryOut(request: Request): void {
  switch (request.type) {
    case 'start':
      wasm = instantiate(request.module, { Archive, initSync }, request.builtFor);
      return port.postMessage({ type: 'started' }, []);
    case 'open':
      return void archives.set(request.archive, { heads: request.heads });
    case 'batch':
      return decode(request);
    case 'cancel':
      return leave(archives.get(request.archive), request.job);
    case 'close':
      archives.get(request.archive)?.decoder?.free();
      return void archives.delete(request.archive);
  }
}

function decode({ archive, job, begin, batch, last }: Extract<Request, { type: 'batch' }>): void {
  const payloads = batch.payloads.buffer;
  const transfer = [payloads];
  const opened = archives.get(archive);
  let finished;
  try {
    if (begin && opened) opened.current = { job, out: new Uint8Array(begin.buffer ?? new ArrayBuffer(begin.bytes)) };
    // What follows a batch that failed, or that was cancelled.
    if (opened?.current?.job !== job) return;
    const { out } = opened.current;
    opened.decoder ??= new Decoder(wasm, opened.heads);
    for (const _ of opened.decoder.decode(batch, out));
    if (!last) return;
    opened.current = undefined;
    finished = { buffer: out.buffer, memoryBytes: wasm.memory.buffer.byteLength };
    transfer.push(out.buffer);
  } catch (error) {
    leave(opened, job);
    throw error;
  } finally {
    port.postMessage({ type: 'decoded', job, payloads, finished }, transfer);
  }
}

function leave(opened: Opened | undefined, job: number): void {
  if (opened?.current?.job === job) opened.current = undefined;
}

const { parentPort } = nodeModule('node:worker_threads') ?? {};
if (parentPort) parentPort.on('message', receive);
else globalThis.onmessage = ({ data }: MessageEvent<Request>) => receive(data);
