// Names of files that wasm has made and not yet finished, in memory that outlives its thread: whoever ends the thread removes them.

const NAMES = 16;
const NAME_BYTES = 8192;
const SLOT_BYTES = 4 + NAME_BYTES;

export class CreatedFiles {
  /** Of each name its length, or 0. */
  readonly #lengths: Int32Array;

  constructor(readonly memory = new SharedArrayBuffer(NAMES * SLOT_BYTES)) {
    this.#lengths = new Int32Array(memory);
  }

  /** Before the file is made. The length is written last, so that half a name is none. */
  add(path: string): void {
    const name = new TextEncoder().encode(path);
    const free = this.#slots().find((slot) => this.#length(slot) === 0);
    if (free === undefined || name.length > NAME_BYTES) return;
    new Uint8Array(this.memory, free * SLOT_BYTES + 4, name.length).set(name);
    Atomics.store(this.#lengths, (free * SLOT_BYTES) / 4, name.length);
  }

  delete(path: string): void {
    for (const slot of this.#slots()) {
      if (this.#name(slot) === path) Atomics.store(this.#lengths, (slot * SLOT_BYTES) / 4, 0);
    }
  }

  get names(): string[] {
    return this.#slots().map((slot) => this.#name(slot)).filter(Boolean);
  }

  #slots(): number[] {
    return [...Array(NAMES).keys()];
  }

  #length(slot: number): number {
    return Atomics.load(this.#lengths, (slot * SLOT_BYTES) / 4);
  }

  #name(slot: number): string {
    return new TextDecoder().decode(new Uint8Array(this.memory, slot * SLOT_BYTES + 4, this.#length(slot)).slice());
  }
}
