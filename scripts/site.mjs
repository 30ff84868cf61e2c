// What the bundler built -> what is served: the documents beside it, a list of what works offline, everything compressed.
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import { writeDocuments } from './documents.mjs';
import { ROOT } from './tools.mjs';

const SITE = join(ROOT, 'target/www');
/** What the pages need besides what their files name. The list of models and the warm-up are not the bundler's. */
const OFFLINE = ['./', 'compress.html', 'offline.json', 'models/models.json', 'models/ppocr_keys_v1.txt', 'models/warm-up.mcwc'];
const COMPRESSED = /\.(css|html|js|json|svg|wasm)$/;
/** 11 takes the runtime of 14 MB a minute, for 16 % less. */
const BROTLI_QUALITY = 5;

export async function finishSite() {
  const documents = await writeDocuments(SITE);
  const assets = new Set(['index.html', 'compress.html', documents[0]].flatMap(filesOf));
  writeFileSync(join(SITE, 'offline.json'), JSON.stringify([...OFFLINE, ...documents, ...assets]));
  for (const path of filesIn(SITE).filter((name) => COMPRESSED.test(name))) await compress(path);
}

/** The bundler's files that a page names, and those that they name: no two are called the same. */
function filesOf(page) {
  const assets = filesIn(join(SITE, 'assets'));
  const found = new Set();
  const follow = (path) => {
    if (!/\.(css|html|js)$/.test(path)) return;
    const text = readFileSync(path, 'utf8');
    for (const asset of assets.filter((each) => !found.has(each) && text.includes(basename(each)))) {
      found.add(asset);
      follow(asset);
    }
  };
  follow(join(SITE, page));
  return [...found].map((path) => relative(SITE, path).replaceAll(sep, '/'));
}

function filesIn(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

async function compress(path) {
  const bytes = readFileSync(path);
  const params = { [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY, [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS };
  writeFileSync(`${path}.br`, await promisify(brotliCompress)(bytes, { params }));
  writeFileSync(`${path}.gz`, await promisify(gzip)(bytes));
}
