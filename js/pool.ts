// Jobs -> decoded buffers, on a few workers or, without any, on this thread.
import { Decoder, type Gathered } from './decoder.js';
import { McwcError } from './errors.js';
import { verify } from './hashes.js';
import { type Thread, adopt, nextTurn, startThread, unlessAborted } from './platform.js';
import { type Held, type Step, nothing } from './steps.js';
import type { Wasm } from './wasm.js';
import type { Reply, Request } from './worker.js';

/** What becomes one buffer. */
export interface Job {
  bytes: number;
  buffer?: ArrayBuffer;
  steps(held: Held): Iterable<Step>;
}

/** Collects the payloads of these steps, in `buffer` if it is large enough. */
export type Gather = (steps: Step[], buffer?: ArrayBuffer) => Promise<Gathered>;

export interface PoolOptions {
  wasm: Wasm;
  /** Of the archive, of its base, of the base of that. */
  heads: Uint8Array[];
  /** Of all chunks, one after another. */
  hashes: Uint8Array;
  limit: number;
  workerUrl: string | URL | undefined;
  gather: Gather;
  chunkBytes(chunk: number): number;
  /** Called once if no worker can be started. */
  onInline(reason: string): void;
}

/** Payload bytes of a batch: enough to hide the messages, little enough to come and go in a download. */
const BATCH_BYTES = 1 << 20;
/** Batches that a worker may have: with small ones, enough to last until the next messages arrive. */
const BATCHES_AHEAD = 8;
/** Longest turn that decoding on this thread takes. */
const TURN_MS = 8;

interface Runner {
  /** Jobs that it has and is not done with. */
  readonly jobs: number;
  /** Calls `onSent` if it can take another job before it is done with this one. */
  run(job: Job, signal: AbortSignal | undefined, onSent: () => void): Promise<ArrayBuffer>;
  close(error: unknown): void;
}

interface Queued {
  job: Job;
  signal: AbortSignal | undefined;
  resolve(buffer: ArrayBuffer): void;
  reject(error: unknown): void;
}

export class Pool {
  /** Largest wasm memory seen in a worker; tests hold it to a bound. */
  memoryBytes = 0;
  #queue: Queued[] = [];
  /** Those that can take a job. */
  #ready = new Set<Runner>();
  #runners = new Set<Runner>();
  #starting = 0;
  #limit: number;
  #error: unknown;

