// What the two variants have in common: the verdict in three figures, and the lines side by side. Also in three figures: both decoders.
import { formatBytes, formatMs, formatRatio, formatShare } from './format.js';

/** What differs by less is called the same. */
const NOTICEABLE = 1.05;

/**
 * A gain is green, a loss is said.
 * @param {HTMLElement} root
 * @param {{archive: object, original: object}} loaded what each variant measured
 * @param {{characters: number, agreeing: number}} agreement
 */
export function showVerdict(root, { archive, original }, { characters, agreeing }) {
  root.replaceChildren(
    ratio(original.readyMs / archive.readyMs, {
      words: ['sooner', 'later', 'At the same time'],
      meaning: `ready to read after ${formatMs(archive.readyMs)}, the original after ${formatMs(original.readyMs)}`,
    }),
    smaller(archive.bytes, original.bytes),
    characters === 0
      ? figure('No text', 'found by either', false)
      : figure(formatShare(agreeing, characters), `of ${characters} characters agree`, agreeing === characters),
  );
}

/**
 * Before there is one, or when it no longer holds: what the sizes tell.
 * @param {HTMLElement} root
 * @param {Record<'archive' | 'original', number>} sizes
 * @param {number} bitsPerSecond
 */
export function showExpected(root, sizes, bitsPerSecond) {
  const download = (bytes) => formatMs((8000 * bytes) / bitsPerSecond);
  root.replaceChildren(
    Number.isFinite(bitsPerSecond)
      ? figure(download(sizes.archive), `to download at ${bitsPerSecond / 1e6} Mbit/s, the original ${download(sizes.original)}`, false)
      : figure('–', 'ready to read', false),
    smaller(sizes.archive, sizes.original),
    figure('–', 'of the text agrees: compare, to see', false),
  );
}

/**
 * @param {HTMLElement} root
 * @param {Awaited<ReturnType<typeof import('./models.js').timeDecoding>>} timed
 */
export function showDecoding(root, { gpu: { ms, bytes, stats }, cpu }) {
  root.replaceChildren(
    ratio(cpu.ms / ms, {
      words: ['faster', 'slower', 'As fast'],
      meaning: `${formatMs(ms)} on the GPU, where the weights stay; ${formatMs(cpu.ms)} on the CPU`,
    }),
    figure(formatMs(stats.uploadMs), `to send up ${formatBytes(stats.uploadedBytes)}, which become ${formatBytes(bytes)} there`, false),
    figure(formatMs(stats.decodeMs), `to decode them there; checking hashes takes ${formatMs(stats.verifyMs)}`, false),
  );
}

function smaller(archive, original) {
  const meaning = `${formatBytes(archive)}, the original ${formatBytes(original)}`;
  return ratio(original / archive, { words: ['smaller', 'larger', 'The same size'], meaning });
}

/** @param {number} times what the original takes, of what the archive takes */
function ratio(times, { words: [more, less, same], meaning }) {
  if (times >= NOTICEABLE) return figure(`${formatRatio(times)} ${more}`, meaning, true);
  if (times <= 1 / NOTICEABLE) return figure(`${formatRatio(1 / times)} ${less}`, meaning, false);
  return figure(same, meaning, false);
}

/**
 * @param {HTMLOListElement} list
 * @param {import('./agreement.js').Pair[]} pairs
 * @param {(pair: import('./agreement.js').Pair | null) => void} onLocate called with the line to show in the pictures
 */
export function showPairs(list, pairs, onLocate) {
  let pinned = null;
  list.replaceChildren(
    ...pairs.map((pair, index) => {
      const equal = pair.agreeing === pair.characters;
      const item = element('li', equal ? 'same' : '');
      const locate = element('button', 'locate', String(index + 1));
      locate.type = 'button';
      locate.setAttribute('aria-pressed', 'false');
      locate.setAttribute('aria-label', `Show line ${index + 1} in the pictures`);
      locate.addEventListener('click', () => {
        pinned = pinned === pair ? null : pair;
        for (const button of list.querySelectorAll('.locate')) {
          button.setAttribute('aria-pressed', String(pinned !== null && button === locate));
        }
        onLocate(pinned);
      });
      item.addEventListener('pointerenter', () => onLocate(pair));
      item.addEventListener('pointerleave', () => onLocate(pinned));
      item.append(
        locate,
        text('mcwc archive', pair.archive, pair.archiveRuns, 'text first'),
        text('Original ONNX', pair.original, pair.originalRuns, 'text'),
        element('span', equal ? 'share equal' : 'share', formatShare(pair.agreeing, pair.characters)),
      );
      return item;
    }),
  );
}

function text(from, line, runs, className) {
  const cell = element('div', className);
  cell.append(element('span', 'from', from));
  if (line === undefined) cell.append(element('span', 'none', 'not found'));
  cell.append(...runs.map((run) => (run.same ? run.text : element('mark', '', run.text))));
  return cell;
}

function figure(value, meaning, isGain) {
  const box = element('div');
  box.append(element('strong', isGain ? 'gain' : '', value), element('p', '', meaning));
  return box;
}

function element(tag, className = '', content = '') {
  return Object.assign(document.createElement(tag), { className, textContent: content });
}
