// The page: chooses a picture, runs the two variants one after the other, and shows what came of it.
import { compareLines } from './agreement.js';
import { showDecoding, showExpected, showPairs, showVerdict } from './comparison.js';
import { formatBytes, formatShare } from './format.js';
import { OcrClient } from './ocr-client.js';
import { keepPages } from './offline.js';
import { addChoice, listenForChoice, listenForFiles, openPicture, toBitmap } from './pictures.js';
import { MODELS, sizesOf } from './sources.js';
import { Timeline } from './timeline.js';
import { VariantCard } from './variant-card.js';

const byId = (id) => document.getElementById(id);

/** In the order in which they run. */
const VARIANTS = ['archive', 'original'];

const cards = { archive: new VariantCard(byId('archive')), original: new VariantCard(byId('original')) };
const timeline = new Timeline(byId('timeline'), VARIANTS);

/** @type {import('./pictures.js').Picture} */
let picture;
/** Of both variants, in bytes; undefined until they are known. @type {Record<'archive' | 'original', number> | undefined} */
let sizes;
/** Both variants' worker, and what it said when it had started. @type {{client: OcrClient, started: Promise<object>} | undefined} */
let engine;
let running = false;
/** What each variant measured when it was last loaded; empty while nothing is loaded. */
let loaded = {};
/** Which variants the next run need not download. */
let kept = {};

picture = listenForChoice(byId('tiles'), choose);
listenForFiles(byId('file'), async (file) => {
  showError(null);
  try {
    addChoice(byId('tiles'), await openPicture(file), choose);
  } catch (error) {
    showError(error);
  }
});
byId('controls').addEventListener('submit', (event) => {
  event.preventDefault();
  if (running) return stop();
  loaded = {};
  run();
  // On a phone it happens below.
  const behavior = matchMedia('(prefers-reduced-motion: reduce)').matches ? 'instant' : 'smooth';
  if (matchMedia('(max-width: 720px)').matches) byId('compare').scrollIntoView({ behavior });
});
byId('forget').addEventListener('click', async () => {
  const { client } = engine;
  await client.forget();
  showKept(await client.kept());
  byId('run').focus();
  say('The cache is empty. The next comparison downloads both.');
});
byId('connection').addEventListener('change', () => loaded.original || hideComparison());
prepare();

/** @param {import('./pictures.js').Picture} chosen */
function choose(chosen) {
  picture = chosen;
  showError(null);
  hideComparison();
  for (const card of Object.values(cards)) card.showPicture(chosen);
  if (!running && VARIANTS.every((variant) => loaded[variant])) run();
}

/** Starts what both variants share, while the visitor looks around. */
async function prepare() {
  try {
    await learnSizes();
    await start();
    if (!running) say(VARIANTS.every((variant) => kept[variant]) ? 'Ready. Both have been kept on this device since an earlier visit.' : 'Ready.');
    byId('offline').textContent = (await keepPages()) ? 'This page now works offline, too.' : '';
  } catch (error) {
    if (error.name === 'AbortError' || running) return;
    discardEngine();
    showError(error);
    say('');
  }
}

/** Which are shown before anything is compared. */
async function learnSizes() {
  const response = await fetch(MODELS);
  if (!response.ok) throw new Error(`${MODELS}: HTTP ${response.status}`);
  sizes = sizesOf(await response.json());
  for (const variant of VARIANTS) cards[variant].showSize(sizes[variant]);
  hideComparison();
}

function start() {
  if (engine) return engine.started;
  say('Starting the runtime that both variants share…');
  const client = new OcrClient();
  const onProgress = ({ stage, loaded: bytes }) => {
    say(stage === 'warm-up' ? 'Warming up the runtime that both variants share…' : `Starting the runtime that both variants share: ${formatBytes(bytes)}`);
  };
  const started = client.start(document.baseURI, onProgress).then((result) => {
    showKept(result.kept);
    return { client, ...result };
  });
  engine = { client, started };
  return started;
}

/** Loads what is not loaded and reads the chosen picture, until the picture read is the one chosen. */
async function run() {
  setRunning(true);
  showError(null);
  hideComparison();
  try {
    if (!sizes) await learnSizes();
    const { client } = await start();
    if (VARIANTS.some((variant) => !loaded[variant])) startOver();
    let reading;
    do {
      reading = picture;
      await read(client, reading);
    } while (picture !== reading);
    await compareDecoders(client);
    showKept(await client.kept());
  } catch (error) {
    if (error.name === 'AbortError') return;
    discardEngine();
    showError(error);
    say('');
  } finally {
    setRunning(false);
  }
}

