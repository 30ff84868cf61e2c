// Files are small, and none leads back to itself through what it imports.
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

test('no file is longer than it may be', () => {
  const long = files.filter((path) => textOf(path).trimEnd().split('\n').length > LINES_MAX);
  assert.deepEqual(long, []);
});
