// A file on a server -> memory, whole and in order. A download that is interrupted goes on where it was.
import { Attempts, type Retrying } from './attempts.js';
import type { MemorySource, Supply } from './memory.js';
import { Interruption, type Part, type RemoteFile } from './remote.js';
import { PREAMBLE_BYTES } from './source.js';

export class Download implements Supply {
  /** Settles with `run`, while that goes on. */
  running: Promise<void> | undefined;

  constructor(
    readonly file: RemoteFile,
    readonly memory: MemorySource,
    private readonly retrying: Retrying,
    private readonly fetchAgain: (download: Download, start: number, end: number) => Promise<boolean>,
  ) {}

  /** Settles when no more will come. */
  run(answer?: AsyncGenerator<Part>): Promise<void> {
    return (this.running ??= this.#run(answer).finally(() => (this.running = undefined)));
  }

  async #run(answer?: AsyncGenerator<Part>): Promise<void> {
    const { file, memory } = this;
    const attempts = this.attempts();
    while (!memory.isComplete) {
      try {
        const gap = answer ? undefined : await this.#gap();
        if (memory.isComplete) return;
        answer ??= file.read(...gap!);
        for await (const part of answer) this.keep(part, attempts);
        await memory.wanted();
        if (!gap?.[1] || memory.missing(...gap).length > 0) throw this.endedEarly();
      } catch (error) {
        // What goes wrong after the last byte does not matter.
        if (memory.isComplete) return;
        try {
          await attempts.next(error);
        } catch (failure) {
          return memory.end(failure);
        }
      }
      answer = undefined;
    }
  }

  refetch(start: number, end: number): Promise<boolean> {
    return this.fetchAgain(this, start, end);
  }

  close(error: unknown): void {
    this.file.close(error);
  }

  attempts(): Attempts {
    return new Attempts(this.file, this.retrying);
  }

  keep({ offset, bytes, total }: Part, attempts: Attempts): void {
    if (this.memory.write(offset, bytes, 'network', total) > 0) attempts.succeeded();
  }

  /** Why to ask again after an answer that was right as far as it went. */
  endedEarly(): Interruption {
    return new Interruption(this.file.error('incomplete', this.memory.incomplete().message));
  }

  /** The first bytes that are missing; without an end if they are the last too. */
  async #gap(): Promise<[start: number, end?: number]> {
    const { memory } = this;
    await memory.turn();
    const [[start, end] = [0, Infinity], next] = memory.missing();
    return [start < PREAMBLE_BYTES ? 0 : start, next && end];
  }
}
