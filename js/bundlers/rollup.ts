// What `import 'mcwc/rollup'` gives: the plugin for Rollup and Rolldown.
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { Archives } from './archives.js';
import { moduleHooks } from './modules.js';
import type { PluginOptions } from './plugin-options.js';

export type { PluginOptions } from './plugin-options.js';

/** `import url from './model.onnx?mcwc'` compresses the model, once, and gives the address of its archive. */
export function mcwc(options: PluginOptions = {}): { name: string } {
  const archives = new Archives(options, process.cwd(), (line) => console.error(`mcwc: ${line}`));
  const hooks = moduleHooks(
    () => archives,
    async (context, path) => {
      const reference = context.emitFile({ type: 'asset', name: basename(path), source: await readFile(path) });
      return `export default import.meta.ROLLUP_FILE_URL_${reference};`;
    },
  );
  return { name: 'mcwc', ...hooks };
}
