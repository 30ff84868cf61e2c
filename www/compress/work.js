// The encoder's stages as they come -> how much of all its work is done, as far as can be told: how often it tries is not known
// before, so that each stage takes a part of what is left.

const PARTS = { reading: 0.4, 'packing exact bytes': 0.15, 'finding the step': 0.45, 'coding weights': 0.6 };
/** Where nothing is coded with loss, this is all there is. */
const PACKING_ALONE = 0.95;
const OTHER_PART = 0.2;

export class Work {
  #lossless;
  #stage;
  #start = 0;
  #length = 0;
  #rounds = new Map();

  /** @param {boolean} lossless */
  constructor(lossless) {
    this.#lossless = lossless;
  }

  /**
   * @param {import('mcwc/encoder').EncodeProgress} progress
   * @returns {{name: string, done: number}} the stage as visitors read it, and how much of everything is done, from 0 to 1
   */
  step({ stage, done }) {
    if (stage !== this.#stage) this.#begin(stage);
    const round = this.#rounds.get(stage);
    const name = `${stage[0].toUpperCase()}${stage.slice(1)}${round > 1 ? `, round ${round}` : ''}`;
    return { name, done: this.#start + this.#length * done };
  }

  #begin(stage) {
    this.#stage = stage;
    this.#rounds.set(stage, (this.#rounds.get(stage) ?? 0) + 1);
    this.#start += this.#length;
    const part = this.#lossless && stage === 'packing exact bytes' ? PACKING_ALONE : (PARTS[stage] ?? OTHER_PART);
    this.#length = part * (1 - this.#start);
  }
}
