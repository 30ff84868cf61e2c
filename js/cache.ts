// What `import 'mcwc/cache'` gives. `open` loads it when it is asked to keep what it downloads.
import { list, remove } from './cache/caches.js';
import { McwcError, type OpenOptions, open } from './index.js';
import type { CacheFilter, CachedArchive } from './types.js';

/** @internal */
export { KeptBytes } from './cache/kept.js';
export type { CacheFilter, CachedArchive } from './types.js';

/** What the caches of this origin hold. */
export interface Caches {
  readonly archives: readonly CachedArchive[];
  /** Bytes of these archives. */
  readonly bytes: number;
  /** Bytes that all of the origin takes, and those that it may take, as the browser estimates them. */
  readonly usage: number | undefined;
  readonly quota: number | undefined;
  /** Whether the browser spares the origin when it runs short of room. */
  readonly persisted: boolean;
  /** Asks for that; some browsers ask their user. */
  persist(): Promise<boolean>;
  /** Deletes archives, all if there is no filter, and says how many bytes that were. */
  delete(filter?: CacheFilter): Promise<number>;
}

export async function caches(): Promise<Caches> {
  const { storage } = globalThis.navigator ?? {};
  const archives = await list({});
  const { usage, quota } = (await storage?.estimate?.()) ?? {};
  return {
    archives,
    bytes: archives.reduce((sum, { bytes }) => sum + bytes, 0),
    usage,
    quota,
    persisted: (await storage?.persisted?.()) ?? false,
    persist: async () => (await storage?.persist?.()) ?? false,
    delete: (filter = {}) => remove(filter),
  };
}

/** Keeps an archive, and that which a delta is based on, for when it is opened. Rejects if it cannot be kept. */
export async function prefetch(source: string | URL | Request, options: OpenOptions = {}): Promise<void> {
  const { base } = options;
  const kept = { cache: true, ...options, lazy: false, backend: 'cpu' } as const;
  if (typeof base === 'string' || base instanceof URL || base instanceof Request) {
    await prefetch(base, { ...kept, base: undefined, integrity: undefined, onProgress: undefined });
  }
  const archive = await open(source, kept);
  try {
    await archive.downloaded;
    if (!(await archive.cached)) throw new McwcError('io', archive.cacheReason);
  } finally {
    archive.close();
  }
}
