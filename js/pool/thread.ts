// A worker that decodes, for whichever archives have jobs for it.
import { McwcError } from '../errors.js';
import { type Thread, address, startThread } from '../platform.js';
import type { Backend } from '../types.js';
import type { Wasm } from '../wasm.js';
import type { Finished, Reply, Request } from '../worker.js';
import { Recent } from './recent.js';

/** Batches that a worker may have: with small ones, enough to last until the next messages arrive. */
const BATCHES_AHEAD = 8;
/** Buffers for payloads that a worker without jobs keeps. */
const SPARE_RESTING = 2;

/** A job that has not ended. */
export interface Running {
  readonly id: number;
  resolve(finished: Finished): void;
  reject(error: unknown): void;
  /** Whether the worker has heard of it. */
  begun: boolean;
}

export class DecoderThread {
  readonly started: Promise<void>;
  /** Whether it has started. */
  ready = false;
  readonly recent = new Recent();
  #thread: Thread | undefined;
  #lastJob = 0;
  #running = new Map<number, Running>();
  #spare: ArrayBuffer[] = [];
  /** Batches that the worker has or will have. */
  #ahead = 0;
  #waiting: (() => void)[] = [];
  #onStart!: { resolve(): void; reject(error: unknown): void };

  /** `onEnd`: called if it fails once it has started. */
  constructor(
    { module, builtFor }: Wasm,
    url: string | URL | undefined,
    private readonly onEnd: () => void,
  ) {
    this.started = new Promise((resolve, reject) => (this.#onStart = { resolve, reject }));
    try {
      const script = address(builtFor === 'cpu' ? 'workerUrl' : 'gpuWorkerUrl', () => url ?? besideModule(builtFor));
      this.#thread = startThread(script, (reply) => this.#receive(reply), (error) => this.#fail(error));
      this.post({ type: 'start', module, builtFor });
    } catch (error) {
      this.#onStart.reject(error);
    }
  }

  get jobs(): number {
    return this.#running.size;
  }

  begin(resolve: Running['resolve'], reject: Running['reject']): Running {
    const running = { id: ++this.#lastJob, resolve, reject, begun: false };
    this.#running.set(running.id, running);
    this.setBusy();
    return running;
  }

  isRunning({ id }: Running): boolean {
    return this.#running.has(id);
  }

  end({ id }: Running): void {
    this.#running.delete(id);
    this.setBusy();
    // What waits may be batches of this job.
    this.#waiting.splice(0).forEach((resolve) => resolve());
  }

  /** A thread without jobs does not keep Node running, and holds little memory. */
  setBusy(): void {
    this.#thread?.setBusy(this.jobs > 0);
    if (this.jobs === 0) this.#spare.splice(SPARE_RESTING);
  }

  /** Memory for payloads, if there is some. */
  takeSpare(): ArrayBuffer | undefined {
    return this.#spare.pop();
  }

  /** Waits until the job may send a batch; false if it has ended. The worker answers each with `decoded`. */
  async mayPost(running: Running): Promise<boolean> {
    while (this.isRunning(running) && this.#ahead >= BATCHES_AHEAD) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (!this.isRunning(running)) return false;
    this.#ahead++;
    return true;
  }

  /** A batch that was not posted after all, or that the worker is done with. */
  credit(): void {
    this.#ahead--;
    this.#waiting.shift()?.();
  }

  post(request: Request, transfer: Transferable[] = []): void {
    this.#thread?.post(request, transfer);
  }

  close(error: unknown): void {
    this.#thread?.terminate();
    this.#thread = undefined;
    this.#onStart.reject(error);
    this.#running.forEach(({ reject }) => reject(error));
  }

  #receive(reply: Reply): void {
    switch (reply.type) {
      case 'started':
        this.ready = true;
        return this.#onStart.resolve();
      case 'decoded':
        if (this.jobs > 0 && this.#spare.length < BATCHES_AHEAD) this.#spare.push(reply.payloads);
        if (reply.finished) this.#running.get(reply.job)?.resolve(reply.finished);
        return this.credit();
      case 'failed':
        if (reply.job === 0) return this.#onStart.reject(new McwcError(reply.code, reply.message));
        return this.#running.get(reply.job)?.reject(new McwcError(reply.code, reply.message, reply));
      case 'broken':
        return this.#fail(new Error(reply.message));
    }
  }

  #fail(error: unknown): void {
    const { ready } = this;
    this.ready = false;
    this.close(new McwcError('io', `a worker failed: ${(error as Error).message}`, { cause: error }));
    if (ready) this.onEnd();
  }
}

/** Bundlers look for exactly these expressions, copy the scripts as they are, and put in where they are then: elsewhere, maybe. */
function besideModule(builtFor: Backend): URL {
  return builtFor === 'cpu' ? new URL('./worker.js', import.meta.url) : new URL('./gpu-worker.js', import.meta.url);
}
