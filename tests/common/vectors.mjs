// The manifests of tests/vectors: what valid archives hold, and the errors of invalid ones.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const VECTORS = fileURLToPath(new URL('../vectors', import.meta.url));
export const VALID = join(VECTORS, 'valid');
export const INVALID = join(VECTORS, 'invalid');

/** For each valid archive the hash of each file: the first 32 digits of its SHA-256. */
export function digests() {
  const archives = {};
  for (const [name, file, hash] of manifest(VALID, 'digests.txt')) (archives[name] ??= {})[file] = hash;
  return archives;
}

/** The bases of a valid archive, the nearest first. */
export function basesOf(name) {
  const base = manifest(VALID, 'digests.txt').find(([archive]) => archive === name)?.[3];
  return base ? [base, ...basesOf(base)] : [];
}

/** For each invalid archive the code of its error, and its base, a valid one, if it has one. */
export function errors() {
  return manifest(INVALID, 'errors.txt').map(([name, code, base]) => ({ name, code, base }));
}

/** Archives that break one rule each, and the code of its error. */
export function rules() {
  return manifest(VECTORS, 'rules.txt').map(([name, code, hex]) => ({ name, code, archive: Buffer.from(hex ?? '', 'hex') }));
}

function manifest(folder, name) {
  const lines = readFileSync(join(folder, name), 'utf8').trimEnd().split('\n');
  return lines.filter((line) => line && !line.startsWith('#')).map((line) => line.split(' '));
}
