// Jobs of an archive -> decoded buffers, on a few of the page's workers or, without any, on this thread.
import { McwcError } from '../errors.js';
import { unlessAborted } from '../platform.js';
import type { Coded, Job, Runner } from './runner.js';
import type { DecoderThread } from './thread.js';
import { type Client, Threads } from './threads.js';
import { WorkerRunner } from './worker-runner.js';

export interface PoolOptions extends Coded {
  /** Most workers at once; 0 for this thread. */
  limit: number;
  workerUrl: string | URL | undefined;
  /** Called once if no worker can be started. */
  onInline(reason: string): void;
}

interface Queued {
  job: Job;
  signal: AbortSignal | undefined;
  resolve(buffer: ArrayBuffer): void;
  reject(error: unknown): void;
}

export class Pool implements Client {
  readonly limit: number;
  #queue: Queued[] = [];
  #runners = new Set<Runner>();
  /** Those that are being sent a job, and cannot take another. */
  #sending = new Set<Runner>();
  /** Undefined if this thread decodes. */
  #threads: Threads | undefined;
  #error: unknown;

  constructor(private readonly options: PoolOptions) {
    this.limit = options.limit;
    if (this.limit === 0) {
      this.#decodeHere();
    } else {
      this.#threads = Threads.of(options.wasm, options.workerUrl);
      this.#threads.join(this);
    }
  }

  /** Largest wasm memory of those that decode. */
  get memoryBytes(): number {
    return Math.max(0, ...[...this.#runners].map(({ memoryBytes }) => memoryBytes));
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
    this.#threads?.leave(this);
  }

  gained(thread: DecoderThread): void {
    this.#add(new WorkerRunner(this.options, thread));
  }

  lost(thread: DecoderThread): void {
    for (const runner of this.#runners) if (runner.thread === thread) this.#runners.delete(runner);
    this.#next();
  }

  refused(reason: string): void {
    this.#threads!.leave(this);
    this.#threads = undefined;
    this.options.onInline(reason);
    this.#decodeHere();
  }

  /** What that takes is loaded only then. */
  async #decodeHere(): Promise<void> {
    try {
      const { InlineRunner } = await import('./inline.js');
      if (!this.#error) this.#add(new InlineRunner(this.options));
    } catch (error) {
      this.close(McwcError.from(error));
    }
  }

  #add(runner: Runner): void {
    this.#runners.add(runner);
    this.#next();
  }

  #next(): void {
    let crowded = false;
    for (let runner; this.#queue.length > 0 && (runner = this.#leastBusy()); ) {
      crowded ||= loadOf(runner) > 0;
      this.#start(runner, this.#queue.shift()!);
    }
    const threads = this.#threads;
    if (!threads || this.#inUse() + threads.starting >= this.limit) return;
    if (crowded || this.#queue.length > threads.starting) threads.grow();
  }

  #inUse(): number {
    return [...this.#runners].filter(({ jobs }) => jobs > 0).length;
  }

  /** Of those that may take a job now. */
  #leastBusy(): Runner | undefined {
    const allInUse = this.#threads && this.#inUse() >= this.limit;
    const able = [...this.#runners].filter((runner) => !this.#sending.has(runner) && (!allInUse || runner.jobs > 0));
    return able.sort((a, b) => loadOf(a) - loadOf(b))[0];
  }

  async #start(runner: Runner, { job, signal, resolve, reject }: Queued): Promise<void> {
    let isSent = false;
    const onSent = () => {
      if (!isSent) this.#sending.delete(runner);
      isSent = true;
      this.#next();
    };
    this.#sending.add(runner);
    try {
      resolve(await runner.run(job, signal, onSent));
    } catch (error) {
      reject(signal?.aborted || this.#error ? error : McwcError.from(error));
    }
    onSent();
  }
}

/** Jobs of all archives on its worker. */
function loadOf({ thread }: Runner): number {
  return thread?.jobs ?? 0;
}
