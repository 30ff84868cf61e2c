// What `import 'mcwc/vite'` gives: the plugin for Vite.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Archives } from './archives.js';
import { moduleHooks } from './modules.js';
import type { PluginOptions } from './plugin-options.js';

export type { PluginOptions } from './plugin-options.js';

interface Config {
  root: string;
  logger: { info(text: string): void };
  server: { fs: { allow: string[] } };
}

interface Server {
  middlewares: { use(answer: (request: IncomingMessage, response: ServerResponse, next: () => void) => void): void };
}

/** `import url from './model.onnx?mcwc'` compresses the model, once, and gives the address of its archive. */
export function mcwc(options: PluginOptions = {}): { name: string } {
  let archives: Archives;
  // Vite knows best how a file is served, emitted and addressed.
  const hooks = moduleHooks(
    () => archives,
    (_, path) => `export { default } from ${JSON.stringify(`${path.replaceAll('\\', '/')}?url&no-inline`)};`,
  );
  const plugin = {
    name: 'mcwc',
    enforce: 'pre',
    // Vite before 8 would part the package's scripts from its wasm.
    config: () => ({ optimizeDeps: { exclude: ['mcwc'] } }),
    configResolved({ root, logger, server }: Config) {
      archives = new Archives(options, root, (line) => logger.info(`mcwc: ${line}`));
      server.fs.allow.push(archives.folder);
    },
    configureServer: giveTypes,
    configurePreviewServer: giveTypes,
    ...hooks,
  };
  return plugin;
}

/** Vite knows no type of archives. With `import` in their query, it sends modules. */
function giveTypes({ middlewares }: Server): void {
  middlewares.use(({ url = '' }, response, next) => {
    if (/\.mcwc(\?no-inline)?$/.test(url)) response.setHeader('content-type', 'application/octet-stream');
    next();
  });
}
