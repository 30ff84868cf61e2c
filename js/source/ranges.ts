// A set of byte offsets, as ranges.

/** From the first up to, not including, the second. */
export type Range = [start: number, end: number];

export class Ranges {
  /** Bytes in all. */
  size = 0;
  /** Ascending, disjoint, and no two touch. */
  #ranges: Range[] = [];

  has(start: number, end: number): boolean {
    return start >= end || this.#ranges.some(([first, last]) => first <= start && end <= last);
  }

  add(start: number, end: number): void {
    if (start >= end) return;
    const apart = this.#ranges.filter(([first, last]) => last < start || end < first);
    for (const [first, last] of this.#ranges) {
      if (last < start || end < first) continue;
      start = Math.min(start, first);
      end = Math.max(end, last);
    }
    this.#set([...apart, [start, end]]);
  }

  remove(start: number, end: number): void {
    const cut = ([first, last]: Range): Range[] => [[first, Math.min(last, start)], [Math.max(first, end), last]];
    this.#set(this.#ranges.flatMap(cut));
  }

  clear(): void {
    this.#set([]);
  }

  /** What of a range is not in the set. */
  missing(start: number, end: number): Range[] {
    const gaps: Range[] = [];
    for (const [first, last] of this.#ranges) {
      if (start < first) gaps.push([start, Math.min(first, end)]);
      start = Math.max(start, last);
      if (start >= end) break;
    }
    if (start < end) gaps.push([start, end]);
    return gaps.filter(([first, last]) => first < last);
  }

  [Symbol.iterator](): Iterator<Range> {
    return this.#ranges[Symbol.iterator]();
  }

  #set(ranges: Range[]): void {
    this.#ranges = ranges.filter(([start, end]) => start < end).sort(([a], [b]) => a - b);
    this.size = this.#ranges.reduce((size, [start, end]) => size + end - start, 0);
  }
}
