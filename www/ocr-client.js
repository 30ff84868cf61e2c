// The page's side of ocr-worker.js: each request is a promise, progress is a callback.

/** @typedef {import('./models.js').Variant} Variant */

export class OcrClient {
  #worker = new Worker(new URL('./ocr-worker.js', import.meta.url), { type: 'module' });
  /** @type {Map<number, {resolve: Function, reject: Function, onProgress: Function}>} */
  #pending = new Map();
  #nextId = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, progress, result, error } }) => {
      const request = this.#pending.get(id);
      if (progress) return request?.onProgress(progress);
      this.#pending.delete(id);
      if (error) request?.reject(Object.assign(new Error(error.message), { code: error.code }));
      else request?.resolve(result);
    };
    this.#worker.onerror = (event) => this.#fail(new Error(event.message || 'The worker could not be started.'));
  }

  /**
   * Starts what both variants share.
   * @returns {Promise<{kept: Record<Variant, boolean>}>}
   */
  start(base, onProgress) {
    return this.#request({ type: 'start', base }, onProgress);
  }

  load(variant, options, onProgress) {
    return this.#request({ type: 'load', variant, ...options }, onProgress);
  }

  recognize(variant, image, onProgress) {
    return this.#request({ type: 'recognize', variant, image }, onProgress);
  }

  /** @returns {ReturnType<typeof import('./models.js').timeDecoding>} */
  timeDecoding() {
    return this.#request({ type: 'timeDecoding' });
  }

  /** Which variants need no network. @returns {Promise<Record<Variant, boolean>>} */
  kept() {
    return this.#request({ type: 'kept' });
  }

  forget() {
    return this.#request({ type: 'forget' });
  }

  /** Ends the worker at once; what was asked of it is rejected as an AbortError. */
  close() {
    this.#worker.terminate();
    this.#fail(new DOMException('Stopped.', 'AbortError'));
  }

  #request(message, onProgress = () => {}) {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, ...message });
    });
  }

  #fail(error) {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
