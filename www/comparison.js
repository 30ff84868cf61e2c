// What the two variants have in common: the verdict in three figures, and the lines side by side.
import { formatRatio, formatShare } from './format.js';

/**
 * @param {HTMLElement} root
 * @param {{archive: object, original: object}} loaded what each variant measured
 * @param {{characters: number, agreeing: number}} agreement
 */
export function showVerdict(root, { archive, original }, { characters, agreeing }) {
  const sooner = original.weightsMs / archive.weightsMs;
  const smaller = original.downloadedBytes / archive.downloadedBytes;
  root.replaceChildren(
    figure(formatRatio(Math.max(smaller, 1 / smaller)), smaller >= 1 ? 'smaller download' : 'larger download'),
    figure(formatRatio(Math.max(sooner, 1 / sooner)), sooner >= 1 ? 'sooner to weights' : 'later to weights'),
    characters === 0
      ? figure('No text', 'found by either')
      : figure(formatShare(agreeing, characters), `agreement over ${characters} characters`),
  );
  root.hidden = false;
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

function figure(value, meaning) {
  const box = element('div');
  box.append(element('strong', '', value), element('p', '', meaning));
  return box;
}

function element(tag, className = '', content = '') {
  return Object.assign(document.createElement(tag), { className, textContent: content });
}
