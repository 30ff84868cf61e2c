// The encoder's stages as they come -> how much of all its work is done and how long the rest may take, as far as can be told: how
// often it tries is not known before, so that each stage takes a part of what is left.

/**
 * `done`: of everything, from 0 to 1. `name`: the stage, as visitors read it.
 * @typedef {{name: string, tensor?: string, done: number}} Step
 * @typedef {{ms: number, all: boolean}} Left  of all the work, or of the stage alone
 */

const PARTS = { 'loading the runtime': 0.02, calibrating: 0.4, reading: 0.3, 'packing exact bytes': 0.1, 'finding the step': 0.4, 'coding weights': 0.7 };
/** Where nothing is coded with loss, this is all there is. */
const PACKING_ALONE = 0.95;
const OTHER_PART = 0.2;
/** What follows a stage, in its own lengths. After others it takes a tenth as long for some models, ten times as long for others. */
const AFTER = { 'finding the step': 1, 'coding weights': 0.2 };
/** Where a stage usually ends: the search for the step is over when it is close. */
const ENDS = { 'finding the step': 0.3 };
/** Of a stage, before it tells how long it takes. */
const TELLING = { part: 0.04, ms: 400 };

export class Work {
  #lossless;
  #stage;
  #start = 0;
  #length = 0;
  #startMs = 0;
  #rounds = new Map();
  /** @type {{ms: number, all: boolean, at: number} | undefined} */
  #estimate;

  /** @param {boolean} lossless */
  constructor(lossless) {
    this.#lossless = lossless;
  }

  /**
   * @param {import('mcwc/encoder').EncodeProgress} progress
   * @param {number} nowMs
   * @returns {Step}
   */
  step({ stage, done, tensor }, nowMs) {
    if (stage !== this.#stage) this.#begin(stage, nowMs);
    const round = this.#rounds.get(stage);
    const name = `${stage[0].toUpperCase()}${stage.slice(1)}${round > 1 ? `, round ${round}` : ''}`;
    const part = Math.min(1, done / (ENDS[stage] ?? 1));
    const ms = nowMs - this.#startMs;
    if (part >= TELLING.part && ms >= TELLING.ms) {
      const whole = ms / part;
      const after = this.#packsAlone ? 0 : AFTER[stage];
      this.#estimate = { ms: whole * (1 - part + (after ?? 0)), all: after !== undefined, at: nowMs };
    }
    return { name, tensor, done: this.#start + this.#length * part };
  }

  /** @param {number} nowMs @returns {Left | undefined} undefined where nothing tells, or what told was wrong */
  left(nowMs) {
    if (!this.#estimate) return undefined;
    const { ms, all, at } = this.#estimate;
    return nowMs - at < ms ? { ms: ms - (nowMs - at), all } : undefined;
  }

  get #packsAlone() {
    return this.#lossless && this.#stage === 'packing exact bytes';
  }

  #begin(stage, nowMs) {
    this.#stage = stage;
    this.#startMs = nowMs;
    // What was told of one stage alone is no longer true.
    if (!this.#estimate?.all) this.#estimate = undefined;
    this.#rounds.set(stage, (this.#rounds.get(stage) ?? 0) + 1);
    this.#start += this.#length;
    const part = this.#packsAlone ? PACKING_ALONE : (PARTS[stage] ?? OTHER_PART);
    this.#length = part * (1 - this.#start);
  }
}
