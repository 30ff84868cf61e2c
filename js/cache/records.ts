// Addresses -> the archives that were found there, as one small file for each in a folder of the shelf.
import { hex } from './preamble.js';
import type { Shelf } from './shelf.js';

const FOLDER = 'addresses';

export interface Record {
  url: string;
  /** Integrity of what lies there as of the last look. */
  integrity: string;
  /** That of what was complete before, and is kept until `integrity` is complete. */
  previous?: string;
}

/** The last look at an address; undefined if there was none. */
export async function readRecord(shelf: Shelf, url: string): Promise<Record | undefined> {
  const name = await nameOf(url);
  // One that is written anew in between cannot be read once.
  return (await parse(await shelf.get(FOLDER, name))) ?? parse(await shelf.get(FOLDER, name));
}

export async function writeRecord(shelf: Shelf, record: Record): Promise<void> {
  await shelf.put(FOLDER, await nameOf(record.url), new TextEncoder().encode(JSON.stringify(record)));
}

export async function removeRecord(shelf: Shelf, url: string): Promise<void> {
  await shelf.remove(FOLDER, await nameOf(url));
}

export async function allRecords(shelf: Shelf): Promise<Record[]> {
  const names = await shelf.names(FOLDER);
  const records = await Promise.all(names.map(async (name) => parse(await shelf.get(FOLDER, name))));
  return records.filter((record) => record !== undefined);
}

/** Archives that are on the shelf, by integrity. */
export async function archivesOn(shelf: Shelf): Promise<string[]> {
  return (await shelf.folders()).filter((folder) => folder !== FOLDER);
}

/** Undefined for what a crash has left empty. */
async function parse(blob: Blob | undefined): Promise<Record | undefined> {
  try {
    return blob && JSON.parse(await blob.text());
  } catch {
    return undefined;
  }
}

async function nameOf(url: string): Promise<string> {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(url));
  return hex(new Uint8Array(hash, 0, 16));
}