/** Where the GPU has decoded some of the archive. */
async function compareDecoders(client) {
  if (loaded.archive.backend !== 'webgpu' || !byId('decoding').hidden) return;
  showDecoding(byId('decoders'), await client.timeDecoding());
  byId('decoding').hidden = false;
}

function startOver() {
  byId('decoding').hidden = true;
  for (const card of Object.values(cards)) card.reset();
  timeline.reset(VARIANTS.map((variant) => (kept[variant] ? 0 : (sizes[variant] * 8000) / settings().bitsPerSecond)));
}

async function read(client, reading) {
  const results = {};
  const bitmap = await toBitmap(reading);
  for (const variant of VARIANTS) {
    const card = cards[variant];
    const isFirst = !loaded[variant];
    const onProgress = (progress) => {
      card.showProgress(progress);
      if (isFirst) timeline.show(variant, progress);
    };
    if (isFirst) await load(client, variant, onProgress);
    else card.say('Looking for text…');
    say(`Reading the picture: ${card.name}`);
    results[variant] = await client.recognize(variant, bitmap, onProgress);
    if (isFirst) timeline.finish(variant, results[variant].textMs);
    if (picture !== reading) break;
    card.showLines(results[variant], bitmap);
  }
  if (picture === reading) showComparison(results);
  bitmap.close();
}

async function load(client, variant, onProgress) {
  say(`Loading: ${cards[variant].name}`);
  const measured = await client.load(variant, settings(), onProgress);
  loaded[variant] = measured;
  cards[variant].showLoaded(measured);
  const { bytes, downloadedBytes, backend, backendReason } = measured;
  const origins = [[downloadedBytes === 0, 'from the cache'], [downloadedBytes < bytes, 'partly from the cache'], [true, 'downloaded']];
  const origin = origins.find(([holds]) => holds)[1];
  const decoder = backend && decoderOf(backend);
  timeline.showOrigin(variant, decoder ? `${origin}, decoded on the ${decoder}` : origin);
  if (!decoder) return;
  byId('backend-reason').hidden = !backendReason;
  byId('backend-reason').textContent = `Decoded on the ${decoder}: ${backendReason}`;
}

/** What is left to choose has its small tensors from the CPU. */
function decoderOf(backend) {
  if (backend === 'cpu') return 'CPU (wasm)';
  return settings().backend === 'auto' ? 'CPU and the GPU (WebGPU)' : 'GPU (WebGPU)';
}

function settings() {
  return { bitsPerSecond: Number(byId('connection').value), backend: byId('backend').value };
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
  const outcome = characters === 0 ? 'Neither variant found text.' : `${formatShare(agreeing, characters)} of the text agrees.`;
  const fromCache = VARIANTS.every((variant) => loaded[variant].downloadedBytes === 0);
  const isLater = loaded.archive.readyMs > loaded.original.readyMs;
  const remark = fromCache ? ' Nothing was downloaded.' : isLater ? ' On a connection this fast, the original is ready first.' : '';
  say(`Done. ${outcome}${remark}`);
}

function hideComparison() {
  if (sizes) showExpected(byId('verdict'), sizes, settings().bitsPerSecond);
  byId('reading').hidden = true;
}

function stop() {
  discardEngine();
  say('Stopped.');
}

function discardEngine() {
  engine?.client.close();
  engine = undefined;
  loaded = {};
  timeline.stop();
  for (const card of Object.values(cards)) card.reset();
}

function setRunning(value) {
  running = value;
  byId('compare').setAttribute('aria-busy', String(running));
  const button = byId('run');
  button.classList.toggle('stop', running);
  button.textContent = running ? 'Stop' : loaded.original ? 'Compare again' : 'Compare';
  for (const setting of [byId('connection'), byId('backend')]) setting.disabled = running;
  byId('forget').disabled = running || !VARIANTS.some((variant) => kept[variant]);
}

function showKept(found) {
  kept = found;
  byId('forget').disabled = running || !VARIANTS.some((variant) => kept[variant]);
}

function say(text) {
  byId('status').textContent = text;
}

/** @param {(Error & {code?: string}) | null} error */
function showError(error) {
  byId('alert').hidden = error === null;
  byId('alert').textContent = error === null ? '' : `${error.message}${error.code ? ` (${error.code})` : ''}`;
}
