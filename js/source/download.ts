// A file on a server -> memory, whole and in order. A download that is interrupted goes on where it was.
import { Attempts, type Retrying } from './attempts.js';
import type { MemorySource, Supply } from './memory.js';
import { Interruption, type Part, type RemoteFile } from './remote.js';
import { PREAMBLE_BYTES } from './source.js';

export class Download implements Supply {
  constructor(
    protected readonly file: RemoteFile,
    protected readonly memory: MemorySource,
    protected readonly retrying: Retrying,
  ) {}

  /** Settles when no more will come. */
  async run(answer?: AsyncGenerator<Part>): Promise<void> {
    const { file, memory } = this;
    const attempts = new Attempts(file, this.retrying);
    while (!memory.isFull) {
      try {
        const gap = answer ? undefined : await this.#gap();
        if (memory.isFull) return;
        answer ??= file.read(...gap!);
        for await (const part of answer) if (this.keep(part) > 0) attempts.succeeded();
        await memory.wanted();
        if (!gap?.[1] || memory.missing(...gap).length > 0) throw this.endedEarly();
      } catch (error) {
        // What goes wrong after the last byte does not matter.
        if (memory.isFull) return;
        try {
          await attempts.next(error);
        } catch (failure) {
          return memory.end(failure);
        }
      }
      answer = undefined;
    }
  }

  async refetch(start: number, end: number): Promise<Uint8Array | undefined> {
    const { file, retrying } = this;
    const attempts = new Attempts(file, retrying);
    if (start === 0) file.preamble = undefined;
    while (file.canSeek) {
      try {
        const bytes = await this.#again(start, end);
        if (bytes) return bytes;
      } catch (error) {
        try {
          await attempts.next(error);
        } catch {
          break;
        }
      }
    }
    return undefined;
  }

  close(error: unknown): void {
    this.file.close(error);
  }

  protected keep({ offset, bytes, total }: Part): number {
    return this.memory.write(offset, bytes, 'network', total);
  }

  protected endedEarly(): Interruption {
    return new Interruption(this.file.error('incomplete', this.memory.incomplete().message));
  }

  /** The first bytes that are missing; without an end if they are the last too. */
  async #gap(): Promise<[start: number, end?: number]> {
    const { memory } = this;
    await memory.turn();
    if (memory.has(0, PREAMBLE_BYTES)) await memory.wanted();
    const [[start, end] = [0, Infinity], next] = memory.missing();
    return [start < PREAMBLE_BYTES ? 0 : start, next && end];
  }

  /** Past the HTTP cache, in which they may be as damaged. */
  async #again(start: number, end: number): Promise<Uint8Array | undefined> {
    const target = new Uint8Array(end - start);
    let filled = 0;
    for await (const { bytes, isWhole } of this.file.read(start, end, 'reload')) {
      if (isWhole && start > 0) return undefined;
      const part = bytes.subarray(0, target.length - filled);
      target.set(part, filled);
      filled += part.length;
      if (filled === target.length) return target;
    }
    throw this.endedEarly();
  }
}
