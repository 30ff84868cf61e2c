// The name of a cache -> its shelf: in the origin private file system or, where that is missing, in the Cache API.
import { CacheApiShelf } from './cache-api.js';
import { OpfsShelf } from './opfs.js';
import type { Shelf } from './shelf.js';

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
