// Results one after another, the next begun ahead, and the memory of those that are done with used again.

/** Begun before they are asked for, so that two workers can be busy. */
const AHEAD = 1;

export interface Task<Result> {
  bytes: number;
  /** `buffer`: memory for the result, if there is some. */
  run(buffer: ArrayBuffer | undefined): Promise<Result>;
}

/** `memoryOf`: what can be used again when the next result is asked for. `spare`: where that is kept, for those who begin anew. */
export async function* inTurn<Result>(
  tasks: Iterable<Task<Result>>,
  memoryOf: (result: Result) => ArrayBuffer,
  spare: ArrayBuffer[] = [],
): AsyncGenerator<Result, void> {
  const begun: Promise<Result>[] = [];
  const begin = ({ bytes, run }: Task<Result>) => {
    const [buffer] = spare.splice(Math.max(0, spare.findIndex(({ byteLength }) => byteLength >= bytes)), 1);
    const result = run(buffer?.byteLength >= bytes ? buffer : undefined);
    // Noticed when it is its turn.
    result.catch(() => {});
    begun.push(result);
  };
  const rest = tasks[Symbol.iterator]();
  for (;;) {
    for (let next; begun.length <= AHEAD && !(next = rest.next()).done; ) begin(next.value);
    const first = begun.shift();
    if (!first) return;
    const result = await first;
    yield result;
    if (spare.length <= AHEAD) spare.push(memoryOf(result));
  }
}
