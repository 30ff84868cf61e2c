// Jobs -> decoded buffers on this thread, in short turns. Loaded only where there are no workers; its errors are not yet `McwcError`s
// of the package.
import { Decoder } from '../decoder.js';
import { verify } from '../hashes.js';
import { adopt, nextTurn } from '../platform.js';
import { type Step, nothing } from '../steps.js';
import { batchesOf } from './batches.js';
import { Recent } from './recent.js';
import type { Coded, Job, Runner } from './runner.js';

/** Longest turn that decoding on this thread takes. */
const TURN_MS = 8;

const recent = new Recent();

export class InlineRunner implements Runner {
  jobs = 0;
  memoryBytes = 0;
  #decoder: Decoder | undefined;
  #held = nothing();
  #closed = new AbortController();
  #turnStarted = 0;

  constructor(private readonly archive: Coded) {}

  async run(job: Job, signal: AbortSignal | undefined): Promise<ArrayBuffer> {
    const { chunks, hashes, wasm, heads } = this.archive;
    const out = new Uint8Array(job.buffer ? adopt(job.buffer) : new ArrayBuffer(job.bytes));
    const pause = async () => {
      if (performance.now() - this.#turnStarted >= TURN_MS) {
        await nextTurn();
        this.#turnStarted = performance.now();
      }
      signal?.throwIfAborted();
      this.#closed.signal.throwIfAborted();
    };
    this.jobs++;
    recent.wake(this);
    try {
      const decoder = (this.#decoder ??= new Decoder(wasm, heads));
      for (const [steps] of batchesOf(job.steps(this.#held), chunks)) {
        const gathered = await chunks.gather(steps);
        const batch = { ...gathered, verified: await verify(gathered, hashes) };
        for (const _ of decoder.decode(batch, out)) await pause();
      }
    } catch (error) {
      this.#held = nothing();
      throw error;
    } finally {
      this.jobs--;
      if (!this.#closed.signal.aborted) recent.rest(this);
    }
    this.memoryBytes = wasm.memory.buffer.byteLength;
    return out.buffer;
  }

  drop(): void {
    this.#decoder?.free();
    this.#decoder = undefined;
    this.#held = nothing();
  }

  close(error: unknown): void {
    this.#closed.abort(error);
    recent.wake(this);
    this.drop();
  }
}

/** What decodes on this thread at once, when nothing can be waited for. */
export class Preparing {
  #decoder: Decoder | undefined;

  constructor(private readonly archive: Coded) {}

  /** Resolves when the payloads of the steps are here and verified, with what decodes them to the front of its target. */
  async prepare(steps: Step[]): Promise<(target: Uint8Array) => void> {
    const { chunks, hashes, wasm, heads } = this.archive;
    const gathered = await chunks.gather(steps);
    const batch = { ...gathered, verified: await verify(gathered, hashes) };
    return (target) => {
      this.#decoder ??= new Decoder(wasm, heads);
      for (const _ of this.#decoder.decode(batch, target));
    };
  }
}
