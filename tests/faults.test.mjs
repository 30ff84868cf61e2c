// The loader against a server that does everything wrong: right weights or a typed error, never a hang.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { FAULT_NAMES, FaultyFile, randomOf } from './common/faults.mjs';
import { encode, folder, fnv, handlers, noise, places, safetensors } from './common/package.mjs';

const RUNS = { Node: 1000, Chromium: 30 };
/** At the same time, as most of them wait for silent servers; in Chromium, on a page. */
const AT_ONCE = { Node: 16, Chromium: 10 };
const OPTIONS = { backend: 'cpu', silenceMs: 500, retries: 6, retryMs: 1 };
const HANG_MS = 30_000;
/** Large and small ones: their chunks are verified on different threads. */
const ROWS = [64, 8, 64, 8, 64, 8];
const COLUMNS = 512;

/** Archives, and the hashes of their tensors as the native command decodes them. */
let right;
let other;

async function archiveOf(name, seed) {
  const floats = noise(seed);
  const tensors = {};
  for (const [index, rows] of ROWS.entries()) tensors[`layer${index}`] = ['F32', [rows, COLUMNS], floats(rows * COLUMNS, 0.02)];
  await writeFile(join(folder, `${name}.safetensors`), safetensors(tensors));
  encode(name, [`${name}.safetensors`], ['--bits', '4']);
  const restored = await readFile(join(folder, `${name}-restored/${name}.safetensors`));
  let end = 8 + Number(restored.readBigUInt64LE(0));
  const hashes = ROWS.map((rows) => fnv(restored.subarray(end, (end += 4 * rows * COLUMNS))));
  return { bytes: await readFile(join(folder, `${name}.mcwc`)), hashes };
}

/** What becomes in each run of every tensor: its hash, or the code of an error. */
async function readTensors({ entry, base, runs, hangMs }) {
  const { McwcError, open } = await import(entry);
  const outcomeOf = (error) => (error instanceof McwcError ? error.code : `untyped: ${error?.stack ?? error}`);
  const hash = ({ data: { buffer, byteLength } }) => {
    let state = 0x811c9dc5;
    for (const byte of new Uint8Array(buffer, 0, byteLength)) state = Math.imul(state ^ byte, 0x01000193);
    const hex = (byte) => byte.toString(16).padStart(2, '0');
    return `${byteLength} ${Array.from(new Uint8Array(Uint32Array.of(state).buffer), hex).join('')}`;
  };
  const read = async ({ path, kind, options }) => {
    let archive;
    let ends = 0;
    const onProgress = ({ loaded, total }) => (ends += Number(loaded === total));
    const url = `${base}${path}`;
    const source = { string: () => url, Request: () => new Request(url), Response: () => fetch(url) }[kind];
    let given;
    try {
      given = await source();
    } catch {
      return { opened: 'no response' };
    }
    try {
      archive = await open(given, { ...options, onProgress });
    } catch (error) {
      return { opened: outcomeOf(error), message: error.message };
    }
    const tensors = await Promise.all(archive.tensors.map(({ name }) => archive.tensor(name).then(hash, outcomeOf)));
    const downloaded = options.lazy ? 'lazy' : await archive.downloaded.then(() => 'all', outcomeOf);
    archive.close();
    return { opened: 'yes', tensors, downloaded, ends };
  };
  const inTime = async (run) => {
    let timer;
    const hang = new Promise((resolve) => (timer = setTimeout(() => resolve({ opened: 'hangs' }), hangMs)));
    const outcome = await Promise.race([read(run), hang]);
    clearTimeout(timer);
    return outcome;
  };
  return Promise.all(runs.map(inTime));
}

const pathOf = (seed) => `/faults/${seed}`;

/** How one run goes, by its seed. */
function planOf(seed) {
  const random = randomOf(seed);
  const pick = (choices) => choices[Math.floor(random() * choices.length)];
  const rate = random();
  const changesAt = random() < 0.1 ? Math.floor(random() * 4) : -1;
  const kind = pick(['string', 'string', 'string', 'Request', 'Response']);
  const used = [];
  const next = (index) => {
    if (index === changesAt) {
      used.push('change');
      return other.bytes;
    }
    if (used.length >= 12 || random() > rate) return undefined;
    const fault = pick(FAULT_NAMES);
    // Whoever fetches a response waits for it as long as they like.
    if (fault === 'silence' && kind === 'Response' && index === 0) return undefined;
    used.push(fault);
    return fault;
  };
  const file = new FaultyFile(right.bytes, {
    validators: pick(['strong', 'strong', 'weak', 'date', 'none']),
    ranges: random() < 0.8,
    gzip: random() < 0.1,
    random,
    next,
  });
  const options = { ...OPTIONS, lazy: random() < 0.3, workers: random() < 0.05 ? 1 : 0 };
  return { file, used, options, kind };
}

const CODES = ['incomplete', 'invalid', 'unsupported', 'limit-exceeded', 'checksum', 'changed', 'io'];

function assertSound(outcome, message) {
  const { opened, tensors = [] } = outcome;
  assert(opened === 'yes' || opened === 'no response' || CODES.includes(opened), message);
  const isOf = (hashes) => tensors.every((found, index) => found === hashes[index] || CODES.includes(found));
  assert(isOf(right.hashes) || isOf(other.hashes), message);
}

function isRight({ opened, tensors, downloaded }) {
  return opened === 'yes' && ['all', 'lazy'].includes(downloaded) && String(tensors) === String(right.hashes);
}

describe('Faults', () => {
  before(async () => {
    right = await archiveOf('right', 3);
    other = await archiveOf('other', 4);
  });

  for (const [place, { run }] of Object.entries(places)) {
    test(`${place}: ${RUNS[place]} seeded runs give right weights or a typed error`, async (context) => {
      const tally = {};
      const late = [];
      const seen = new Set();
      const attempt = async (seeds) => {
        const plans = seeds.map(planOf);
        for (const [index, { file }] of plans.entries()) handlers.set(pathOf(seeds[index]), (...exchange) => file.handle(...exchange));
        const runs = plans.map(({ options, kind }, index) => ({ path: pathOf(seeds[index]), options, kind }));
        const outcomes = await run(readTensors, { runs, hangMs: HANG_MS });
        for (const [index, outcome] of outcomes.entries()) {
          const { file, used, options, kind } = plans[index];
          const seed = `seed ${seeds[index]}`;
          const { length } = file.requests;
          late.push(() => assert.equal(file.requests.length, length, `${seed}: fetches after it was closed`));
          assertSound(outcome, `${seed}: ${JSON.stringify({ outcome, used, options, kind, requests: file.requests })}`);
          assert(!(outcome.ends > 1), `${seed}: 100 % ${outcome.ends} times`);
          used.forEach((name) => seen.add(name));
          const result = isRight(outcome) ? 'right' : outcome.opened === 'yes' ? 'some of it' : outcome.opened;
          tally[result] = (tally[result] ?? 0) + 1;
        }
      };
      const perPage = place === 'Chromium' ? AT_ONCE[place] : 1;
      let seed = 0;
      const worker = async () => {
        while (seed < RUNS[place]) await attempt(Array.from({ length: perPage }, () => seed++));
      };
      await Promise.all(Array.from({ length: AT_ONCE[place] / perPage }, worker));
      late.forEach((check) => check());
      context.diagnostic(JSON.stringify(tally));
      assert(tally.right > RUNS[place] / 5, JSON.stringify(tally));
      if (place === 'Node') assert.deepEqual([...seen].sort(), [...FAULT_NAMES, 'change'].sort());
    });
  }
});
