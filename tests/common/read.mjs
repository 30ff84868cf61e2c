// An archive -> what becomes of it in this process, on one thread: an error's code or a hash of each file, and memory.
//   node tests/common/read.mjs ARCHIVE [BASE…]      each base being that of the one before
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { McwcError, open } from '../../pkg/index.js';

const TENSORS_MAX = 100;

async function read(...paths) {
  const opened = [];
  for (const path of paths.reverse()) opened.push(await open(await readFile(path), { backend: 'cpu', workers: 0, base: opened.at(-1) }));
  const archive = opened.at(-1);
  const files = {};
  for (const { name } of archive.files) {
    const hash = createHash('sha256');
    for await (const bytes of archive.file(name).stream()) hash.update(bytes);
    files[name] = hash.digest('hex').slice(0, 32);
  }
  for (const { name, file } of archive.tensors.slice(0, TENSORS_MAX)) await archive.tensor(name, { file });
  const bytes = Math.max(0, ...archive.tensors.map((tensor) => tensor.bytes));
  opened.forEach((archive) => archive.close());
  return { code: 'ok', files, bytes };
}

const result = await read(...process.argv.slice(2)).catch((error) => {
  if (!(error instanceof McwcError)) throw error;
  return { code: error.code, message: error.message, bytes: 0 };
});
console.log(JSON.stringify({ ...result, peak: process.resourceUsage().maxRSS * 1024 }));
