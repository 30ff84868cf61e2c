// The page: a model and a quality are chosen, the model is encoded, and what came of it is shown, verified and handed over.
import { formatMs } from '../format.js';
import { keepPages } from '../offline.js';
import { Clock } from './clock.js';
import { codeFigure } from './code-figure.js';
import { Downloads, statisticsName } from './downloads.js';
import { downloadedFile, isOnnx, listenForDrops, modelOf, pickedFiles } from './files.js';
import { calibrate, encodeModel, gzippedBytes, verify } from './job.js';
import { commandCode, loadingCode } from './loading.js';
import { formatSize } from './numbers.js';
import { Bars, calibrationRemarks, remarks, showFigures, verifiedText } from './outcome.js';
import { QualityForm } from './quality.js';
import { TensorTable, tensorRows } from './tensor-table.js';

/**
 * @typedef {import('./files.js').Model} Model
 * @typedef {import('./files.js').ModelFile} ModelFile
 * @typedef {import('./calibrate-worker.js').Calibrated} Calibrated
 */

/** @type {Calibrated} */
const NOT_CALIBRATED = { statistics: [], failures: [] };
const SAMPLE = new URL('models/ch_PP-OCRv4_rec_infer.onnx', document.baseURI);

const byId = (id) => document.getElementById(id);
const bars = new Bars(byId('sizes'));
/** What stands where a model is going to. */
const invitation = [...byId('chosen').children].map((part) => part.cloneNode(true));
const qualityForm = new QualityForm(byId('form'));
const downloads = new Downloads(byId('download'), byId('statistics'));

/** @type {Model | undefined} */
let model;
let running = false;
/** Of the last run, and of what it leaves behind, such as gzip that takes longer. */
let latest = new AbortController();
/** Of the last files that were asked for, which may come later than others. */
let choice = 0;
/** @type {TensorTable | undefined} */
let table;

for (const input of [byId('files'), byId('folder')]) {
  input.addEventListener('change', () => {
    const files = pickedFiles(input.files);
    // The same ones can be picked again.
    input.value = '';
    if (files.length > 0) choose(Promise.resolve(files));
  });
}
listenForDrops(choose);
byId('sample').addEventListener('click', async () => {
  say('Fetching the model to try…');
  if (await choose(downloadedFile(SAMPLE).then((file) => [file]))) start();
});
byId('form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (!running) return start();
  stop();
  say('Cancelled.');
});
byId('filter').addEventListener('input', ({ target }) => table?.filter(target.value));
// Where that fails, the page works all the same.
keepPages().then((kept) => (byId('offline').textContent = kept ? 'This page now works offline, too.' : ''), () => {});

/** @param {Promise<ModelFile[]>} coming @returns {Promise<boolean>} whether there is a model now */
async function choose(coming) {
  stop();
  const turn = ++choice;
  try {
    const files = await coming;
    if (turn !== choice) return false;
    if (files.length === 0) throw new Error('There are no files in it.');
    model = modelOf(files);
    if (model.name.endsWith('.mcwc')) throw new Error(`${model.name} is an archive already.`);
  } catch (error) {
    if (turn !== choice) return false;
    model = undefined;
    showError(error);
  }
  showChosen();
  return model !== undefined;
}

function showChosen() {
  const [title, size] = byId('chosen').children;
  if (!model) return byId('chosen').replaceChildren(...invitation.map((part) => part.cloneNode(true)));
  const { name, files, bytes } = model;
  title.textContent = name;
  size.textContent = files.length === 1 ? formatSize(bytes) : `${files.length} files, ${formatSize(bytes)}`;
  say('Choose a quality, then compress.');
}

function start() {
  stop();
  if (!model) {
    showError(new Error('Choose a model first.'));
    return byId('files').focus();
  }
  const quality = qualityForm.read();
  if (quality) run(model, quality);
}

/** @param {Model} model @param {import('./quality.js').Quality} quality */
async function run(model, quality) {
  latest = new AbortController();
  const { signal } = latest;
  setRunning(true);
  const clock = new Clock(byId('clock'), !!quality.options.lossless, (done) => bars.archiveProgress(done));
  bars.start(model.bytes);
  byId('outcome-title').textContent = `Compressing ${model.name}`;
  byId('clock').scrollIntoView({ block: 'nearest' });
  compareWithGzip(model, signal);
  say('Compressing…');
  try {
    const onProgress = (progress) => clock.take(progress);
    const wanted = quality.calibrates && model.files.some(({ name }) => isOnnx(name));
    const calibrated = wanted ? await calibration(model, signal, onProgress) : NOT_CALIBRATED;
    const statistics = calibrated.statistics.map(({ bytes }) => bytes);
    const encoded = await encodeModel(model, { ...quality.options, statistics }, signal, onProgress);
    clock.stop(`Encoded in ${formatMs(encoded.ms)}`);
    const codes = await codesFor(model, quality, encoded, calibrated);
    signal.throwIfAborted();
    showEncoded(model, encoded, codes, calibrated);
    await showVerified(model, encoded, calibrated, signal);
    setRunning(false);
  } catch (error) {
    if (signal.aborted) return;
    stop({ keep: !byId('done').hidden });
    showError(error, model);
  } finally {
    clock.stop();
  }
}

