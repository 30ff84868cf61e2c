// Where the two variants of the networks come from: the original ONNX files, or one mcwc archive of both.
import { open } from 'mcwc';
import { Link, collect, download } from './connection.js';
import { DETECTOR, RECOGNIZER, SOURCES } from './sources.js';

/**
 * @typedef {'archive' | 'original'} Variant
 * @typedef {{base: string, bitsPerSecond: number, backend: 'auto' | 'cpu' | 'webgpu'}} LoadOptions
 * @typedef {(loaded: number, total: number) => void} OnProgress
 * @typedef {{onDownload: OnProgress, onDecode: OnProgress}} Progress
 * @typedef {object} Weights
 * @property {Uint8Array} detector
 * @property {Uint8Array} recognizer
 * @property {number} downloadedBytes
 * @property {number} downloadMs until the last byte had arrived
 * @property {number} weightsMs until both files were ready to be given to the runtime
 * @property {string} [backend] what decoded the archive
 * @property {string} [backendReason]
 */

/** @type {Record<Variant, (options: LoadOptions, progress: Progress) => Promise<Weights>>} */
export const load = { archive: loadArchive, original: loadOriginal };

async function loadOriginal({ base, bitsPerSecond }, { onDownload }) {
  const transfer = new Transfer(bitsPerSecond, onDownload);
  const bodies = await transfer.start(SOURCES.original, base);
  const [detector, recognizer] = await Promise.all(bodies.map((body) => collect(body)));
  return { detector, recognizer, ...transfer.summary() };
}

async function loadArchive({ base, bitsPerSecond, backend }, { onDownload, onDecode }) {
  const transfer = new Transfer(bitsPerSecond, onDownload);
  const [body] = await transfer.start(SOURCES.archive, base);
  const archive = await open(body, { backend });
  try {
    const total = archive.files.reduce((sum, file) => sum + file.bytes, 0);
    let decoded = 0;
    const read = (name) =>
      collect(archive.file(name).stream(), (bytes) => onDecode((decoded += bytes), total));
    const [detector, recognizer] = await Promise.all([read(DETECTOR), read(RECOGNIZER)]);
    const { backendReason } = archive;
    return { detector, recognizer, ...transfer.summary(), backend: archive.backend, backendReason };
  } finally {
    archive.close();
  }
}

/** The downloads of one variant, timed and counted together. */
class Transfer {
  #started = performance.now();
  #finished = NaN;
  #loaded = 0;
  #link;
  #onProgress;

  constructor(bitsPerSecond, onProgress) {
    this.#link = new Link(bitsPerSecond);
    this.#onProgress = onProgress;
  }

  /** @returns {Promise<ReadableStream<Uint8Array>[]>} */
  async start(paths, base) {
    let total = NaN;
    const count = (bytes) => {
      this.#loaded += bytes;
      this.#finished = performance.now();
      this.#onProgress(this.#loaded, total);
    };
    const downloads = await Promise.all(paths.map((path) => download(new URL(path, base), this.#link, count)));
    total = downloads.reduce((sum, { bytes }) => sum + bytes, 0);
    return downloads.map(({ stream }) => stream);
  }

  summary() {
    return {
      downloadedBytes: this.#loaded,
      downloadMs: this.#finished - this.#started,
      weightsMs: performance.now() - this.#started,
    };
  }
}
