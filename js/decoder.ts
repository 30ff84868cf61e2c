// Payloads -> verified and decoded bytes, on whatever thread this runs.
import type { Step } from './steps.js';
import { type Wasm, type WasmArchive, load, parse, verifyLoaded } from './wasm.js';

/** Steps, and the payloads of their chunks one after another. */
export interface Gathered {
  steps: Step[];
  payloads: Uint8Array<ArrayBuffer>;
  /** Length of each step's payload. */
  lengths: number[];
}

export interface Batch extends Gathered {
  /** Whether the hash of each payload has been checked; wasm has to check the others. */
  verified: boolean[];
}

export class Decoder {
  readonly archive: WasmArchive;
  readonly memory: WebAssembly.Memory;
  #raw = new Uint8Array();
  /** The chunk that `#raw` comes from. */
  #rawChunk = -1;

  constructor(wasm: Wasm, heads: Uint8Array[]) {
    this.memory = wasm.memory;
    this.archive = parse(wasm, heads);
  }

  /** Carries out the steps of a batch, and pauses after each. */
  *decode({ steps, payloads, lengths, verified }: Batch, out: Uint8Array): Generator<void> {
    let end = 0;
    for (const [index, step] of steps.entries()) {
      if (step.chunk >= 0) {
        load(this.archive, this.memory, payloads.subarray(end, (end += lengths[index])));
        if (!verified[index]) verifyLoaded(this.archive, step.chunk);
      }
      yield this.#carryOut(step, out);
    }
  }

  free(): void {
    this.archive.free();
  }

  #carryOut(step: Step, out: Uint8Array): void {
    const { archive } = this;
    if (step.frame < 0) {
      // A chunk of one byte repeated serves files of any length.
      if (step.chunk >= 0 && (step.chunk !== this.#rawChunk || step.decoded !== this.#raw.length)) {
        archive.decodeRaw(step.chunk, step.decoded);
        this.#raw = this.#decoded(step.decoded).slice();
        this.#rawChunk = step.chunk;
      }
      out.set(this.#raw.subarray(step.skip, step.skip + step.take), step.at);
    } else if (step.index < 0) {
      archive.openFrame(step.frame);
    } else if (!step.gives) {
      archive.decodeReference(step.frame, step.index);
    } else {
      const decoded = this.#decoded(archive.decodeChunk(step.index));
      if (step.scattered) placeRuns(decoded, archive.places(step.index)!, step, out);
      else out.set(decoded.subarray(step.skip, step.skip + step.take), step.at);
    }
  }

  #decoded(bytes: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, this.archive.decoded(), bytes);
  }
}

function placeRuns(decoded: Uint8Array, offsets: Float64Array, step: Step, out: Uint8Array): void {
  const runBytes = decoded.length / offsets.length;
  for (let run = 0; run < offsets.length; run++) {
    const place = offsets[run] - step.skip;
    const from = Math.max(0, -place);
    const to = Math.min(runBytes, step.take - place);
    if (from < to) out.set(decoded.subarray(run * runBytes + from, run * runBytes + to), step.at + place + from);
  }
}
