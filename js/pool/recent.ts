// Keeps the memory of decoders that rest in bounds: those used last keep what they hold, as they may well be used again.

/** Each has a few megabytes of a wasm memory, which never shrinks. */
const RESTING_MAX = 3;

/** What can be used again after it dropped what it holds. */
export interface Holder {
  drop(): void;
}

export class Recent {
  /** The one that has rested longest comes first. */
  #resting = new Set<Holder>();

  wake(holder: Holder): void {
    this.#resting.delete(holder);
  }

  rest(holder: Holder): void {
    this.#resting.add(holder);
    if (this.#resting.size <= RESTING_MAX) return;
    const [oldest] = this.#resting;
    this.#resting.delete(oldest);
    oldest.drop();
  }
}
