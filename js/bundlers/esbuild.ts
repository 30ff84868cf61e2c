// What `import 'mcwc/esbuild'` gives: the plugin for esbuild.
import { readFile } from 'node:fs/promises';
import { Archives } from './archives.js';
import type { PluginOptions } from './plugin-options.js';
import { IMPORTED, parseRequest } from './request.js';

export type { PluginOptions } from './plugin-options.js';

interface Import {
  path: string;
  importer: string;
  resolveDir: string;
  kind: unknown;
}

/** Of esbuild's, what is needed. */
export interface Build {
  initialOptions: { absWorkingDir?: string; format?: string };
  resolve(path: string, options: object): Promise<{ path: string; errors: { text: string }[] }>;
  onResolve(options: { filter: RegExp; namespace?: string }, callback: (args: Import) => Promise<object | undefined>): void;
  onLoad(options: { filter: RegExp; namespace: string }, callback: (args: { path: string }) => object | Promise<object>): void;
}

/** Modules that export an archive's address, and archives, which are files of the output. */
const [MODULE, FILE] = ['mcwc', 'mcwc-file'];

/** `import url from './model.onnx?mcwc'` compresses the model, once, and gives the address of its archive. */
export function mcwc(options: PluginOptions = {}): { name: string; setup(build: Build): void } {
  return {
    name: 'mcwc',
    setup(build) {
      const { absWorkingDir = process.cwd(), format } = build.initialOptions;
      const archives = new Archives(options, absWorkingDir, (line) => console.error(`mcwc: ${line}`));
      build.onResolve({ filter: IMPORTED, namespace: 'file' }, async ({ path: source, importer, resolveDir, kind }) => {
        const request = parseRequest(source)!;
        const { path, errors } = await build.resolve(request.path, { importer, resolveDir, kind });
        if (errors.length > 0) return { errors };
        try {
          const made = await archives.make({ ...request, path }, importer);
          // What a module of another format is loaded from, it does not know.
          return { path: made.path, namespace: format === 'esm' ? MODULE : FILE, watchFiles: [path, ...made.inputs] };
        } catch (error) {
          return { errors: [{ text: (error as Error).message }], watchFiles: [path] };
        }
      });
      build.onLoad({ filter: /./, namespace: MODULE }, ({ path }) => {
        return { contents: `import file from ${JSON.stringify(path)};\nexport default new URL(file, import.meta.url).href;` };
      });
      build.onResolve({ filter: /./, namespace: MODULE }, async ({ path }) => ({ path, namespace: FILE }));
      build.onLoad({ filter: /./, namespace: FILE }, async ({ path }) => ({ contents: await readFile(path), loader: 'file' }));
    },
  };
}
