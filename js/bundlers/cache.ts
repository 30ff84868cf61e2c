// What an archive is made of -> where it is kept between builds: under the hash of all of it, so that what is there is never changed.
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';

const KEY_DIGITS = 32;

export class Cache {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Which files come along with a model, whoever encodes it finds out. Their names are kept under `key`, which knows of all else; it and
   * their contents are the archive's own key.
   */
  async companions(key: string): Promise<string[] | undefined> {
    const text = await readFile(this.#namesOf(key), 'utf8').catch(() => undefined);
    return text === undefined ? undefined : JSON.parse(text);
  }

  archive(key: string, name: string): string | undefined {
    const path = this.#archiveOf(key, name);
    return existsSync(path) ? path : undefined;
  }

  async keepCompanions(key: string, names: string[]): Promise<void> {
    await write(this.#namesOf(key), JSON.stringify(names));
  }

  async keepArchive(key: string, name: string, archive: Blob): Promise<string> {
    const path = this.#archiveOf(key, name);
    await write(path, archive.stream());
    return path;
  }

  #namesOf(key: string): string {
    return join(this.#folder, `${key}.json`);
  }

  /** Named as bundlers are to name it. */
  #archiveOf(key: string, name: string): string {
    return join(this.#folder, key, `${name}.mcwc`);
  }
}

/** Of the package that `root` lies in. */
export function defaultFolder(root: string): string {
  for (let folder = resolve(root); ; folder = dirname(folder)) {
    const isTop = folder === dirname(folder);
    if (isTop || existsSync(join(folder, 'package.json'))) return join(isTop ? root : folder, 'node_modules/.cache/mcwc');
  }
}

export function keyOf(parts: unknown): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, KEY_DIGITS);
}

export async function hashFile(path: string | URL): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** All of it or nothing, whoever else writes the same. */
async function write(path: string, data: string | ReadableStream<Uint8Array>): Promise<void> {
  const part = `${path}.${randomUUID()}.part`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(part, data as string);
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
}
