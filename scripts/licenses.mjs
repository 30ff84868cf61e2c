// What the package contains of others -> one file: each crate and npm package with its version and licence, and every licence's text, once.
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT, WASI_TARGET, WASM_TARGET, fail, sysroot } from './tools.mjs';

const LICENSE_FILE = /^(unlicense|licen[cs]e|copying|copyright|notice)([-._].*)?$/i;
/** The one licence whose text is the same for all who use it: it names nobody. */
const APACHE = { name: /\bApache-2\.0\b/, text: /^Apache License\s+Version 2\.0, January 2004/ };
/** Of what the compiler brings along, without a licence file: `scripts/wasi-libc` has those of its sources. */
const WASI_LIBC = { name: 'wasi-libc', license: 'MIT, and in it musl (MIT), cloudlibc (BSD-2-Clause) and dlmalloc (CC0-1.0)' };

/** `modules`: of each, its target and the features that it is built with, as cargo takes them; `packages`: names of npm packages. */
export function writeLicenses(path, modules, packages) {
  const parts = {
    'Crates in the WebAssembly modules': cratesOf(join(ROOT, 'Cargo.toml'), modules),
    "Rust's standard library, in all of them, and the crates in it": standardLibrary(),
    'The C library in mcwc.wasm': [textsIn(join(ROOT, 'scripts/wasi-libc'), WASI_LIBC)],
    'npm packages in the scripts': packages.toSorted().map(npmPackage),
  };
  const texts = new Map();
  const all = Object.values(parts).flat();
  const standard = all.flatMap(({ texts }) => texts).find((text) => APACHE.text.test(text));
  const lists = Object.entries(parts).map(([title, components]) => `${title}:\n\n${components.map((each) => line(each, standard, texts)).join('\n')}\n`);
  const numbered = [...texts.values()].map(({ number, text }) => `${`---- ${number} `.padEnd(80, '-')}\n\n${text}\n`);
  writeFileSync(path, [INTRODUCTION, ...lists, ...numbered].join('\n'));
}

const INTRODUCTION = `Third-party software in the npm package mcwc

mcwc itself is under MIT or Apache-2.0: see LICENSE-MIT and LICENSE-APACHE. What it contains of others is
listed here, each with its licence and the numbers of the texts below.
`;

/** A component's entry; new texts are numbered and added. */
function line({ name, version, license, texts: own }, standard, texts) {
  const component = `${[name, version].filter(Boolean).join(' ')}, ${license}`;
  const isStandard = own.length === 0 && standard !== undefined && APACHE.name.test(license);
  const note = own.length > 0 ? '' : isStandard ? ' (the standard text, as it has no licence file)' : 'no licence file, and no text here';
  if (note) console.log(`Licence of ${component}: ${note.trim()}`);
  const numbers = (isStandard ? [standard] : own).map((text) => {
    const words = text.replaceAll(/\s+/g, ' ');
    if (!texts.has(words)) texts.set(words, { number: texts.size + 1, text });
    return texts.get(words).number;
  });
  return `- ${component}: ${[...new Set(numbers)].sort((a, b) => a - b).join(', ')}${note}`;
}

/** The crates that are linked into modules. */
function cratesOf(manifest, modules) {
  const of = ['--locked', '--manifest-path', manifest];
  const tree = ([target, features]) => cargo('tree', ...of, '--target', target, ...features, '--edges', 'normal,no-proc-macro', '--prefix', 'none');
  const linked = new Set(modules.flatMap((module) => tree(module).split('\n')).map((crate) => crate.split(' ').slice(0, 2).join(' ')));
  const platforms = [...new Set(modules.map(([target]) => target))].flatMap((target) => ['--filter-platform', target]);
  const { packages } = JSON.parse(cargo('metadata', ...of, '--format-version', '1', '--all-features', ...platforms));
  const crates = packages.filter(({ name, version, source }) => source !== null && linked.has(`${name} v${version}`));
  return crates.map((crate) => textsIn(dirname(crate.manifest_path), crate)).sort(byName);
}

/** Its sources have licence files; what else there is to say of them comes with the compiler. */
function standardLibrary() {
  const [library, documents] = ['lib/rustlib/src/rust/library', 'share/doc/rust'].map((path) => join(sysroot(), path));
  const own = textsIn(library, { name: 'std', license: 'MIT OR Apache-2.0, but for parts' });
  const notices = readFileSync(join(documents, 'COPYRIGHT-library.html'), 'utf8');
  const inTree = notices.match(/<h2 id="in-tree-files">.*(?=<h2 id="out-of-tree-dependencies">)/s) ?? fail("the notices of Rust's standard library read otherwise");
  own.texts.push(textOf(inTree[0]), readFileSync(join(documents, 'licenses/Unicode-3.0.txt'), 'utf8').trim());
  const features = ['--no-default-features', '--features', 'backtrace,panic-unwind'];
  return [own, ...cratesOf(join(library, 'std/Cargo.toml'), [WASM_TARGET, WASI_TARGET].map((target) => [target, features]))];
}

function npmPackage(name) {
  const folder = join(ROOT, 'node_modules', name);
  return textsIn(folder, JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')));
}

/** A component and the licence files of its folder, wherever they lie there. */
function textsIn(folder, { name, version, license }) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && LICENSE_FILE.test(entry.name));
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  return { name, version, license: license ?? 'licence not stated', texts: paths.map((path) => readFileSync(path, 'utf8').trim()) };
}

/** What HTML says. */
function textOf(html) {
  const lines = html.replaceAll(/<[^>]*>/g, '').split('\n').map((line) => line.trim());
  return lines.join('\n').replaceAll(/\n{3,}/g, '\n\n').trim();
}

function byName(a, b) {
  const [first, second] = [a, b].map(({ name, version }) => `${name} ${version}`);
  return first < second ? -1 : Number(first > second);
}

function cargo(...args) {
  // Stable Rust knows the standard library's manifest only so.
  const env = { ...process.env, RUSTC_BOOTSTRAP: '1' };
  return execFileSync('cargo', args, { cwd: ROOT, env, encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] });
}
