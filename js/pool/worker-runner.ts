// Jobs of one archive -> decoded buffers, on a worker that other archives use too.
import { McwcError } from '../errors.js';
import { verify } from '../hashes.js';
import { nothing } from '../steps.js';
import type { Finished } from '../worker.js';
import { batchesOf } from './batches.js';
import type { Coded, Job, Runner } from './runner.js';
import type { DecoderThread, Running } from './thread.js';

let lastArchive = 0;

export class WorkerRunner implements Runner {
  memoryBytes = 0;
  /** What the worker calls the archive. */
  #id = ++lastArchive;
  /** Whether the worker has its heads. */
  #isOpen = false;
  #held = nothing();
  #running = new Set<Running>();
  /** Resolves when the batches before have been posted: in order, whenever they are verified. */
  #posted = Promise.resolve();

  constructor(
    private readonly archive: Coded,
    readonly thread: DecoderThread,
  ) {}

  get jobs(): number {
    return this.#running.size;
  }

  async run(job: Job, signal: AbortSignal | undefined, onSent: () => void): Promise<ArrayBuffer> {
    const { thread } = this;
    // The job before may still fail, and then the worker holds something else than is known here.
    if (this.jobs > 0) this.#held = nothing();
    this.#open();
    let running!: Running;
    const finished = new Promise<Finished>((resolve, reject) => (running = thread.begin(resolve, reject)));
    this.#running.add(running);
    const fail = (error: unknown) => {
      if (running.begun && thread.isRunning(running)) thread.post({ type: 'cancel', archive: this.#id, job: running.id });
      running.reject(error);
    };
    const onAbort = () => fail(signal?.reason);
    signal?.addEventListener('abort', onAbort);
    this.#send(running, job, fail).then(onSent, (error) => fail(McwcError.from(error)));
    try {
      const { buffer, memoryBytes } = await finished;
      this.memoryBytes = Math.max(this.memoryBytes, memoryBytes);
      return buffer;
    } catch (error) {
      this.#held = nothing();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#running.delete(running);
      thread.end(running);
      if (this.jobs === 0 && this.#isOpen) thread.recent.rest(this);
    }
  }

  drop(): void {
    if (this.#isOpen) this.thread.post({ type: 'close', archive: this.#id });
    this.#isOpen = false;
    this.#held = nothing();
  }

  close(error: unknown): void {
    this.#running.forEach(({ reject }) => reject(error));
    this.thread.recent.wake(this);
    this.drop();
  }

  #open(): void {
    this.thread.recent.wake(this);
    if (!this.#isOpen) this.thread.post({ type: 'open', archive: this.#id, heads: this.archive.heads });
    this.#isOpen = true;
  }

  async #send(running: Running, job: Job, fail: (error: unknown) => void): Promise<void> {
    const { thread } = this;
    const { chunks, hashes } = this.archive;
    for (const [steps, last] of batchesOf(job.steps(this.#held), chunks)) {
      const gathered = await chunks.gather(steps, thread.takeSpare());
      if (!(await thread.mayPost(running))) return;
      const post = ([verified]: [boolean[], void]) => {
        if (!thread.isRunning(running)) return thread.credit();
        const begin = running.begun ? undefined : { bytes: job.bytes, buffer: job.buffer };
        const transfer: ArrayBuffer[] = [gathered.payloads.buffer];
        if (begin?.buffer) transfer.push(begin.buffer);
        thread.post({ type: 'batch', archive: this.#id, job: running.id, begin, batch: { ...gathered, verified }, last }, transfer);
        running.begun = true;
      };
      this.#posted = Promise.all([verify(gathered, hashes), this.#posted]).then(post).catch((error) => {
        thread.credit();
        fail(error);
      });
    }
  }
}
