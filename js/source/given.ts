// What the caller has: a blob or a file, read when its bytes are needed, or a stream. Loaded only then.
import { McwcError } from '../errors.js';
import { isArchive } from '../found.js';
import type { MemorySource, Report } from './memory.js';
import { PREAMBLE_BYTES, type Source } from './source.js';

export class BlobSource implements Source {
  readonly complete: Promise<void>;
  #error: unknown;
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(
    private readonly blob: Blob,
    private readonly report: Report,
  ) {
    this.complete = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.complete.catch(() => {});
  }

  has(offset: number, bytes: number): boolean {
    return offset + bytes <= this.blob.size;
  }

  async available(offset: number, bytes: number): Promise<void> {
    if (this.#error) throw this.#error;
    if (!this.has(offset, bytes)) {
      const incomplete = new McwcError('incomplete', `incomplete: ${offset + bytes} bytes are needed, there are ${this.blob.size}`);
      const begin = await this.blob.slice(0, PREAMBLE_BYTES).arrayBuffer();
      throw otherThan(new Uint8Array(begin)) ?? incomplete;
    }
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    await this.available(offset, target.length);
    try {
      target.set(new Uint8Array(await this.blob.slice(offset, offset + target.length).arrayBuffer()));
    } catch (error) {
      throw new McwcError('io', `the blob could not be read: ${(error as Error).message}`, { cause: error });
    }
  }

  async refetch(): Promise<boolean> {
    return false;
  }

  release(): void {}

  expect(bytes: number): void {
    const { size } = this.blob;
    if (size > bytes) this.close(new McwcError('invalid', 'invalid archive: bytes follow the last chunk'));
    else if (size < bytes) this.available(0, bytes).catch(this.#settle.reject);
    else {
      this.#settle.resolve();
      this.report({ loaded: size, total: size, from: 'memory' });
    }
  }

  close(error: unknown): void {
    this.#error ??= error;
    this.#settle.reject(error);
  }
}

/** Of what ends too early: what is wrong if it was no archive at all. */
function otherThan(begin: Uint8Array): McwcError | undefined {
  if (begin.length > 0 && !isArchive(begin)) return new McwcError('invalid', 'invalid magic: not an mcwc archive');
}

/** All that a stream brings, in memory. */
export function receive(stream: ReadableStream<Uint8Array>, memory: MemorySource): void {
  const reader = stream.getReader();
  memory.supply = { close: (error) => void reader.cancel(error).catch(() => {}) };
  const pump = async () => {
    for (let offset = 0; ; ) {
      const { value } = await reader.read();
      if (!value) {
        const begin = new Uint8Array(offset < PREAMBLE_BYTES ? offset : 0);
        memory.bytes.read(0, begin);
        return memory.end(otherThan(begin));
      }
      memory.write(offset, value, 'network');
      offset += value.length;
    }
  };
  const failed = (error: unknown) => new McwcError('io', `the stream failed: ${(error as Error | undefined)?.message}`, { cause: error });
  pump().catch((error) => memory.end(failed(error)));
}
