// Hooks that Rollup, Rolldown and Vite share: an import of a model -> a module whose default export is the address of its archive.
import type { Archives } from './archives.js';
import { type Request, parseRequest } from './request.js';

/** Of a bundler's plugin context, what is needed. */
export interface Context {
  resolve(source: string, importer: string | undefined, options: { skipSelf: boolean }): Promise<{ id: string; external: unknown } | null>;
  addWatchFile(path: string): void;
  emitFile(file: { type: 'asset'; name: string; source: Uint8Array }): string;
}

/** Other plugins leave such modules alone, and none takes one of `model.json` for JSON. */
const [PREFIX, SUFFIX] = ['\0mcwc:', '.mcwc'];

/** `codeOf`: of a module for the archive at this path. */
export function moduleHooks(archives: () => Archives, codeOf: (context: Context, path: string) => string | Promise<string>) {
  const imports = new Map<string, { request: Request; importer: string | undefined }>();
  return {
    async resolveId(this: Context, source: string, importer: string | undefined) {
      const request = parseRequest(source);
      if (!request) return null;
      const found = await this.resolve(request.path, importer, { skipSelf: true });
      if (!found || found.external) throw archives().error(request, importer, 'there is no such file');
      const [path] = found.id.split('?');
      const id = `${PREFIX}${path}${SUFFIX}?${request.query}`;
      imports.set(id, { request: { path, query: request.query }, importer });
      return id;
    },
    async load(this: Context, id: string) {
      const imported = imports.get(id);
      if (!imported) return null;
      this.addWatchFile(imported.request.path);
      const { path, inputs } = await archives().make(imported.request, imported.importer);
      for (const input of inputs) this.addWatchFile(input);
      return codeOf(this, path);
    },
  };
}
