// What is known of a compression so far -> the bars, and when it is done the figures beneath them.
import { formatMs, formatRatio } from '../format.js';
import { formatCount, formatError, formatSize } from './numbers.js';

/**
 * @typedef {import('mcwc/encoder').EncodeReport} Report
 * @typedef {import('./verify-worker.js').Verified} Verified
 */

/** From here on, a model is more likely broken than not. */
const BREAKING_ERROR = 0.2;
/** Less than this is no smaller to anybody. */
const SMALLER_RATIO_MIN = 1.005;

export class Bars {
  #rows;
  #progress;
  #originalBytes = 0;

  /** @param {HTMLElement} list */
  constructor(list) {
    const row = (name) => list.querySelector(`.${name}`);
    this.#rows = { original: row('original'), gzip: row('gzip'), archive: row('archive') };
    this.#progress = list.querySelector('progress');
  }

  /** @param {number} originalBytes */
  start(originalBytes) {
    this.#originalBytes = originalBytes;
    this.#show('original', 1, formatSize(originalBytes));
    this.#show('gzip', 0, '');
    this.#rows.archive.classList.add('running');
    this.#progress.hidden = false;
    this.archiveProgress(0);
  }

  /** @param {number} read @param {number} written */
  gzipProgress(read, written) {
    this.#show('gzip', written / this.#originalBytes, `${Math.floor((100 * read) / this.#originalBytes)} %`);
  }

  /** @param {number} bytes */
  gzipDone(bytes) {
    this.#show('gzip', bytes / this.#originalBytes, this.#amount(bytes));
  }

  gzipFailed() {
    this.#show('gzip', 0, 'not known');
  }

  /** Until it has its own length, the bar is as long as the work that is done. @param {number} done from 0 to 1 */
  archiveProgress(done) {
    this.#progress.value = done;
    this.#show('archive', done, `${Math.floor(100 * done)} %`);
  }

  /** @param {number} bytes */
  archiveDone(bytes) {
    this.#rows.archive.classList.remove('running');
    this.#progress.hidden = true;
    this.#show('archive', bytes / this.#originalBytes, this.#amount(bytes));
  }

  #amount(bytes) {
    const share = this.#originalBytes > 0 ? `, ${((100 * bytes) / this.#originalBytes).toFixed(1)} %` : '';
    return formatSize(bytes) + share;
  }

  #show(name, share, amount) {
    const row = this.#rows[name];
    row.querySelector('.length').style.width = `${100 * Math.min(1, share || 0)}%`;
    row.querySelector('.amount').textContent = amount;
  }
}

/**
 * @param {HTMLElement} place
 * @param {Report} report
 * @param {Verified} [verified]
 */
export function showFigures(place, report, verified) {
  place.replaceChildren(...[sizeFigure(report), ...lossFigures(report, verified)].map(([value, text]) => figure(value, text)));
}

function figure(value, text) {
  const element = document.createElement('div');
  const strong = Object.assign(document.createElement('strong'), { textContent: value });
  element.append(strong, Object.assign(document.createElement('p'), { textContent: text }));
  return element;
}

function sizeFigure({ originalBytes, archiveBytes }) {
  const ratio = originalBytes / archiveBytes;
  const sizes = `${formatSize(originalBytes)} became ${formatSize(archiveBytes)}`;
  return ratio < SMALLER_RATIO_MIN ? ['No smaller', sizes] : [formatRatio(ratio), `smaller: ${sizes}`];
}

function lossFigures(report, verified) {
  const lossy = lossyTensors(report);
  if (lossy.length === 0) return [['Exact', 'every byte of the files comes back']];
  const weights = sum(lossy, 'weights');
  const bits = (8 * sum(lossy, 'codedBytes')) / weights;
  const before = (8 * sum(lossy, 'originalBytes')) / weights;
  const outputs = report.calibrated ? [[formatError(Math.sqrt(report.distortion)), 'error of the outputs that random inputs foretell']] : [];
  const worst = verified && Math.max(...verified.tensors.map(({ error }) => error));
  return [
    [`${bits.toFixed(2)} bits`, `for each of the ${formatCount(weights)} weights that are coded with loss, instead of ${before.toFixed(0)}`],
    [formatError(lossyError(lossy)), `error of these weights${worst === undefined ? '' : `; up to ${formatError(worst)} in a single tensor`}`],
    ...outputs,
  ];
}

function lossyTensors({ tensors }) {
  return tensors.filter(({ lossy }) => lossy);
}

function sum(tensors, key) {
  return tensors.reduce((total, tensor) => total + tensor[key], 0);
}

/** 0 if there are none. */
function lossyError(tensors) {
  return tensors.length === 0 ? 0 : Math.sqrt(sum(tensors, 'squaredError') / sum(tensors, 'energy'));
}

/** @param {Verified} verified */
export function verifiedText({ files, exactBytes, tensors, ms }) {
  const lossy = tensors.filter(({ error }) => error > 0).length;
  const exact = lossy === 0 ? 'every byte is equal' : `${lossy} of ${tensors.length} tensors have the error below, and the other ${exactBytes.toLocaleString('en')} bytes are equal`;
  return `Verified: decoded again in this page in ${formatMs(ms)}. ${files === 1 ? 'The file has' : `All ${files} files have`} the right length; ${exact}.`;
}

/** @param {import('./calibrate-worker.js').Calibrated} calibrated @returns {string[]} */
export function calibrationRemarks({ statistics, failures }) {
  return [
    ...statistics.map(({ name, inputs }) => `${name} was calibrated on ${inputs} random inputs. How large errors are on real ones, they do not tell: samples of these, which the command takes, do.`),
    ...failures.map(({ name, reason }) => `${name} was not calibrated, so that all its weights count alike: ${reason.replace(`${name}: `, '')}`),
  ];
}

/** What the visitor may want to know, in whole sentences. @param {Report} report @param {Verified} [verified] @returns {string[]} */
export function remarks(report, verified) {
  const said = [...report.notes];
  if (verified?.tensors.length === 0) said.unshift('No tensors were found: the files travel exactly.');
  if (lossyError(lossyTensors(report)) >= BREAKING_ERROR) said.unshift('With an error this large most models no longer work: allow more bits.');
  if (report.nearLossless) said.push('Fewer bits than you allowed make the weights near-lossless already.');
  return said;
}
