// Names and paths of what archives are made of.
import { existsSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';

/** The path itself, or all files in the folder. */
export async function filesOf(path: string): Promise<string[]> {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  return paths.sort();
}

/** Names in an archive of files that nobody named: the encoder found them beside those that were. */
export function companionsAmong(names: string[], files: string[]): string[] {
  const named = new Set(files.map((path) => basename(path)));
  return names.filter((name) => !named.has(name));
}

export function locate(companion: string, files: string[]): string | undefined {
  return files.map((path) => join(dirname(path), companion)).find((path) => existsSync(path));
}

/** From a folder, if it lies there. */
export function shownFrom(folder: string, path: string): string {
  const inside = relative(folder, path);
  return inside.startsWith('..') ? path : inside.replaceAll('\\', '/');
}
