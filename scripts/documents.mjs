// The repository's Markdown -> pages of the site, in the frame of www/document.html, with what they link to: other documents, pictures,
// and source files, which become pages too.
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { ROOT } from './tools.mjs';

const TEMPLATE = 'document.html';
/** What the pages link to beside the documents. */
const SOURCES = ['www/models.js', 'www/compress/job.js'];
/** At the top of each page; others are linked from these. */
const MENU = {
  'README.md': 'Overview',
  'pkg/README.md': 'JavaScript',
  'docs/RUNTIMES.md': 'Runtimes',
  'docs/BUNDLERS.md': 'Bundlers',
  'docs/CACHE.md': 'Caching',
  'docs/CALIBRATION.md': 'Calibration',
  'docs/BENCHMARKS.md': 'Benchmarks',
  'docs/FORMAT.md': 'Format',
  'docs/ARCHITECTURE.md': 'Architecture',
  'docs/RELIABILITY.md': 'Reliability',
};
const PICTURE = /\.(svg|png|webp)$/;

/** Writes `documents/` in the folder of the built site, in which the bundler has left the frame. @returns {Promise<string[]>} the pages */
export async function writeDocuments(site) {
  const { Marked } = await import('marked');
  const frame = readFileSync(join(site, TEMPLATE), 'utf8');
  rmSync(join(site, TEMPLATE));
  const docs = readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`);
  const waiting = [...new Set([...Object.keys(MENU), ...docs, ...SOURCES])];
  // What is linked from what is written is written too.
  for (const path of waiting) {
    const to = join(site, addressOf(path));
    mkdirSync(dirname(to), { recursive: true });
    if (PICTURE.test(path)) {
      copyFileSync(join(ROOT, path), to);
      continue;
    }
    const text = readFileSync(join(ROOT, path), 'utf8');
    const page = path.endsWith('.md') ? rendered(new Marked(), path, text) : { title: path, body: sourceText(path, text), linked: [] };
    writeFileSync(to, framed(frame, path, page));
    waiting.push(...page.linked.filter((linked) => !waiting.includes(linked)));
  }
  return waiting.map(addressOf);
}

/** Where a file of the repository is on the site. */
function addressOf(path) {
  return `documents/${PICTURE.test(path) ? path : `${path.replace(/\.md$/, '')}.html`}`;
}

/** The page at `from` links to a path like this. */
function relativeAddress(from, path) {
  return posix.relative(posix.dirname(addressOf(from)), addressOf(path));
}

function rendered(marked, path, markdown) {
  const linked = new Set();
  let title = path;
  const seen = new Map();
  /** Undefined where the site has nothing to show: of folders. */
  const address = (href) => {
    if (/^([a-z][a-z+.-]*:|#)/.test(href)) return href;
    const [file, anchor] = href.split('#');
    const target = posix.normalize(posix.join(posix.dirname(path), decodeURIComponent(file)));
    if (statSync(join(ROOT, target)).isDirectory()) return undefined;
    linked.add(target);
    return relativeAddress(path, target) + (anchor === undefined ? '' : `#${anchor}`);
  };
  marked.use({
    renderer: {
      heading({ tokens, depth, text }) {
        if (depth === 1) title = plain(text);
        const inner = this.parser.parseInline(tokens);
        return `<h${depth} id="${anchorOf(plain(text), seen)}">${inner}</h${depth}>\n`;
      },
      link({ href, tokens }) {
        const inner = this.parser.parseInline(tokens);
        const to = address(href);
        return to === undefined ? inner : `<a href="${escaped(to)}">${inner}</a>`;
      },
      image: ({ href, text }) => `<img src="${escaped(address(href))}" alt="${escaped(text)}" loading="lazy" />`,
      code: ({ text, lang }) => codeBlock(text, lang ? `Code, ${lang}` : 'Code'),
      table(token) {
        // Some columns have no heading; rows begin with what they are about.
        const scope = (cell, index) => (cell.header ? 'col' : index === 0 ? 'row' : undefined);
        const row = (cells) => `<tr>${cells.map((cell, index) => tableCell(this.parser, cell, scope(cell, index))).join('')}</tr>`;
        const head = row(token.header);
        const body = token.rows.map(row).join('\n');
        return `<div class="wide" role="group" tabindex="0" aria-label="Table"><table><thead>${head}</thead><tbody>${body}</tbody></table></div>\n`;
      },
    },
  });
  const body = marked.parse(markdown);
  return { title, body, linked: [...linked] };
}

/** Alignment is a class, as the policy allows no inline styles. What is empty heads nothing. */
function tableCell(parser, { tokens, align }, scope) {
  const [tag, attribute] = scope && tokens.length > 0 ? ['th', ` scope="${scope}"`] : ['td', ''];
  return `<${tag}${attribute}${align === 'right' ? ' class="number"' : ''}>${withUnits(parser.parseInline(tokens))}</${tag}>`;
}

/** Narrow cells do not part a number from its unit. */
function withUnits(html) {
  return html.replaceAll(/(\d) (?=([kMG]?B|m?s|×|%)(?!\w))/g, '$1&nbsp;');
}

/** Without Markdown's marks. */
function plain(text) {
  return text.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll(/[`*]/g, '');
}

/** As GitHub has them: lower case, hyphens for spaces, no punctuation; repeated ones numbered. */
function anchorOf(text, seen) {
  const anchor = text.toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-');
  const count = seen.get(anchor) ?? 0;
  seen.set(anchor, count + 1);
  return count === 0 ? anchor : `${anchor}-${count}`;
}

function sourceText(path, text) {
  return `<h1>${escaped(path)}</h1>\n${codeBlock(text.trimEnd(), path)}`;
}

/** What is wider than the screen can be scrolled with the keyboard too. It is no landmark: a page has many. */
function codeBlock(text, label) {
  return `<pre tabindex="0" role="group" aria-label="${escaped(label)}"><code>${escaped(text)}</code></pre>\n`;
}

function framed(frame, path, { title, body }) {
  const up = '../'.repeat(addressOf(path).split('/').length - 1);
  const item = ([document, name]) => {
    const current = document === path ? ' aria-current="page"' : '';
    return `<li><a href="${relativeAddress(path, document)}"${current}>${name}</a></li>`;
  };
  const menu = Object.entries(MENU).map(item).join('\n          ');
  return frame
    .replaceAll('"./', `"${up}`)
    .replace('<!-- title -->', () => escaped(title === 'mcwc' ? 'Overview' : title))
    .replace('<!-- menu -->', () => menu)
    .replace('<!-- document -->', () => body);
}

function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
