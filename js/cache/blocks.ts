// Ranges of an archive that are kept, each in a file of its own, found by place.
import { Ranges } from '../source/ranges.js';

export interface Block {
  readonly start: number;
  readonly end: number;
}

/** Blocks in ascending order; where two tabs wrote the same bytes they overlap. */
export class Blocks {
  #sorted: Block[] = [];
  /** What they cover. */
  readonly kept = new Ranges();

  *[Symbol.iterator](): Iterator<Block> {
    yield* this.#sorted;
  }

  add(...blocks: Block[]): void {
    this.#sorted = [...this.#sorted, ...blocks].sort((a, b) => a.start - b.start || a.end - b.end);
    for (const { start, end } of blocks) this.kept.add(start, end);
  }

  remove(block: Block): void {
    this.#sorted = this.#sorted.filter((other) => other !== block);
    this.kept.clear();
    for (const { start, end } of this.#sorted) this.kept.add(start, end);
  }

  /** The one with that byte that reaches furthest. */
  at(offset: number): Block | undefined {
    return this.touching(offset, offset + 1).reduce<Block | undefined>((a, b) => (a && a.end >= b.end ? a : b), undefined);
  }

  touching(start: number, end: number): Block[] {
    return this.#sorted.filter((block) => block.start < end && start < block.end);
  }
}

export function nameOf({ start, end }: Block): string {
  return `${start}-${end}`;
}

/** Undefined for what is no block's name. */
export function blockOf(name: string): Block | undefined {
  const [, start, end] = /^(\d+)-(\d+)$/.exec(name) ?? [];
  return end === undefined ? undefined : { start: Number(start), end: Number(end) };
}
