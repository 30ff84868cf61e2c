// What a run leaves -> links that save it.
import { formatSize } from './numbers.js';

/**
 * @typedef {import('./calibrate-worker.js').Statistics} Statistics
 */

/** @param {Statistics} statistics as the command calls it */
export function statisticsName({ name }) {
  return `${name.slice(name.lastIndexOf('/') + 1).replace(/\.onnx$/i, '')}.stats.safetensors`;
}

export class Downloads {
  #archive;
  #statistics;

  /** @param {HTMLAnchorElement} archive @param {HTMLElement} statistics where links to these go */
  constructor(archive, statistics) {
    this.#archive = archive;
    this.#statistics = statistics;
  }

  /** @param {Blob} archive @param {string} name @param {Statistics[]} statistics */
  offer(archive, name, statistics) {
    point(this.#archive, archive, name, `Download ${formatSize(archive.size)}`);
    const links = statistics.map((each) => {
      const link = Object.assign(document.createElement('a'), { className: 'secondary' });
      point(link, new Blob([each.bytes]), statisticsName(each), `Its statistics, ${formatSize(each.bytes.length)}`);
      link.title = link.download;
      return link;
    });
    this.#statistics.replaceChildren(...links);
  }

  withdraw() {
    for (const link of [this.#archive, ...this.#statistics.children]) URL.revokeObjectURL(link.href);
    this.#archive.removeAttribute('href');
    this.#statistics.replaceChildren();
  }
}

function point(link, blob, name, text) {
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.textContent = text;
}
