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
  async run(answer = this.file.read(0)): Promise<void> {
    const { file, memory } = this;
    const attempts = new Attempts(file, this.retrying);
    for (;;) {
      try {
        for await (const part of answer) if (this.keep(part) > 0) attempts.succeeded();
        await memory.wanted();
        throw this.endedEarly();
      } catch (error) {
        // What goes wrong after the last byte does not matter.
        if (memory.isFull) return;
        try {
          await attempts.next(error);
        } catch (failure) {
          return memory.end(failure);
        }
      }
      const [[start]] = memory.missing();
      answer = file.read(start < PREAMBLE_BYTES ? 0 : start);
    }
  }

  async refetch(start: number, end: number): Promise<Uint8Array | undefined> {
    const { file, retrying } = this;
    const attempts = new Attempts(file, retrying);
    if (start === 0) file.forgetPreamble();
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
