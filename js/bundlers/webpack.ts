// What `import 'mcwc/webpack'` gives: the plugin for webpack, and the loader that it has webpack use.
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Archives } from './archives.js';
import type { PluginOptions } from './plugin-options.js';
import { IMPORTED, parseRequest } from './request.js';

export type { PluginOptions } from './plugin-options.js';

/** Of webpack's, what is needed. */
export interface Compiler {
  options: { module: { rules: unknown[] } };
}

interface LoaderContext {
  rootContext: string;
  resourcePath: string;
  resourceQuery: string;
  getOptions(): PluginOptions;
  addDependency(path: string): void;
}

/** `import url from './model.onnx?mcwc'` compresses the model, once, and gives the address of its archive. */
export function mcwc(options: PluginOptions = {}): { apply(compiler: Compiler): void } {
  const rule = {
    resourceQuery: IMPORTED,
    type: 'asset/resource',
    generator: { filename: '[name]-[contenthash].mcwc' },
    use: { loader: fileURLToPath(import.meta.url), options },
  };
  return { apply: ({ options: { module } }) => void module.rules.push(rule) };
}

/** @internal The loader: gives the archive instead of the model, which webpack then need not read. */
export async function pitch(this: LoaderContext): Promise<Uint8Array> {
  const archives = new Archives(this.getOptions(), this.rootContext, (line) => console.error(`mcwc: ${line}`));
  this.addDependency(this.resourcePath);
  const { path, inputs } = await archives.make(parseRequest(this.resourcePath + this.resourceQuery)!, undefined);
  for (const input of inputs) this.addDependency(input);
  return readFile(path);
}
