// The page: chooses a picture, runs the two variants one after the other, and shows what came of it.
import { compareLines } from './agreement.js';
import { showPairs, showVerdict } from './comparison.js';
import { formatBytes, formatShare } from './format.js';
import { OcrClient } from './ocr-client.js';
import { SAMPLES, listenForFiles, openPicture, pictureTile, toBitmap } from './pictures.js';
import { SOURCES } from './sources.js';
import { VariantCard } from './variant-card.js';

const byId = (id) => document.getElementById(id);
const BASE = document.baseURI;

const isLoopback = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);

/** In the order in which they run. */
const VARIANTS = ['archive', 'original'];

const cards = {
  archive: new VariantCard(byId('archive'), { decodes: true }),
  original: new VariantCard(byId('original'), { decodes: false }),
};

/** @type {import('./pictures.js').Picture} */
let picture;
/** @type {HTMLElement | undefined} */
let ownTile;
/** @type {OcrClient | undefined} */
let client;
let running = false;
/** What each variant measured when it was last loaded; empty while nothing is loaded. */
let loaded = {};

SAMPLES.forEach((sample, index) => {
  const { tile, input } = pictureTile(sample);
  input.checked = index === 0;
  input.addEventListener('change', () => choose(sample));
  byId('tiles').querySelector('.pick').before(tile);
});
choose(SAMPLES[0]);
announceSizes();

listenForFiles(byId('file'), async (file) => {
  showError(null);
  try {
    const own = await openPicture(file);
    const { tile, input } = pictureTile(own);
    input.addEventListener('change', () => choose(own));
    ownTile?.remove();
    ownTile = tile;
    byId('tiles').querySelector('.pick').before(tile);
    input.checked = true;
    choose(own);
  } catch (error) {
    showError(error);
  }
});

byId('controls').addEventListener('submit', (event) => {
  event.preventDefault();
  if (running) return stop();
  loaded = {};
  for (const card of Object.values(cards)) card.reset();
  run();
});

/** @param {import('./pictures.js').Picture} chosen */
function choose(chosen) {
  picture = chosen;
  showError(null);
  hideComparison();
  for (const card of Object.values(cards)) card.showPicture(chosen);
  if (!running && VARIANTS.every((variant) => loaded[variant])) run();
  else if (!running) say('Choose a picture, then compare.');
}

/** Loads what is not loaded and reads the chosen picture, until the picture read is the one chosen. */
async function run() {
  setRunning(true);
  showError(null);
  hideComparison();
  try {
    if (!client) {
      say('Starting the runtime that both variants share…');
      client = new OcrClient();
      await client.start(BASE, ({ loaded: bytes, total }) => {
        say(`Starting the runtime that both variants share: ${formatBytes(bytes)} of ${formatBytes(total)}`);
      });
    }
    let reading;
    do {
      reading = picture;
      await read(reading);
    } while (picture !== reading);
  } catch (error) {
    if (error.name === 'AbortError') return;
    discardClient();
    for (const card of Object.values(cards)) card.reset();
    showError(error);
    say('');
  } finally {
    setRunning(false);
  }
}

async function read(reading) {
  const results = {};
  const bitmap = await toBitmap(reading);
  for (const variant of VARIANTS) {
    const card = cards[variant];
    const onProgress = (progress) => card.showProgress(progress);
    if (!loaded[variant]) {
      say(`Loading: ${card.name}`);
      loaded[variant] = await client.load(variant, loadOptions(), onProgress);
      card.showLoaded(loaded[variant]);
    }
    if (picture !== reading) break;
    say(`Reading the picture: ${card.name}`);
    card.say('Looking for text…');
    results[variant] = await client.recognize(variant, bitmap, onProgress);
    if (picture !== reading) break;
    card.showLines(results[variant], bitmap);
  }
  if (picture === reading) showComparison(results);
  bitmap.close();
}

function loadOptions() {
  return { base: BASE, bitsPerSecond: Number(byId('connection').value), backend: byId('backend').value };
}

function showComparison({ archive, original }) {
  const agreement = compareLines(archive.lines, original.lines);
  showVerdict(byId('verdict'), loaded, agreement);
  byId('reading').hidden = agreement.pairs.length === 0;
  showPairs(byId('lines'), agreement.pairs, (pair) => {
    cards.archive.light(archive.lines.indexOf(pair?.archive));
    cards.original.light(original.lines.indexOf(pair?.original));
  });
  const { characters, agreeing } = agreement;
  say(
    (characters === 0 ? 'Done. Neither variant found text.' : `Done. ${formatShare(agreeing, characters)} of the text agrees.`) +
      (isLoopback && loadOptions().bitsPerSecond === Infinity
        ? ' Served locally: slow the connection to see what visitors get.'
        : ''),
  );
}

function hideComparison() {
  byId('verdict').hidden = true;
  byId('reading').hidden = true;
}

function stop() {
  discardClient();
  for (const card of Object.values(cards)) card.reset();
  say('Stopped.');
}

function discardClient() {
  client?.close();
  client = undefined;
  loaded = {};
}

function setRunning(value) {
  running = value;
  byId('compare').setAttribute('aria-busy', String(running));
  const button = byId('run');
  button.classList.toggle('stop', running);
  button.textContent = running ? 'Stop' : loaded.original ? 'Download again' : 'Compare';
  for (const setting of [byId('connection'), byId('backend')]) setting.disabled = running;
}

async function announceSizes() {
  for (const variant of VARIANTS) {
    const sizes = await Promise.all(SOURCES[variant].map((path) => announcedBytes(new URL(path, BASE))));
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    if (bytes > 0) cards[variant].showSize(bytes);
  }
}

/** NaN if the server does not say: whatever is wrong then is reported when the file is really needed. */
async function announcedBytes(url) {
  const head = await fetch(url, { method: 'HEAD' }).catch(() => null);
  return head?.ok ? Number(head.headers.get('content-length') ?? NaN) : NaN;
}

function say(text) {
  byId('status').textContent = text;
}

/** @param {(Error & {code?: string}) | null} error */
function showError(error) {
  byId('alert').hidden = error === null;
  byId('alert').textContent = error === null ? '' : `${error.message}${error.code ? ` (${error.code})` : ''}`;
}
