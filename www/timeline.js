// What happens while a variant is loaded and reads its first picture, as bars on one time axis for both.
import { formatMs } from './format.js';

/** Ends of the axis, in seconds. */
const AXIS_SECONDS = [1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 60, 90, 120, 180, 300, 600];
const TICKS = 5;
/** Besides the download, to begin with. */
const REST_MS = 2000;
/** Below this, a bar could not be seen. */
const SHARE_MIN = 0.004;

/** @typedef {{start: number, end: number, isOpen: boolean}} Bar  in milliseconds; one that is open ends now */

export class Timeline {
  #root;
  #axisMs = 0;
  /** The runs, each with the bars of its stages. @type {Record<string, {root: HTMLElement, bars: Map<string, Bar>, began: number}>} */
  #runs;
  /** The run that goes on. */
  #current;

  /** @param {HTMLElement} root @param {string[]} variants */
  constructor(root, variants) {
    this.#root = root;
    const run = (variant) => [variant, { root: root.querySelector(`.run.${variant}`), bars: new Map(), began: 0 }];
    this.#runs = Object.fromEntries(variants.map(run));
    this.#scale(0);
  }

  /** @param {number[]} downloadsMs how long the downloads should take, so that the axis need not grow meanwhile */
  reset(downloadsMs) {
    this.#axisMs = 0;
    this.#current = undefined;
    for (const run of Object.values(this.#runs)) {
      run.bars.clear();
      run.root.querySelector('.origin').textContent = 'not loaded yet';
      for (const time of run.root.querySelectorAll('.time')) time.textContent = '–';
    }
    this.#scale(Math.max(...downloadsMs) + REST_MS);
  }

  /** @param {string} variant @param {{stage: string, loaded?: number, total?: number, ms: number}} progress since its first request */
  show(variant, { stage, loaded, total, ms }) {
    const run = this.#runs[variant];
    if (stage === 'begin') {
      run.began = performance.now();
      this.showOrigin(variant, 'loading…');
      this.#current = run;
      requestAnimationFrame(() => this.#follow(run));
    } else if (stage === 'received' || stage === 'decoded') {
      const { start } = run.bars.get(stage) ?? { start: stage === 'received' ? 0 : ms };
      this.#set(run, stage, { start, end: ms, isOpen: loaded !== total });
    } else if (stage === 'session' || stage === 'text') {
      this.#close(run, ms);
      this.#set(run, stage, { start: ms, end: ms, isOpen: true });
    }
  }

  /** @param {string} variant @param {number} ms when the last stage ended */
  finish(variant, ms) {
    this.#close(this.#runs[variant], ms);
    this.#current = undefined;
  }

  /** @param {string} variant @param {string} text where its bytes came from */
  showOrigin(variant, text) {
    this.#runs[variant].root.querySelector('.origin').textContent = text;
  }

  /** Ends what is under way. */
  stop() {
    this.#current = undefined;
  }

  #close(run, ms) {
    for (const [stage, bar] of run.bars) {
      if (bar.isOpen) this.#set(run, stage, { ...bar, end: ms, isOpen: false });
    }
  }

  /** Moves the ends of open bars until the run is over. */
  #follow(run) {
    if (this.#current !== run) return;
    const now = performance.now() - run.began;
    for (const [stage, bar] of run.bars) if (bar.isOpen) this.#draw(run, stage, { ...bar, end: Math.max(bar.end, now) });
    requestAnimationFrame(() => this.#follow(run));
  }

  #set(run, stage, bar) {
    run.bars.set(stage, bar);
    this.#draw(run, stage, bar);
    if (!bar.isOpen) run.root.querySelector(`.${stage} .time`).textContent = formatMs(bar.end);
  }

  #draw(run, stage, { start, end }) {
    if (end > this.#axisMs) this.#scale(end);
    const bar = run.root.querySelector(`.${stage} i`);
    bar.style.setProperty('--from', start / this.#axisMs);
    bar.style.setProperty('--to', Math.max(end / this.#axisMs, start / this.#axisMs + SHARE_MIN));
  }

  #scale(ms) {
    const seconds = AXIS_SECONDS.find((end) => end * 1000 >= ms) ?? Math.ceil(ms / 1000);
    this.#axisMs = seconds * 1000;
    const labels = Array.from({ length: TICKS + 1 }, (_, index) => {
      const label = document.createElement('span');
      label.textContent = Number(((seconds * index) / TICKS).toFixed(1));
      return label;
    });
    this.#root.querySelector('.ticks').replaceChildren(...labels);
    for (const run of Object.values(this.#runs)) {
      for (const bar of run.root.querySelectorAll('i')) bar.removeAttribute('style');
      for (const [stage, bar] of run.bars) this.#draw(run, stage, bar);
    }
  }
}
