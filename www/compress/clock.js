// What the encoder does -> the line that says so: the stage, the tensor it is at, how long it has taken and may take.
import { formatLeft } from './numbers.js';
import { Work } from './work.js';

/** However often progress comes, so often it is shown. */
const SHOWN_MS = 100;

export class Clock {
  #parts;
  #onDone;
  #work;
  #start = performance.now();
  #timer;
  /** @type {import('./work.js').Step} */
  #step = { name: 'Loading the encoder', done: 0 };

  /**
   * @param {HTMLElement} line
   * @param {boolean} lossless
   * @param {(done: number) => void} onDone hears how much of everything is done, from 0 to 1
   */
  constructor(line, lossless, onDone) {
    const [stage, tensor, elapsed] = line.children;
    this.#parts = { stage, tensor, elapsed };
    this.#onDone = onDone;
    this.#work = new Work(lossless);
    this.#timer = setInterval(() => this.#show(), SHOWN_MS);
    this.#show();
  }

  /** @param {import('mcwc/encoder').EncodeProgress} progress */
  take(progress) {
    this.#step = this.#work.step(progress, performance.now());
  }

  /** @param {string} said instead of the stage; what was shown stays without */
  stop(said) {
    clearInterval(this.#timer);
    if (said === undefined) return;
    this.#say(said, '', '');
  }

  #show() {
    const now = performance.now();
    const left = this.#work.left(now);
    const rest = left && `${left.all ? '' : 'this step: '}${formatLeft(left.ms)} left, `;
    this.#say(this.#step.name, this.#step.tensor ?? '', `${rest ?? ''}${((now - this.#start) / 1000).toFixed(1)} s so far`);
    this.#onDone(this.#step.done);
  }

  /** The stage is a live region: to be spoken only when it changes. */
  #say(...texts) {
    Object.values(this.#parts).forEach((part, index) => {
      if (part.textContent !== texts[index]) part.textContent = texts[index];
    });
  }
}
