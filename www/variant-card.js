// One of the two cards: progress, the picture with its boxes, and what was measured.
import { formatBytes, formatMs } from './format.js';

const SVG = 'http://www.w3.org/2000/svg';

export class VariantCard {
  #root;

  /** @param {HTMLElement} root @param {{decodes: boolean}} options */
  constructor(root, { decodes }) {
    this.#root = root;
    root.append(document.getElementById('card-body').content.cloneNode(true));
    if (!decodes) this.#find('.decode-row').remove();
    root.querySelectorAll('label').forEach((label) => {
      label.querySelector('progress').setAttribute('aria-label', `${label.querySelector('.what').textContent}, ${this.name}`);
    });
  }

  get name() {
    return this.#find('h2').textContent;
  }

  /** @param {number} bytes what a run will download */
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
    for (const bar of this.#root.querySelectorAll('progress')) bar.value = 0;
    for (const amount of this.#root.querySelectorAll('.amount')) amount.textContent = '';
    for (const value of this.#root.querySelectorAll('dd')) value.textContent = '–';
    this.#find('.backend').textContent = '';
    this.clearBoxes();
    this.say('');
  }

  /** @param {{stage: string, loaded: number, total: number}} progress */
  showProgress({ stage, loaded, total }) {
    if (stage === 'session') return this.say('Creating the sessions…');
    if (stage === 'recognize') return this.say(`Reading line ${loaded + 1} of ${total}…`);
    const bar = this.#find(`progress.${stage}`);
    if (Number.isFinite(total) && total > 0) bar.value = loaded / total;
    else bar.removeAttribute('value');
    const amount = Number.isFinite(total) ? `${formatBytes(loaded)} of ${formatBytes(total)}` : formatBytes(loaded);
    bar.closest('label').querySelector('.amount').textContent = amount;
  }

  showLoaded({ downloadedBytes, weightsMs, sessionMs, backend, backendReason }) {
    this.#find('.bytes').textContent = formatBytes(downloadedBytes);
    this.#find('.weights').textContent = formatMs(weightsMs);
    this.#find('.session').textContent = formatMs(sessionMs);
    if (backend === undefined) return;
    const where = backend === 'webgpu' ? 'the GPU (WebGPU)' : 'the CPU (wasm)';
    this.#find('.backend').textContent = `Decoded on ${where}${backendReason ? `: ${backendReason}` : ''}`;
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
