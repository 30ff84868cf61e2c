// Mutated archives and model files, for as long as you like; or archives read natively and by the package, compared.
//   npm run fuzz -- [--hours H] [--target NAME]… [--seed N] [--findings FOLDER]
//   npm run fuzz -- --replay FILE…
//   npm run fuzz -- --wasm [--cases N] [--seed N]     (after npm run build)
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { flag, number, readOptions, text, texts, wrongUsage } from './options.mjs';
import { CARGO_TARGET, ROOT, run } from './tools.mjs';

const FUZZER = join(CARGO_TARGET, 'release/mcwc-fuzz');
const FINDINGS = join(ROOT, 'fuzz/findings');
/** As the native reader (tests/common/mutation/check.rs). */
const TENSORS_MAX = 100;
const REPORT_MS = 60_000;

const SCRIPT = import.meta.filename;
const kinds = { hours: number(undefined, { whole: false }), target: texts, seed: number(), findings: text(), cases: number(), replay: flag, wasm: flag };
const { target, replay, wasm, operands: files, ...numbers } = readOptions(SCRIPT, kinds, { operands: true });
if (replay !== files.length > 0) wrongUsage(SCRIPT, replay ? '--replay: of which files?' : `${files[0]}: only --replay takes files`);
const given = [...target.map((name) => ['target', name]), ...Object.entries(numbers).filter(([, value]) => value !== undefined)];
const args = given.flatMap(([name, value]) => [`--${name}`, String(value)]);
run('cargo', ['build', '--release', '--manifest-path', join(ROOT, 'fuzz/Cargo.toml'), '--target-dir', CARGO_TARGET]);
if (wasm) await compare(args);
else run(FUZZER, replay ? [...args, '--replay', ...files] : args);

/** Reads every case of a stream (fuzz/src/stream.rs) with the package. */
async function compare(args) {
  const { McwcError, open } = await import(join(ROOT, 'pkg/index.js'));
  const child = spawn(FUZZER, ['--stream', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise((resolve) => child.on('exit', resolve));
  const began = performance.now();
  let [cases, accepted, differences, reported] = [0, 0, 0, began];
  for await (const [archive, base, ...texts] of casesOf(child.stdout)) {
    const native = texts.map(String);
    const found = await read(open, McwcError, archive, base).catch((error) => [`not typed: ${error.stack}`, '', '']);
    cases++;
    if (native[0] === '') accepted++;
    if (!isSame(native, found)) {
      differences++;
      keep(archive, base, native, found);
    }
    if (performance.now() - reported > REPORT_MS) report();
  }
  report();
  // The native reader's panics end the stream.
  if ((await exited) !== 0 || differences > 0) process.exitCode = 1;

  function report() {
    reported = performance.now();
    const perMinute = (cases / (reported - began)) * 60_000;
    console.log(`${cases} archives, ${accepted} of which open, ${differences} differences, ${perMinute.toFixed(0)} a minute`);
  }
}

function isSame(native, found) {
  return found[0] ? native[0].split(' ').includes(found[0]) : native.every((text, index) => text === found[index]);
}

/** The strings of each case. */
async function* casesOf(stream) {
  let rest = Buffer.alloc(0);
  let parts = [];
  for await (const bytes of stream) {
    rest = Buffer.concat([rest, bytes]);
    let at = 0;
    while (rest.length - at >= 4 && rest.length - at - 4 >= rest.readUInt32LE(at)) {
      const end = at + 4 + rest.readUInt32LE(at);
      parts.push(rest.subarray(at + 4, end));
      at = end;
      if (parts.length === 5) {
        yield parts;
        parts = [];
      }
    }
    rest = rest.subarray(at);
  }
}

/** The code of the error that refuses the archive, the outcomes of its files, and those of its tensors. */
async function read(open, McwcError, bytes, base) {
  const outcome = (reading) =>
    reading.then(
      (data) => createHash('sha256').update(new Uint8Array(data.buffer ?? data, data.byteOffset, data.byteLength)).digest('hex').slice(0, 32),
      (error) => {
        if (!(error instanceof McwcError)) throw error;
        return error.code;
      },
    );
  let archive;
  try {
    archive = await open(Uint8Array.from(bytes), { backend: 'cpu', workers: 0, base: base.length > 0 ? Uint8Array.from(base) : undefined });
  } catch (error) {
    if (!(error instanceof McwcError)) throw error;
    return [error.code, '', ''];
  }
  try {
    const files = [];
    for (const { name } of archive.files) files.push(await outcome(archive.file(name).bytes()));
    const tensors = [];
    for (const { name, file } of archive.tensors.slice(0, TENSORS_MAX)) {
      tensors.push(await outcome(archive.tensor(name, { file }).then(({ data }) => data)));
    }
    return ['', files.join(' '), tensors.join(' ')];
  } finally {
    archive.close();
  }
}

function keep(archive, base, native, found) {
  mkdirSync(FINDINGS, { recursive: true });
  const path = join(FINDINGS, `wasm-${createHash('sha256').update(archive).digest('hex').slice(0, 32)}`);
  writeFileSync(path, archive);
  if (base.length > 0) writeFileSync(`${path}.base`, base);
  console.log(`DIFFERENCE ${path}\n  native  ${native.join(' | ')}\n  package ${found.join(' | ')}`);
}
