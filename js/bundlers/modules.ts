// Hooks that Rollup, Rolldown and Vite share: an import of a model -> a module whose default export is the address of its archive.
import { McwcError } from '../errors.js';
import type { Archives } from './archives.js';
import { IMPORTED, parseRequest } from './request.js';

/** Of a bundler's plugin context, what is needed. */
export interface Context {
  resolve(source: string, importer: string | undefined, options: { skipSelf: boolean }): Promise<{ id: string; external: unknown } | null>;
  addWatchFile(path: string): void;
  emitFile(file: { type: 'asset'; name: string; source: Uint8Array }): string;
}

/** Of such a module. Other plugins leave those alone that begin like this; and none takes one for JSON, of which names in it may be. */
const ID = /^\0mcwc:([^|]+)\|(.*)\.mcwc$/;

/** `codeOf`: of a module for the archive at this path. */
export function moduleHooks(archives: () => Archives, codeOf: (context: Context, path: string) => string | Promise<string>) {
  /** By the module. */
  const importers = new Map<string, string | undefined>();

  async function resolveId(this: Context, source: string, importer: string | undefined) {
    if (ID.test(source)) return source;
    const request = parseRequest(source);
    if (!request) return null;
    const found = await this.resolve(request.path, importer, { skipSelf: true });
    if (!found || found.external) throw archives().error(request, importer, new McwcError('io', 'there is no such file'));
    const [path] = found.id.split('?');
    const id = `\0mcwc:${path}|${request.query}.mcwc`;
    importers.set(id, importer);
    return id;
  }

  async function load(this: Context, id: string) {
    const [, model, query] = ID.exec(id) ?? [];
    if (!model) return null;
    this.addWatchFile(model);
    const { path, inputs } = await archives().make({ path: model, query }, importers.get(id));
    for (const input of inputs) this.addWatchFile(input);
    return codeOf(this, path);
  }

  // Where a bundler knows no filters, both are called for every module.
  return {
    resolveId: { filter: { id: [IMPORTED, ID] }, handler: resolveId },
    load: { filter: { id: ID }, handler: load },
  };
}
