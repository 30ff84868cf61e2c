// The native command, killed at random moments: files are whole, old ones stay, and what is left behind has its own name.
//   npm run check:kill -- [--kills 300] [--seed 1]     (after cargo build)
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { number, readOptions } from '../scripts/options.mjs';
import { NATIVE } from './common/command.mjs';

const { kills, seed } = readOptions(import.meta.filename, { kills: number(300, { min: 1 }), seed: number(1) });
const PART = /^\.mcwc-.*\.part$/;
const OLD = 'what was there before';
const WEIGHTS = 150_000;
const FILES = ['a.bin', 'b.bin', 'model.safetensors'];
/** Every how many kills the command is run to its end among what they left. */
const FINISHED_EVERY = 11;

const folder = mkdtempSync(join(tmpdir(), 'mcwc-kill-'));
const random = randomOf(seed);
const counts = { killed: 0, ended: 0, whole: 0, kept: 0, absent: 0, parts: 0 };
try {
  for (const name of ['in', 'out']) mkdirSync(join(folder, name));
  for (const name of FILES.slice(0, 2)) writeFileSync(join(folder, 'in', name), bytes(700_000));
  writeFileSync(join(folder, 'in/model.safetensors'), model());
  const encode = { args: ['encode', 'in', '--bits', '4', '-o', 'out/m.mcwc'], outputs: ['m.mcwc'] };
  const decode = { args: ['decode', 'm.mcwc', '-o', 'out'], outputs: FILES };
  measure(encode);
  writeFileSync(join(folder, 'm.mcwc'), readFileSync(join(folder, 'out/m.mcwc')));
  measure(decode);
  for (let kill = 0; kill < kills; kill++) {
    await killOnce(kill % 2 === 0 ? encode : decode, kill);
  }
  assert.ok(counts.killed > 0, 'the command had always ended');
} finally {
  rmSync(folder, { recursive: true });
}
console.log(`${kills} kills: ${counts.killed} while the command ran, ${counts.ended} after its end; ${counts.parts} unfinished files left`);
console.log(`outputs: ${counts.whole} whole and new, ${counts.kept} as before, ${counts.absent} not there; none partial, none lost`);

/** Runs a command to its end, and notes how long it takes and what it writes. */
function measure(command) {
  const began = performance.now();
  finish(command);
  command.ms = performance.now() - began;
  command.hashes = command.outputs.map((name) => hashOf(join(folder, 'out', name)));
}

function finish({ args }) {
  const { status, stderr } = spawnSync(NATIVE, [...args, '--force'], { cwd: folder, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** Half of all kills come at any moment; half while an output is written, where most could go wrong. */
async function killOnce(command, kill) {
  const replaces = random() < 0.5;
  clear();
  if (replaces) for (const name of command.outputs) writeFileSync(join(folder, 'out', name), OLD);
  const child = spawn(NATIVE, [...command.args, '--force'], { cwd: folder, stdio: 'ignore' });
  const ended = new Promise((resolve) => child.on('close', (_, signal) => resolve(signal)));
  if (kill % 4 < 2) await Promise.race([sleep(random() * command.ms), ended]);
  else await Promise.race([partOf(join(folder, 'out')).then(() => sleep(random() * 20)), ended]);
  child.kill('SIGKILL');
  counts[(await ended) === 'SIGKILL' ? 'killed' : 'ended']++;
  check(command, replaces);
  if (kill % FINISHED_EVERY === 0) {
    finish(command);
    for (const [index, name] of command.outputs.entries()) assert.equal(hashOf(join(folder, 'out', name)), command.hashes[index]);
  }
}

function check({ outputs, hashes }, replaces) {
  const names = readdirSync(join(folder, 'out'));
  for (const [index, name] of outputs.entries()) {
    if (!names.includes(name)) {
      assert.ok(!replaces, `${name} was lost`);
      counts.absent++;
      continue;
    }
    const found = readFileSync(join(folder, 'out', name));
    const isOld = replaces && found.toString() === OLD;
    assert.ok(isOld || sha256(found) === hashes[index], `${name} is partial: ${found.length} bytes`);
    counts[isOld ? 'kept' : 'whole']++;
  }
  const others = names.filter((name) => !outputs.includes(name));
  assert.deepEqual(others.filter((name) => !PART.test(name)), []);
  assert.ok(others.length <= 1, 'one file is written at a time');
  counts.parts += others.length;
}

/** Once there is an unfinished file. */
function partOf(path) {
  return new Promise((resolve) => {
    const watcher = watch(path, (_, name) => {
      if (!PART.test(name)) return;
      watcher.close();
      resolve();
    });
    watcher.unref();
  });
}

function clear() {
  rmSync(join(folder, 'out'), { recursive: true });
  mkdirSync(join(folder, 'out'));
}

function model() {
  const weights = Float32Array.from({ length: WEIGHTS }, () => random() + random() - random() - random());
  const entry = { dtype: 'F32', shape: [WEIGHTS / 1000, 1000], data_offsets: [0, weights.byteLength] };
  const header = Buffer.from(JSON.stringify({ w: entry }));
  const length = Buffer.alloc(8);
  length.writeUInt32LE(header.length);
  return Buffer.concat([length, header, Buffer.from(weights.buffer)]);
}

function bytes(length) {
  return Uint8Array.from({ length }, () => random() * random() * 256);
}

function hashOf(path) {
  return sha256(readFileSync(path));
}

function sha256(data) {
  return createHash('sha256').update(data).digest('hex');
}

/** Mulberry32. */
function randomOf(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
