// One of the two cards: the picture with its boxes, and what was measured.
import { formatBytes, formatMs } from './format.js';

const SVG = 'http://www.w3.org/2000/svg';

export class VariantCard {
  #root;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  get name() {
    return this.#find('h2').textContent;
  }

  /** @param {number} bytes of the files that it takes */
  showSize(bytes) {
    this.#find('.size').textContent = formatBytes(bytes);
  }

  showPicture(picture) {
    const image = this.#find('.stage img');
    image.src = picture.url;
    image.alt = picture.own ? 'Your picture' : picture.name;
    this.clearBoxes();
    this.say('');
  }

  /** Back to the state before any download. */
  reset() {
    for (const value of this.#root.querySelectorAll('dd')) value.textContent = '–';
    this.clearBoxes();
    this.say('');
  }

  /** @param {{stage: string, loaded?: number, total?: number}} progress */
  showProgress({ stage, loaded, total }) {
    if (stage === 'received') this.say(`${formatBytes(loaded)} of ${formatBytes(total)}`);
    if (stage === 'session') this.say('Creating sessions…');
    if (stage === 'text') this.say('Looking for text…');
    if (stage === 'line') this.say(`Reading line ${loaded + 1} of ${total}…`);
  }

  showLoaded({ bytes, downloadedBytes, readyMs }) {
    this.#find('.bytes').textContent = downloadedBytes === 0 ? 'nothing' : formatBytes(downloadedBytes);
    this.#find('.ready').textContent = formatMs(readyMs);
    this.showSize(bytes);
  }

  /** @param {{lines: import('./agreement.js').Line[], recognitionMs: number}} result */
  showLines({ lines, recognitionMs }, { width, height }) {
    this.#find('.recognition').textContent = formatMs(recognitionMs);
    this.say(lines.length === 0 ? 'No text found.' : `${lines.length} ${lines.length === 1 ? 'line' : 'lines'} found`);
    const svg = this.#find('svg');
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.replaceChildren(
      ...lines.map(({ points }) => {
        const polygon = document.createElementNS(SVG, 'polygon');
        polygon.setAttribute('points', points.map((point) => point.map((at) => at.toFixed(1)).join()).join(' '));
        return polygon;
      }),
    );
  }

  /** @param {number} index of the line, or -1 for none */
  light(index) {
    this.#root.querySelectorAll('polygon').forEach((polygon, i) => polygon.classList.toggle('lit', i === index));
  }

  clearBoxes() {
    this.#find('svg').replaceChildren();
    this.#find('.recognition').textContent = '–';
  }

  /** A line under the picture. */
  say(text) {
    this.#find('.stage-status').textContent = text;
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }
}