/** As long as nobody skips it. @returns {Promise<Calibrated>} */
async function calibration(model, signal, onProgress) {
  const skipping = new AbortController();
  onProgress({ stage: 'loading the runtime', done: 0 });
  byId('skip').hidden = false;
  byId('skip').onclick = () => skipping.abort();
  try {
    return await calibrate(model, AbortSignal.any([signal, skipping.signal]), onProgress);
  } catch (error) {
    if (!skipping.signal.aborted) throw error;
    return NOT_CALIBRATED;
  } finally {
    byId('skip').hidden = true;
  }
}

/** What goes wrong here is no reason to stop. */
async function compareWithGzip(model, signal) {
  try {
    bars.gzipDone(await gzippedBytes(model, signal, (read, written) => bars.gzipProgress(read, written)));
  } catch {
    if (!signal.aborted) bars.gzipFailed();
  }
}

/** Ends what is running, and takes away what was said and shown. */
function stop({ keep = false } = {}) {
  latest.abort();
  setRunning(false);
  if (!keep) clear();
}

/**
 * @param {Model} model @param {import('./quality.js').Quality} quality @param {import('./job.js').Encoded} encoded
 * @param {Calibrated} calibrated
 */
async function codesFor(model, { args }, { report }, { statistics }) {
  const largest = report.tensors.reduce((found, tensor) => (found?.originalBytes >= tensor.originalBytes ? found : tensor), undefined);
  return [await loadingCode(model, archiveName(model), largest?.name), commandCode(model, args, statistics.map(statisticsName))];
}

function archiveName({ name }) {
  return `${name}.mcwc`;
}

/**
 * @param {Model} model @param {import('./job.js').Encoded} encoded @param {import('./loading.js').Code[]} codes
 * @param {Calibrated} calibrated
 */
function showEncoded(model, { archive, report }, codes, calibrated) {
  bars.archiveDone(archive.size);
  byId('outcome-title').textContent = `${model.name}, compressed`;
  showFigures(byId('figures'), report);
  showRemarks([...calibrationRemarks(calibrated), ...remarks(report)]);
  byId('verified').textContent = 'Decoding it again to verify it…';
  downloads.offer(archive, archiveName(model), calibrated.statistics);
  byId('codes').replaceChildren(...codes.map(codeFigure));
  byId('done').hidden = false;
}

/**
 * @param {Model} model @param {import('./job.js').Encoded} encoded @param {Calibrated} calibrated
 * @param {AbortSignal} signal
 */
async function showVerified(model, encoded, calibrated, signal) {
  const { archive, report } = encoded;
  const onProgress = (done) => (byId('verified').textContent = `Decoding it again to verify it: ${Math.floor(100 * done)} %`);
  const verified = await verify(encoded, model, signal, onProgress).catch((error) => {
    byId('verified').textContent = 'Not verified.';
    throw new Error(`The archive could not be verified: ${error.message}`, { cause: error });
  });
  byId('verified').textContent = verifiedText(verified);
  showFigures(byId('figures'), report, verified);
  showRemarks([...calibrationRemarks(calibrated), ...remarks(report, verified)]);
  // What there is to say of thousands of tensors is a task of its own.
  await new Promise((resolve) => setTimeout(resolve));
  signal.throwIfAborted();
  if (verified.tensors.length > 0) {
    byId('tensors').hidden = false;
    table = new TensorTable(tensorRows(report, verified), byId('rows'));
  }
  say(`Done: ${formatSize(report.originalBytes)} became ${formatSize(archive.size)}, verified.`);
}

function showRemarks(texts) {
  byId('remarks').replaceChildren(...texts.map((textContent) => Object.assign(document.createElement('li'), { textContent })));
}

/** @param {boolean} value */
function setRunning(value) {
  running = value;
  if (running) {
    byId('outcome').hidden = false;
    byId('outcome').classList.remove('empty');
  }
  byId('run').classList.toggle('stop', running);
  byId('run').textContent = running ? 'Cancel' : 'Compress';
}

function clear() {
  for (const id of ['alert', 'done', 'tensors']) byId(id).hidden = true;
  // Its place stays, so that what is below does not jump.
  byId('outcome').classList.add('empty');
  byId('alert').textContent = '';
  downloads.withdraw();
  byId('rows').replaceChildren();
  byId('filter').value = '';
  table = undefined;
}

function say(text) {
  byId('status').textContent = text;
}

/** @param {Error & {code?: string}} error @param {Model} [model] */
function showError(error, model) {
  byId('alert').hidden = false;
  byId('alert').textContent = errorText(error, model);
  say('');
}

/** The encoder's words, and what to do about them where it cannot know. */
function errorText({ message, code }, model) {
  const missing = /^(.+): No such file or directory/.exec(message)?.[1];
  if (missing && model) return `${model.name} needs ${missing}, which is not here. Choose all its files together, or their folder.`;
  if (code === 'limit-exceeded') return `${message}. The native command takes larger models.`;
  return message;
}
