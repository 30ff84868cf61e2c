// The worker in which everything heavy happens: download, decode, sessions, recognition. Decoding lives here and not
// on the page's thread because the decoded files go straight to the runtime, which is here too: no copy, no jank.
import { load } from './models.js';
import { detect } from './ocr/detect.js';
import { parseKeys, recognize } from './ocr/recognize.js';
import { openSessions, releaseSessions, startRuntime } from './runtime.js';
import { KEYS } from './sources.js';

/** PP-OCR's own limit: readings less certain than this are texture, not text. */
const MIN_CONFIDENCE = 0.5;
const PROGRESS_INTERVAL_MS = 50;

/** @type {Partial<Record<import('./models.js').Variant, import('./runtime.js').Sessions>>} */
const sessions = {};
let classes;

const requests = {
  /** @param {{base: string}} options */
  async start({ base }, report) {
    const response = await fetch(new URL(KEYS, base));
    if (!response.ok) throw new Error(`${KEYS} could not be downloaded (HTTP ${response.status}).`);
    classes = parseKeys(await response.text());
    await startRuntime(throttle((loaded, total) => report('runtime', loaded, total)));
  },

  async load({ variant, options }, report) {
    if (sessions[variant]) await releaseSessions(sessions[variant]);
    delete sessions[variant];
    const { detector, recognizer, ...measured } = await load[variant](options, {
      onDownload: throttle((loaded, total) => report('download', loaded, total)),
      onDecode: throttle((loaded, total) => report('decode', loaded, total)),
    });
    report('session');
    const { sessions: opened, sessionMs } = await openSessions({ detector, recognizer });
    sessions[variant] = opened;
    return { ...measured, sessionMs };
  },

  /** @param {{variant: import('./models.js').Variant, image: ImageBitmap}} request */
  async recognize({ variant, image }, report) {
    const { detector, recognizer } = sessions[variant];
    const started = performance.now();
    const boxes = await detect(detector, image);
    const lines = [];
    for (const [index, box] of boxes.entries()) {
      report('recognize', index, boxes.length);
      const reading = await recognize(recognizer, image, box, classes);
      if (reading.text !== '' && reading.confidence >= MIN_CONFIDENCE) lines.push({ ...box, ...reading });
    }
    image.close();
    return { lines, recognitionMs: performance.now() - started };
  },
};

/** Passes on the last report and otherwise at most one per interval. */
function throttle(report) {
  let next = 0;
  return (loaded, total) => {
    const now = performance.now();
    if (now < next && loaded !== total) return;
    next = now + PROGRESS_INTERVAL_MS;
    report(loaded, total);
  };
}

self.onmessage = async ({ data: { id, type, ...request } }) => {
  const report = (stage, loaded, total) => self.postMessage({ id, progress: { stage, loaded, total } });
  try {
    self.postMessage({ id, result: await requests[type](request, report) });
  } catch (error) {
    self.postMessage({ id, error: { message: error?.message ?? String(error), code: error?.code } });
  }
};