  constructor(private readonly options: PoolOptions) {
    this.#limit = options.limit;
    if (this.#limit === 0) this.#add(new InlineRunner(options, this));
  }

  async run(job: Job, signal?: AbortSignal): Promise<ArrayBuffer> {
    if (this.#error) throw this.#error;
    let queued!: Queued;
    const finished = new Promise<ArrayBuffer>((resolve, reject) => (queued = { job, signal, resolve, reject }));
    this.#queue.push(queued);
    this.#next();
    try {
      return await unlessAborted(finished, signal);
    } catch (error) {
      this.#queue = this.#queue.filter((other) => other !== queued);
      throw error;
    }
  }

  close(error: unknown): void {
    this.#error = error;
    this.#queue.splice(0).forEach(({ reject }) => reject(error));
    this.#runners.forEach((runner) => runner.close(error));
    this.#runners.clear();
    this.#ready.clear();
  }

  #next(): void {
    while (this.#queue.length > 0 && this.#ready.size > 0) this.#start(this.#leastBusy(), this.#queue.shift()!);
    if (this.#queue.length > this.#starting && this.#runners.size + this.#starting < this.#limit) this.#startWorker();
  }

  #leastBusy(): Runner {
    return [...this.#ready].reduce((least, runner) => (runner.jobs < least.jobs ? runner : least));
  }

  async #start(runner: Runner, { job, signal, resolve, reject }: Queued): Promise<void> {
    this.#ready.delete(runner);
    let taken = true;
    const release = () => {
      if (taken && this.#runners.has(runner)) this.#ready.add(runner);
      taken = false;
      this.#next();
    };
    try {
      resolve(await runner.run(job, signal, release));
    } catch (error) {
      reject(error);
    }
    release();
  }

  async #startWorker(): Promise<void> {
    this.#starting++;
    const runner = new WorkerRunner(this.options, this);
    try {
      await runner.started;
      if (this.#error) runner.close(this.#error);
      else this.#add(runner);
    } catch (error) {
      runner.close(error);
      this.#limit = this.#runners.size;
      if (this.#limit === 0 && !this.#error) {
        this.options.onInline(`no worker could be started: ${(error as Error).message}`);
        this.#add(new InlineRunner(this.options, this));
      }
    } finally {
      this.#starting--;
    }
    this.#next();
  }

  #add(runner: Runner): void {
    this.#runners.add(runner);
    this.#ready.add(runner);
  }

  /** A runner that cannot go on; another may be started in its place. */
  remove(runner: Runner): void {
    this.#runners.delete(runner);
    this.#ready.delete(runner);
  }
}

/** Cuts steps into batches, each with a flag for the last. */
function* batchesOf(steps: Iterable<Step>, chunkBytes: (chunk: number) => number): Generator<[Step[], boolean]> {
  let batch: Step[] = [];
  let bytes = 0;
  for (const step of steps) {
    const stepBytes = step.chunk < 0 ? 0 : chunkBytes(step.chunk);
    if (batch.length > 0 && bytes + stepBytes > BATCH_BYTES) {
      yield [batch, false];
      batch = [];
      bytes = 0;
    }
    batch.push(step);
    bytes += stepBytes;
  }
  yield [batch, true];
}

class InlineRunner implements Runner {
  jobs = 0;
  #decoder: Decoder;
  #held = nothing();
  #closed = new AbortController();
  #turnStarted = 0;

  constructor(
    private readonly options: PoolOptions,
    private readonly pool: Pool,
  ) {
    this.#decoder = new Decoder(options.wasm, options.heads);
  }

  async run(job: Job, signal: AbortSignal | undefined): Promise<ArrayBuffer> {
    const { gather, hashes, chunkBytes } = this.options;
    const out = new Uint8Array(job.buffer ? adopt(job.buffer) : new ArrayBuffer(job.bytes));
    const pause = async () => {
      if (performance.now() - this.#turnStarted >= TURN_MS) {
        await nextTurn();
        this.#turnStarted = performance.now();
      }
      signal?.throwIfAborted();
      this.#closed.signal.throwIfAborted();
    };
    try {
      for (const [steps] of batchesOf(job.steps(this.#held), chunkBytes)) {
        const gathered = await gather(steps);
        const batch = { ...gathered, verified: await verify(gathered, hashes) };
        for (const _ of this.#decoder.decode(batch, out)) await pause();
      }
    } catch (error) {
      this.#held = nothing();
      throw signal?.aborted ? signal.reason : McwcError.from(error);
    }
    this.pool.memoryBytes = this.#decoder.memory.buffer.byteLength;
    return out.buffer;
  }

  close(error: unknown): void {
    this.#closed.abort(error);
    this.#decoder.free();
  }
}

interface Running {
  resolve(buffer: ArrayBuffer): void;
  reject(error: unknown): void;
  /** Whether the worker has heard of it. */
  begun: boolean;
}

class WorkerRunner implements Runner {
  readonly started: Promise<void>;
  #thread: Thread | undefined;
  #held = nothing();
  #lastJob = 0;
  /** Jobs of the worker by number; it carries them out in this order. */
  #running = new Map<number, Running>();
  #spare: ArrayBuffer[] = [];
  #onStart!: { resolve(): void; reject(error: unknown): void };
  #onCredit: (() => void) | undefined;
  /** Batches that the worker has or will have. */
  #ahead = 0;
  /** Resolves when the batches before have been posted: in order, whenever they are verified. */
  #posted = Promise.resolve();

  constructor(
    private readonly options: PoolOptions,
    private readonly pool: Pool,
  ) {
    this.started = new Promise((resolve, reject) => (this.#onStart = { resolve, reject }));
    try {
      this.#thread = startThread(
        options.workerUrl,
        options.wasm.builtFor,
        (reply) => this.#receive(reply),
        (error) => this.#fail(error),
      );
      const { module, builtFor } = options.wasm;
      this.#post({ type: 'start', module, builtFor, heads: options.heads });
    } catch (error) {
      this.#onStart.reject(error);
    }
  }

  get jobs(): number {
    return this.#running.size;
  }

  async run(job: Job, signal: AbortSignal | undefined, onSent: () => void): Promise<ArrayBuffer> {
    const id = ++this.#lastJob;
    // The job before may still fail, and then the worker holds something else than is known here.
    if (this.#running.size > 0) this.#held = nothing();
    const finished = new Promise<ArrayBuffer>((resolve, reject) => this.#running.set(id, { resolve, reject, begun: false }));
    const fail = (error: unknown) => {
      const running = this.#running.get(id);
      if (running?.begun) this.#post({ type: 'cancel', job: id });
      running?.reject(error);
    };
    const onAbort = () => fail(signal?.reason);
    signal?.addEventListener('abort', onAbort);
    this.#thread?.setBusy(true);
    this.#send(id, job, fail).then(onSent, (error) => fail(McwcError.from(error)));
    try {
      return await finished;
    } catch (error) {
      this.#held = nothing();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#running.delete(id);
      this.#onCredit?.();
      if (this.#running.size === 0) this.#thread?.setBusy(false);
    }
  }

  close(error: unknown): void {
    this.#thread?.terminate();
    this.#thread = undefined;
    this.#onStart.reject(error);
    this.#running.forEach(({ reject }) => reject(error));
  }

  async #send(id: number, job: Job, fail: (error: unknown) => void): Promise<void> {
    const { gather, hashes, chunkBytes } = this.options;
    const running = this.#running.get(id)!;
    const wanted = () => this.#running.get(id) === running;
    for (const [steps, last] of batchesOf(job.steps(this.#held), chunkBytes)) {
      const gathered = await gather(steps, this.#spare.pop());
      while (wanted() && this.#ahead >= BATCHES_AHEAD) await new Promise<void>((resolve) => (this.#onCredit = resolve));
      if (!wanted()) return;
      this.#ahead++;
      const post = ([verified]: [boolean[], void]) => {
        if (!wanted()) return this.#credit();
        const begin = running.begun ? undefined : { bytes: job.bytes, buffer: job.buffer };
        const transfer: ArrayBuffer[] = [gathered.payloads.buffer];
        if (begin?.buffer) transfer.push(begin.buffer);
        this.#post({ type: 'batch', job: id, begin, batch: { ...gathered, verified }, last }, transfer);
        running.begun = true;
      };
      this.#posted = Promise.all([verify(gathered, hashes), this.#posted]).then(post).catch((error) => {
        this.#credit();
        fail(error);
      });
    }
  }

  #credit(): void {
    this.#ahead--;
    this.#onCredit?.();
  }

  #post(request: Request, transfer: Transferable[] = []): void {
    this.#thread?.post(request, transfer);
  }

  #receive(reply: Reply): void {
    if (reply.type === 'started') return this.#onStart.resolve();
    if (reply.type === 'broken') return this.#fail(new Error(reply.message));
    if (reply.type === 'failed' && reply.job === 0) return this.#onStart.reject(new McwcError(reply.code, reply.message));
    const running = this.#running.get(reply.job);
    switch (reply.type) {
      case 'decoded':
        if (this.#spare.length < BATCHES_AHEAD) this.#spare.push(reply.payloads);
        this.#credit();
        if (!reply.finished) break;
        this.pool.memoryBytes = Math.max(this.pool.memoryBytes, reply.finished.memoryBytes);
        running?.resolve(reply.finished.buffer);
        break;
      case 'failed':
        running?.reject(new McwcError(reply.code, reply.message, reply));
        break;
    }
  }

  #fail(error: unknown): void {
    this.pool.remove(this);
    this.close(new McwcError('io', `a worker failed: ${(error as Error).message}`, { cause: error }));
  }
}
