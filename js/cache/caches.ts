// What all caches of this origin hold, and ways to be rid of it.
import type { CacheFilter, CachedArchive } from '../types.js';
import { type Record, allRecords, archivesOn, removeRecord, writeRecord } from './records.js';
import type { Shelf } from './shelf.js';
import { shelves } from './shelves.js';
import { Store } from './store.js';

export async function list(filter: CacheFilter): Promise<CachedArchive[]> {
  return (await find(filter)).map(({ archive }) => archive);
}

/** Deletes archives, and says how many bytes that were. */
export async function remove(filter: CacheFilter): Promise<number> {
  let bytes = 0;
  for (const { shelf, archive, records } of await find(filter)) {
    const { integrity } = archive;
    await shelf.removeFolder(integrity);
    for (const record of records) await forget(shelf, record, integrity);
    bytes += archive.bytes;
  }
  return bytes;
}

interface Found {
  shelf: Shelf;
  archive: CachedArchive;
  /** Those that lead to it. */
  records: Record[];
}

async function find({ cache, integrity, url, complete }: CacheFilter): Promise<Found[]> {
  const address = url && new Request(url).url.replace(/#.*/, '');
  const matches = ({ archive }: Found) =>
    (integrity?.toLowerCase() ?? archive.integrity) === archive.integrity &&
    (complete ?? archive.complete) === archive.complete &&
    (!address || archive.urls.includes(address));
  const onShelves = (await shelves()).filter(({ name }) => name === (cache ?? name)).map(findOn);
  return (await Promise.all(onShelves)).flat().filter(matches);
}

async function findOn(shelf: Shelf): Promise<Found[]> {
  const records = await allRecords(shelf);
  return Promise.all(
    (await archivesOn(shelf)).map(async (integrity) => {
      const { kept, isComplete } = await Store.open(shelf, integrity);
      const leading = records.filter((record) => record.integrity === integrity || record.previous === integrity);
      const urls = leading.map(({ url }) => url);
      return { shelf, records: leading, archive: { cache: shelf.name, integrity, urls, bytes: kept.size, complete: isComplete } };
    }),
  );
}

async function forget(shelf: Shelf, { url, integrity, previous }: Record, deleted: string): Promise<void> {
  const left = [integrity, previous].find((other) => other !== deleted);
  if (left) await writeRecord(shelf, { url, integrity: left });
  else await removeRecord(shelf, url);
}
