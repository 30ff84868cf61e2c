// Archives damaged at random, their hashes right: what the reference decoder, the native command and the package in Node make of
// each has to be the same files, or an error each.
//   cargo build && npm run build && npm run check:conformance -- [--count 10000] [--seed 0]
// Python damages and decodes them (mutate.py). Archives on which decoders differ are kept, and their paths printed.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual, promisify } from 'node:util';
import { McwcError, open } from '../../pkg/index.js';
import { number, readOptions } from '../../scripts/options.mjs';
import { NATIVE } from '../common/command.mjs';

const MUTATE = fileURLToPath(new URL('mutate.py', import.meta.url));
const { count, seed } = readOptions(import.meta.filename, { count: number(10_000), seed: number(0) });

const run = promisify(execFile);
const folder = await mkdtemp(join(tmpdir(), 'mcwc-conformance-'));
const counts = { decoded: 0, refused: 0, declined: 0, different: 0 };
const python = spawn('python3', [MUTATE, String(count), folder, '--seed', String(seed)], { stdio: ['ignore', 'pipe', 'inherit'] });
const exited = new Promise((resolve) => python.on('exit', resolve));
for await (const line of createInterface({ input: python.stdout })) {
  const { path, bases, code, message, files } = JSON.parse(line);
  const found = { wasm: await inWasm(path, bases), native: await inNative(path, bases) };
  const verdict = compare(code, files, found);
  counts[verdict]++;
  if (verdict === 'different') console.log(path, { code, message, files }, found);
  else await rm(path);
}
const failed = (await exited) !== 0 || counts.different > 0;
if (!failed) await rm(folder, { recursive: true });
console.log(counts);
process.exitCode = failed ? 1 : 0;

/** The reference decoder may decline what it would take too long for. */
function compare(code, files, { wasm, native }) {
  if (code === 'limit-exceeded' && isDeepStrictEqual(wasm, native)) return 'declined';
  const expected = code === 'ok' ? files : undefined;
  if (!isDeepStrictEqual(wasm, expected) || !isDeepStrictEqual(native, expected)) return 'different';
  return expected ? 'decoded' : 'refused';
}

/** Hashes of all files; `undefined` if the archive is refused. */
async function inWasm(path, bases) {
  const opened = [];
  try {
    for (const part of [...bases.toReversed(), path]) {
      opened.push(await open(await readFile(part), { backend: 'cpu', workers: 0, base: opened.at(-1) }));
    }
    const archive = opened.at(-1);
    const contents = new Map();
    for (const { name } of archive.files) contents.set(name, await archive.file(name).bytes());
    await compareTensors(archive, contents, path);
    return Object.fromEntries([...contents].map(([name, bytes]) => [name, hash(bytes)]));
  } catch (error) {
    if (!(error instanceof McwcError)) throw error;
  } finally {
    opened.forEach((archive) => archive.close());
  }
}

/** Those whose names are theirs alone, last first, so that a decoder meets them in another order than files have. */
async function compareTensors(archive, contents, path) {
  const names = archive.tensors.map(({ name, file }) => `${file}\0${name}`);
  for (const [index, { name, file, offset }] of [...archive.tensors.entries()].reverse()) {
    if (names.indexOf(names[index]) !== names.lastIndexOf(names[index])) continue;
    const { data } = await archive.tensor(name, { file });
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const expected = contents.get(file).subarray(offset, offset + bytes.length);
    if (Buffer.compare(bytes, expected) !== 0) throw new Error(`${path}: tensor ${name} of ${file} has other bytes than its file`);
  }
}

async function inNative(path, bases) {
  const out = `${path}-files`;
  await mkdir(out);
  try {
    await run(NATIVE, ['decode', path, '-o', out, ...bases.flatMap((base) => ['--base', base])]);
    const entries = await readdir(out, { recursive: true, withFileTypes: true });
    const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    return Object.fromEntries(await Promise.all(paths.map(async (path) => [relative(out, path), hash(await readFile(path))])));
  } catch ({ code, signal, stderr }) {
    if (code !== 1) throw new Error(`${path}: the command ended with ${code ?? signal}: ${stderr}`);
  } finally {
    await rm(out, { recursive: true });
  }
}

function hash(bytes) {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 32);
}
