// Whether a GPU makes something of weights sooner than the CPU, as measured on large tensors.

/** Weights that take long enough to tell. */
const LARGE_LEN = 1 << 20;
/** From how many times as many weights the GPU is measured again when the CPU was sooner. */
const AGAIN = 4;

/** One for each device and kind of result: archives that are opened later find what has been measured. */
export class Choice {
  /** What was measured last, to be added to a reason. */
  measured = '';
  /** Whether something is measured now. */
  isBusy = false;
  /** Threads and pipelines may be slow the first time, which says nothing. */
  #isWarm = false;

  /** `below`: the CPU makes what has fewer weights. `isSettled`: nothing is to be measured. */
  constructor(
    private readonly name: string,
    public below: number,
    private isSettled = false,
  ) {}

  /** Whether so many weights are to be measured. */
  isOpen(len: number): boolean {
    return !this.isSettled && len >= LARGE_LEN && len >= this.below;
  }

  /** How long they took. */
  learn(len: number, gpuMs: number, cpuMs: number): void {
    if (this.#isWarm && gpuMs <= cpuMs) this.isSettled = true;
    else if (this.#isWarm) this.below = AGAIN * len;
    this.#isWarm = true;
    const [from, many, gpu, cpu] = [this.below / 1e6, len / 1e6, gpuMs, cpuMs].map((value) => value.toFixed(1));
    this.measured = `; the GPU makes ${this.name} from ${from} million weights on, ${many} million in ${gpu} ms, the CPU in ${cpu}`;
  }
}

/** The result, and the milliseconds that it took. */
export async function timed<T>(run: () => Promise<T>): Promise<[T, number]> {
  const began = performance.now();
  return [await run(), performance.now() - began];
}
