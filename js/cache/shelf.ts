// Named bytes in folders that outlive the page: in the origin private file system or, where that is missing, in the Cache API.
import { CacheApiShelf } from './cache-api.js';
import { OpfsShelf } from './opfs.js';

/** A named cache. What is put is there as a whole or, after a crash, empty or not at all. */
export interface Shelf {
  readonly kind: 'opfs' | 'cache-api';
  readonly name: string;
  folders(): Promise<string[]>;
  /** Of what lies in a folder; empty if there is no such folder. */
  names(folder: string): Promise<string[]>;
  /** Undefined if it is not there. */
  get(folder: string, name: string): Promise<Blob | undefined>;
  put(folder: string, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Removes what may not be there. */
  remove(folder: string, name: string): Promise<void>;
  removeFolder(folder: string): Promise<void>;
}

/** The shelf of a named cache; rejects where nothing can be kept. */
export async function openShelf(name: string): Promise<Shelf> {
  const failures = [];
  for (const { open } of [OpfsShelf, CacheApiShelf]) {
    try {
      return await open(name);
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  const context = globalThis.isSecureContext === false ? ' in an insecure context' : '';
  throw new Error(`nothing can be kept${context}: ${failures.join('; ')}`);
}

/** All caches that this origin has. */
export async function shelves(): Promise<Shelf[]> {
  const found = [OpfsShelf, CacheApiShelf].map(async ({ names, open }): Promise<Shelf[]> => {
    return Promise.all((await names().catch(() => [])).map((name) => open(name)));
  });
  return (await Promise.all(found)).flat();
}
