// Folders -> servers: of pages, under a Content-Security-Policy, and of what pages of another origin load.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.json': 'application/json', '.wasm': 'application/wasm' };

/** `folders`: what is served, the first that has a file; `headers` of every response; `unreachable`: paths that get none. */
export function serve(folders, headers, { port = 0, unreachable = new Set() } = {}) {
  return listen(port, async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    if (unreachable.has(pathname)) return request.socket.destroy();
    const path = pathname.endsWith('/') ? `${pathname}index.html` : pathname;
    for (const folder of folders) {
      const body = await readFile(join(folder, path)).catch(() => undefined);
      if (body) return response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', ...headers }).end(body);
    }
    // Browsers ask for icons by themselves.
    response.writeHead(pathname === '/favicon.ico' ? 204 : 404, headers).end();
  });
}

async function listen(port, answer) {
  const server = createServer(answer);
  await new Promise((resolve) => server.listen(port, 'localhost', resolve));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { origin: `http://localhost:${server.address().port}`, close };
}

/** A port that nothing listens on now. */
export async function freePort() {
  const { origin, close } = await listen(0, () => {});
  close();
  return Number(new URL(origin).port);
}
