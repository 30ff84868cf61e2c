// The worker in which everything heavy happens: download, decode, sessions, recognition. Decoding lives here and not
// on the page's thread because the decoded files go straight to the runtime, which is here too: no copy, no jank.
import { download } from './connection.js';
import { forget, kept, load, timeDecoding, warmUpDecoder } from './models.js';
import { detect } from './ocr/detect.js';
import { parseKeys, recognize } from './ocr/recognize.js';
import { openSessions, releaseSessions, startRuntime, warmUpRuntime } from './runtime.js';
import { KEYS, MODELS } from './sources.js';

/** PP-OCR's own limit: readings less certain than this are texture, not text. */
const MIN_CONFIDENCE = 0.5;
const PROGRESS_INTERVAL_MS = 50;

/** @typedef {{sessions: import('./runtime.js').Sessions, startedAt: number, keep?: () => Promise<void>}} Loaded */

/** @type {Partial<Record<import('./models.js').Variant, Loaded>>} */
const loaded = {};
let base;
let models;
let classes;

const requests = {
  /** Everything that both variants share. */
  async start(request, report) {
    base = request.base;
    models = await (await download(new URL(MODELS, base))).json();
    classes = parseKeys(await (await download(new URL(KEYS, base))).text());
    await startRuntime(throttle((bytes) => report('runtime', { loaded: bytes })));
    report('warm-up');
    await warmUpRuntime(await warmUpDecoder(base, 'cpu'));
    return { kept: await kept({ base, models }) };
  },

  async load({ variant, bitsPerSecond, backend }, report) {
    if (loaded[variant]) await releaseSessions(loaded[variant].sessions);
    delete loaded[variant];
    await warmUpDecoder(base, backend);
    const startedAt = performance.now();
    const since = () => performance.now() - startedAt;
    const inTime = (stage) => throttle((bytes, total) => report(stage, { loaded: bytes, total, ms: since() }));
    const stages = { received: inTime('received'), decoded: inTime('decoded') };
    report('begin', { ms: 0 });
    const options = { base, models, bitsPerSecond, backend };
    const { keep, detector, recognizer, ...measured } = await load(variant, options, (stage, ...at) => stages[stage](...at));
    report('session', { ms: since() });
    const sessions = await openSessions({ detector, recognizer });
    loaded[variant] = { sessions, startedAt, keep };
    return { ...measured, readyMs: since() };
  },

  /** @param {{variant: import('./models.js').Variant, image: ImageBitmap}} request */
  async recognize({ variant, image }, report) {
    const { sessions, startedAt, keep } = loaded[variant];
    const started = performance.now();
    report('text', { ms: started - startedAt });
    const boxes = await detect(sessions.detector, image);
    const lines = [];
    for (const [index, box] of boxes.entries()) {
      report('line', { loaded: index, total: boxes.length });
      const reading = await recognize(sessions.recognizer, image, box, classes);
      if (reading.text !== '' && reading.confidence >= MIN_CONFIDENCE) lines.push({ ...box, ...reading });
    }
    image.close();
    const ended = performance.now();
    // What is kept is written when nothing is timed any more.
    await keep?.();
    delete loaded[variant].keep;
    return { lines, recognitionMs: ended - started, textMs: ended - startedAt };
  },

  timeDecoding: () => timeDecoding({ base, models }),
  kept: () => kept({ base, models }),
  forget,
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
  const report = (stage, progress) => self.postMessage({ id, progress: { stage, ...progress } });
  try {
    self.postMessage({ id, result: await requests[type](request, report) });
  } catch (error) {
    self.postMessage({ id, error: { message: error?.message ?? String(error), code: error?.code } });
  }
};
