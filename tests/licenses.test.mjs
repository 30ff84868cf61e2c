// The licences that the package carries: of everything that is in it, and with a text for each.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT, WASI_TARGET, WASM_TARGET } from '../scripts/tools.mjs';
import { tarballIn } from './common/packed.mjs';

/** What modules are built with. All that is in mcwc_bg.wasm is in mcwc_gpu_bg.wasm. */
const MODULES = { 'mcwc_gpu_bg.wasm': [WASM_TARGET, 'gpu'], 'mcwc.wasm': [WASI_TARGET, 'cli'] };

let folder;
/** Of each entry, by name and version, the numbers of its texts. */
let entries;
/** By their numbers. */
let texts;
let command;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcwc-licenses-'));
  const packed = ['THIRD-PARTY-LICENSES.txt', 'mcwc.wasm'].map((name) => `package/pkg/${name}`);
  execFileSync('tar', ['-xzf', tarballIn(folder), '-C', folder, ...packed]);
  const [licenses, wasm] = await Promise.all(packed.map((path) => readFile(join(folder, path))));
  command = wasm.toString('latin1');
  const [lists, ...numbered] = licenses.toString().split(/^---- (?=\d+ -+$)/m);
  entries = new Map([...lists.matchAll(/^- ([^,]+), .*: (.*)$/gm)].map(([, name, numbers]) => [name, numbers.match(/\d+/g) ?? []]));
  texts = new Map(numbered.map((text) => [text.match(/^\d+/)[0], text.replace(/^.*\n/, '').trim()]));
});

after(() => rm(folder, { recursive: true, force: true }));

for (const [module, [target, features]] of Object.entries(MODULES)) {
  test(`every crate that is linked into ${module} is named, with its version`, () => {
    const args = ['tree', '--target', target, '--no-default-features', '--features', features, '--edges', 'normal,no-proc-macro', '--prefix', 'none'];
    const tree = execFileSync('cargo', args, { cwd: ROOT, encoding: 'utf8' });
    const crates = tree.trim().split('\n').map((crate) => crate.replace(/^(\S+) v(\S+).*/, '$1 $2'));
    const foreign = crates.filter((crate) => !crate.startsWith('mcwc '));
    assert(foreign.length > 10);
    assert.deepEqual(foreign.filter((crate) => !entries.has(crate)), []);
  });
}

test('every crate whose source files the command names is among them, and so is what the standard library brings', async () => {
  const files = [...command.matchAll(/\/crates\/[^/]+\/([^/]+)-(\d+\.\d+\.\d+[^/]*)\/src\/|\/rust\/deps\/([^/]+)-(\d[^/]*)\//g)];
  const crates = new Set(files.map((names) => names.slice(1).filter(Boolean).join(' ')));
  assert(crates.size > 15, [...crates].join());
  const { version } = JSON.parse(await readFile(join(ROOT, 'node_modules/@bjorn3/browser_wasi_shim/package.json'), 'utf8'));
  const needed = [...crates, 'std', 'wasi-libc', `@bjorn3/browser_wasi_shim ${version}`];
  assert.deepEqual(needed.filter((name) => !entries.has(name)), []);
});

test('each has a text, each text is there once and belongs to something', () => {
  const used = new Set([...entries.values()].flat());
  assert.deepEqual([...entries].filter(([, numbers]) => numbers.length === 0), []);
  assert.deepEqual([...used].sort(), [...texts.keys()].sort());
  assert.equal(new Set(texts.values()).size, texts.size);
  for (const [number, text] of texts) assert(text.length > 0, number);
});

test('copyright notices are kept', () => {
  const notices = { bytemuck: 'Daniel "Lokathor" Gee', minicbor: 'Blue Oak Model License', 'regex-syntax': 'Unicode', 'wasi-libc': 'Rich Felker', std: 'The Rust Project Developers' };
  for (const [name, notice] of Object.entries(notices)) {
    const [, numbers] = [...entries].find(([entry]) => entry.split(' ')[0] === name);
    assert(numbers.some((number) => texts.get(number).includes(notice)), name);
  }
});
