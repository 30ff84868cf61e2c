// A small static server for the built page: target/www at /, target/models at /models/.
//   node www/serve.mjs [--port 8080]
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PORT, readOptions } from '../scripts/options.mjs';

const TARGET = fileURLToPath(new URL('../target/', import.meta.url));
/** The page states the same policy, but a worker obeys only the one its script was served with. */
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; style-src 'self'; " +
  "worker-src 'self' blob:; connect-src 'self' blob:";
/** Best first, and what their files are called. */
const ENCODINGS = [
  ['br', '.br'],
  ['gzip', '.gz'],
];
const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.mjs': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
  '.webp': 'image/webp',
};

/**
 * @param {{port?: number, www?: string, models?: string}} [options]
 * @returns {Promise<{url: string, close: () => Promise<void>}>} on the asked port, or on a free one if it cannot be had
 */
export async function serve({ port = 0, www = join(TARGET, 'www'), models = join(TARGET, 'models') } = {}) {
  const server = createServer((request, response) => {
    answer(request, response, { www, models }).catch(() => response.destroy());
  });
  await listen(server, port).catch((error) => {
    if (!['EADDRINUSE', 'EACCES'].includes(error.code)) throw error;
    return listen(server, 0);
  });
  return {
    url: `http://localhost:${server.address().port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

async function answer(request, response, roots) {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return response.writeHead(405, { allow: 'GET, HEAD' }).end();
  }
  const path = filePath(request.url, roots);
  const info = path && (await stat(path).catch(() => null));
  if (!info?.isFile()) return response.writeHead(404, { 'content-type': 'text/plain' }).end('Not found\n');
  const { encoding, sent, bytes } = await encoded(path, info, request.headers['accept-encoding']);
  const headers = {
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    'content-security-policy': CONTENT_SECURITY_POLICY,
    'x-content-type-options': 'nosniff',
    // Only the bundler's file names change with their content.
    'cache-control': path.startsWith(join(roots.www, 'assets') + sep) ? 'public, max-age=31536000, immutable' : 'no-cache',
    'last-modified': info.mtime.toUTCString(),
    vary: 'accept-encoding',
    ...(encoding && { 'content-encoding': encoding }),
  };
  const range = encoding ? undefined : rangeOf(request, bytes, headers['last-modified']);
  if (range && range.start >= bytes) return response.writeHead(416, { 'content-range': `bytes */${bytes}` }).end();
  const { start, end } = range ?? { start: 0, end: bytes - 1 };
  if (range) headers['content-range'] = `bytes ${start}-${end}/${bytes}`;
  response.writeHead(range ? 206 : 200, { ...headers, 'accept-ranges': 'bytes', 'content-length': end - start + 1 });
  if (request.method === 'HEAD' || bytes === 0) return response.end();
  createReadStream(sent, { start, end }).on('error', () => response.destroy()).pipe(response);
}

/** The compressed file beside this one, if there is one that the browser takes. */
async function encoded(path, info, accepted = '') {
  for (const [encoding, suffix] of ENCODINGS) {
    if (!accepted.includes(encoding)) continue;
    const beside = await stat(path + suffix).catch(() => null);
    if (beside?.mtimeMs >= info.mtimeMs) return { encoding, sent: path + suffix, bytes: beside.size };
  }
  return { sent: path, bytes: info.size };
}

/** Of a request for one range of the file as it is now: others may be answered with all of it. */
function rangeOf({ headers }, bytes, modified) {
  const [, start, end] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '') ?? [];
  if (start === undefined || (headers['if-range'] ?? modified) !== modified) return undefined;
  return { start: Number(start), end: Math.min(end === '' ? Infinity : Number(end), bytes - 1) };
}

/** @returns {string | null} null for a path that is malformed or leaves the served folders */
function filePath(url, { www, models }) {
  let path;
  try {
    path = decodeURIComponent(new URL(url, 'http://localhost').pathname);
  } catch {
    return null;
  }
  if (path.endsWith('/')) path += 'index.html';
  const inModels = path.startsWith('/models/');
  const root = inModels ? models : www;
  const file = normalize(join(root, inModels ? path.slice('/models/'.length) : path));
  return file.startsWith(root + sep) && !file.includes('\0') ? file : null;
}

function listen(server, port) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, 'localhost', () => {
      server.off('error', reject);
      resolve();
    });
  });
}

if (import.meta.filename === process.argv[1]) {
  const { port } = readOptions(import.meta.filename, { port: PORT });
  const { url } = await serve({ port });
  console.log(`mcwc demo: ${url}`);
}
