// Every relative link and anchor of the documents leads somewhere, and the map names only what exists.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MAP = 'docs/ARCHITECTURE.md';
/** Named in the map: files, and folders with a slash at their end. */
const PATH = /`((?:src|js|www|tests|scripts)\/[\w./-]*)`/g;

/** Folders whose contents are not ours. */
const FOREIGN = ['node_modules', 'target', '.git', '.cache'];

const documents = markdownIn('');

function markdownIn(folder) {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return FOREIGN.includes(entry.name) ? [] : markdownIn(path);
    return path.endsWith('.md') ? [path] : [];
  });
}

/** Without blocks and spans of code, whose contents are no links. */
function prose(markdown) {
  return markdown.replace(/^```[^]*?^```/gm, '').replace(/`[^`\n]*`/g, 'code');
}

/** The targets of inline links and images, of reference definitions, and of HTML. */
function links(markdown) {
  const forms = [/\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)/g, /^\[[^\]]+\]:\s+(\S+)/gm, /(?:href|src)="([^"]+)"/g];
  return forms.flatMap((form) => [...prose(markdown).matchAll(form)].map(([, target]) => target));
}

/** The anchors of a page's headings: lower case, spaces as hyphens, without punctuation; repeated ones are numbered. */
function anchors(markdown) {
  const seen = new Map();
  const headings = markdown.replace(/^```[^]*?^```/gm, '').matchAll(/^#+ +(.+?) *#*$/gm);
  return [...headings].map(([, heading]) => {
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1');
    const anchor = text.toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-');
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    return count === 0 ? anchor : `${anchor}-${count}`;
  });
}

/** What is wrong with the links of a page. */
function broken(name, markdown, read = (path) => readFileSync(join(ROOT, path), 'utf8')) {
  return links(markdown).flatMap((target) => {
    if (/^[a-z][a-z+.-]*:/.test(target)) return [];
    const [path, anchor] = decodeURIComponent(target).split('#');
    const file = path === '' ? name : normalize(join(dirname(name), path));
    if (file !== name && (file.startsWith('..') || !existsSync(join(ROOT, file)))) return [`${name}: ${target}: there is no ${file}`];
    if (anchor === undefined) return [];
    const page = file === name ? markdown : read(file);
    return anchors(page).includes(anchor) ? [] : [`${name}: ${target}: ${file} has no such heading`];
  });
}

describe('The documents', () => {
  test('link only to what exists', () => {
    assert.ok(documents.length > 5);
    const problems = documents.flatMap((name) => broken(name, readFileSync(join(ROOT, name), 'utf8')));
    assert.deepEqual(problems, []);
  });

  test('would not pass with a broken link', () => {
    const page = '# A page\n## Its `code`, twice\n## Its `code`, twice\n';
    const good = '[a](#a-page) [b](#its-code-twice-1) [c](README.md "title") ![d](docs/FORMAT.md#1-words) [e](https://x.test/#y)';
    assert.deepEqual(broken('page.md', `${page}${good}\n\`[f](nowhere.md)\`\n`), []);
    const bad = ['nowhere.md', '#nowhere', 'docs/FORMAT.md#nowhere', '../outside.md', 'src/nowhere/'];
    for (const target of bad) {
      for (const link of [`[x](${target})`, `![x](${target})`, `[x]: ${target}`, `<a href="${target}">x</a>`]) {
        assert.equal(broken('page.md', `${page}${link}\n`).length, 1, link);
      }
    }
  });

  test('map names files and folders that exist', () => {
    const paths = [...readFileSync(join(ROOT, MAP), 'utf8').matchAll(PATH)].map(([, path]) => path);
    assert.ok(paths.length > 50);
    assert.deepEqual([...new Set(paths)].filter((path) => !existsSync(join(ROOT, path))), []);
  });
});
