// Files are small, none leads back to itself through what it imports, and what they use stands below them on the map.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, extname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDERS = ['bench', 'examples', 'fuzz', 'js', 'scripts', 'src', 'tests', 'www'];
/** Dependencies, and what is built. */
const FOREIGN = ['dist', 'node_modules', 'target'];
const LINES_MAX = 450;

const files = FOLDERS.flatMap(filesIn);

function filesIn(folder) {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return FOREIGN.includes(entry.name) ? [] : filesIn(path);
    return ['.js', '.mjs', '.py', '.rs', '.ts', '.wgsl'].includes(extname(path)) ? [path] : [];
  });
}

const textOf = (path) => readFileSync(join(ROOT, path), 'utf8');

/** Of types too, and of what is loaded later. */
function importsOf(path) {
  const relative = textOf(path).matchAll(/^(?:import|export|\}) .*?from '(\..+?)'|^import '(\..+?)'|\bimport\('(\..+?)'\)/gm);
  const paths = [...relative].map(([, from, bare, later]) => normalize(join(dirname(path), from ?? bare ?? later)));
  return paths.flatMap((found) => [found, found.replace(/\.js$/, '.ts')]).filter((found) => files.includes(found));
}

/** The first circle: its files, each of which imports the next, and the last the first. */
function circleIn(graph) {
  const done = new Set();
  const visit = (path, trail) => {
    if (trail.includes(path)) return trail.slice(trail.indexOf(path));
    if (done.has(path)) return undefined;
    for (const imported of graph.get(path)) {
      const circle = visit(imported, [...trail, path]);
      if (circle) return circle;
    }
    done.add(path);
    return undefined;
  };
  return [...graph.keys()].reduce((circle, path) => circle ?? visit(path, []), undefined);
}

test('no script leads back to itself', () => {
  const scripts = files.filter((path) => ['.js', '.mjs', '.ts'].includes(extname(path)));
  const graph = new Map(scripts.map((path) => [path, importsOf(path)]));
  assert.ok(graph.get('js/index.ts').includes('js/open.ts'), 'imports are found');
  assert.equal(circleIn(graph), undefined);
});

/** Planes of copies hold planes. */
const isRecursive = (from, to) => from.endsWith('/copies.rs') && to === join(dirname(from), 'planes.rs');
/** What the modules of a folder share stands in the folder's own. */
const isParent = (from, to) => [join(dirname(from), 'mod.rs'), `${dirname(from)}.rs`].includes(to);

/** Of what a module hands on, and of all that it takes. */
const HANDED_ON = 'pub(?:\\([a-z]+\\))? use';
const ANY_USE = `(?:${HANDED_ON}|use)`;

/** The statements of a module that begin with `use`, or with `pub use`, without its tests. */
function usesOf(path, begin) {
  const [text] = textOf(path).split(/#\[cfg\((?:all\()?test\b.*\]\nmod \w+ \{/);
  const statements = text.matchAll(new RegExp(`^ *${begin} ([a-z_]+::[^;]+);`, 'gm'));
  return [...statements].flatMap(([, tree]) => pathsIn(tree.replaceAll(/\s+/g, ' ')));
}

/** `a::{b, c::{d, e}}` -> `a::b`, `a::c::d`, `a::c::e`. */
function pathsIn(tree) {
  const open = tree.indexOf('{');
  if (open < 0) return [tree.replace(/ as .*/, '').trim().split('::')];
  const begin = tree.slice(0, open).trim().split('::').slice(0, -1);
  let depth = 0;
  const parts = [''];
  for (const letter of tree.slice(open + 1, tree.lastIndexOf('}'))) {
    depth += { '{': 1, '}': -1 }[letter] ?? 0;
    if (letter === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += letter;
  }
  return parts.filter((part) => part.trim()).flatMap((part) => pathsIn(part.trim()).map((path) => [...begin, ...path]));
}

/** The file in which a name of a module is defined, followed through what modules hand on. */
function definedIn(module, [name, ...rest]) {
  const found = [join(module, `${name}.rs`), join(module, name, 'mod.rs')].find((path) => files.includes(path));
  if (found) return rest.length > 0 ? definedIn(join(module, name), rest) : found;
  const file = [join(module, 'mod.rs'), `${module}.rs`, join(module, 'lib.rs')].find((path) => files.includes(path));
  const handed = file && usesOf(file, HANDED_ON).find((path) => path.at(-1) === name);
  return handed ? usedFile(file, handed) : file;
}

function usedFile(path, [first, ...names]) {
  const module = path.replace(/(\/mod|\/lib|\/main)?\.rs$/, '');
  if (first === 'crate') return definedIn('src', names);
  if (first === 'self') return definedIn(module, names);
  if (first === 'super') return names[0] === 'super' ? usedFile(`${dirname(module)}.rs`, names) : definedIn(dirname(module), names);
  return definedIn(module, [first, ...names]);
}

test('no module leads back to itself through what it uses', () => {
  const modules = files.filter((path) => /^src\/.*\.rs$/.test(path));
  const filesUsed = (path) => usesOf(path, 'use').map((names) => usedFile(path, names));
  const counts = (path, found) => found && found !== path && !isRecursive(path, found) && !isParent(path, found);
  const graph = new Map(modules.map((path) => [path, filesUsed(path).filter((found) => counts(path, found))]));
  assert.ok(graph.get('src/formats/mod.rs').includes('src/formats/reading.rs'), 'uses below a module of tests are found');
  assert.ok(graph.get('src/decode.rs').includes('src/reconstruct/mod.rs'), 'uses are found');
  assert.ok(graph.get('src/encode/fixed.rs').includes('src/encode/exact/frame.rs'), 'names are followed');
  assert.equal(circleIn(graph), undefined);
});

/** The rows of the map, from the top down: files, and folders of files. */
const [, ROOMS] = textOf('docs/ARCHITECTURE.md').split(/^## Rooms$/m);
const rows = ROOMS.split('\n## ')[0].split('\n\nInside')[0].split('\n').filter((line) => line.startsWith('| `')).map((line) => line.split('|')[1].match(/[\w./-]+/g));

/** The row whose name says most of a path. A Rust module is also the folder of that name. */
function rowOf(path) {
  const inside = (name) => path === name || path.startsWith(name.endsWith('/') ? name : name.replace(/\.rs$/, '/'));
  const lengths = rows.map((names) => Math.max(...names.map((name) => (inside(name) ? name.length : 0))));
  const most = Math.max(...lengths);
  return most > 0 ? lengths.indexOf(most) : -1;
}

test('rooms use what stands below them on the map', () => {
  const used = (path) => (path.endsWith('.rs') ? usesOf(path, ANY_USE).map((names) => usedFile(path, names)) : importsOf(path));
  // The crate's root says what there is.
  const scripts = files.filter((path) => /^(src\/.*\.rs|js\/.*\.ts)$/.test(path) && path !== 'src/lib.rs');
  const arrows = scripts.flatMap((path) => used(path).filter(Boolean).map((found) => [path, found]));
  const has = (from, to) => arrows.some(([path, found]) => path === from && found === to);
  assert.ok(has('src/decode.rs', 'src/container/mod.rs') && has('js/cache/kept.ts', 'js/source/segments.ts'), 'arrows are found');
  assert.deepEqual(scripts.filter((path) => rowOf(path) < 0), []);
  assert.deepEqual(arrows.filter(([path, found]) => rowOf(path) > rowOf(found)), []);
});

test('no file is longer than it may be', () => {
  const long = files.filter((path) => textOf(path).trimEnd().split('\n').length > LINES_MAX);
  assert.deepEqual(long, []);
});
