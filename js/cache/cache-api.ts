// The Cache API as a shelf: in the cache mcwc/<cache>, responses under addresses that nobody has.
import type { Shelf } from './shelf.js';

const PREFIX = 'mcwc/';
const ORIGIN = 'https://mcwc.invalid';

export class CacheApiShelf implements Shelf {
  readonly kind = 'cache-api';

  private constructor(
    readonly name: string,
    private readonly cache: Cache,
  ) {}

  static async open(name: string): Promise<CacheApiShelf> {
    if (!globalThis.caches) throw new Error('there is no Cache API');
    return new CacheApiShelf(name, await caches.open(PREFIX + name));
  }

  static async names(): Promise<string[]> {
    const names = (await globalThis.caches?.keys()) ?? [];
    return names.filter((name) => name.startsWith(PREFIX)).map((name) => name.slice(PREFIX.length));
  }

  async folders(): Promise<string[]> {
    return [...new Set((await this.#paths()).map(([folder]) => folder))];
  }

  async names(folder: string): Promise<string[]> {
    return (await this.#paths()).filter((path) => path[0] === folder).map((path) => path[1]);
  }

  async get(folder: string, name: string): Promise<Blob | undefined> {
    return (await this.cache.match(addressOf(folder, name)))?.blob();
  }

  async put(folder: string, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.cache.put(addressOf(folder, name), new Response(bytes));
  }

  async remove(folder: string, name: string): Promise<void> {
    await this.cache.delete(addressOf(folder, name));
  }

  async removeFolder(folder: string): Promise<void> {
    await Promise.all((await this.names(folder)).map((name) => this.remove(folder, name)));
  }

  async #paths(): Promise<string[][]> {
    return (await this.cache.keys()).map(({ url }) => url.slice(ORIGIN.length + 1).split('/'));
  }
}

function addressOf(folder: string, name: string): string {
  return `${ORIGIN}/${folder}/${name}`;
}
