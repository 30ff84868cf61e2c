// A source -> a verified header -> an archive that can be read while the rest arrives.
import { Archive } from './archive.js';
import { loadBackend } from './backend.js';
import { descriptionOf } from './description.js';
import { McwcError } from './errors.js';
import { hardwareConcurrency } from './platform.js';
import { openSource } from './source/open.js';
import type { Source } from './source/source.js';
import type { ArchiveOptions, ArchiveSource } from './types.js';
import { type Wasm, parse } from './wasm.js';

const PREAMBLE_BYTES = 32;
const WORKERS_MAX = 4;

export interface OpenOptions extends ArchiveOptions {
  /**
   * What a delta is predicted from: an open archive, which has to stay open, or where to find one; that is then opened with
   * these options, and closed with the delta.
   */
  base?: Archive | ArchiveSource;
}

/**
 * Opens an archive. Resolves as soon as its header has arrived and proved sound; what is read later waits for its bytes.
 */
export async function open(source: ArchiveSource, options: OpenOptions = {}): Promise<Archive> {
  const { base } = options;
  if (base === undefined || base instanceof Archive) return openOn(base, false, source, options);
  const own = open(base, { ...options, base: undefined, integrity: undefined, onProgress: undefined, onPass: undefined });
  // If it fails, that is noticed where it is needed.
  own.catch(() => {});
  try {
    return await openOn(own, true, source, options);
  } catch (error) {
    own.then((archive) => archive.close(), () => {});
    throw error;
  }
}

/** `isOwn`: whether the base closes with the archive. */
async function openOn(
  base: Archive | Promise<Archive> | undefined,
  isOwn: boolean,
  source: ArchiveSource,
  options: ArchiveOptions,
): Promise<Archive> {
  const { signal, integrity, workers = Math.min(hardwareConcurrency(), WORKERS_MAX) } = options;
  signal?.throwIfAborted();
  if (!Number.isInteger(workers) || workers < 0) throw new McwcError('argument', 'workers must be 0 or more');
  if (integrity !== undefined && !/^[0-9a-f]{32}$/i.test(integrity)) {
    throw new McwcError('argument', 'integrity must be 32 hexadecimal digits');
  }
  const opening = [loadBackend(options), openSource(source, options)] as const;
  const [{ wasm, acquired }, bytes] = await settled(opening, (bytes) => bytes.close(closed()));
  const onAbort = () => bytes.close(signal?.reason);
  signal?.addEventListener('abort', onAbort);
  try {
    signal?.throwIfAborted();
    const link = { head: await readHead(bytes, wasm), source: bytes };
    const linked = await base;
    const chain = [link, ...(linked?.chain ?? [])];
    const header = parse(wasm, chain.map(({ head }) => head));
    const description = descriptionOf(header.describe());
    if (integrity !== undefined && integrity.toLowerCase() !== description.integrity) {
      throw new McwcError('checksum', `the archive's integrity is ${description.integrity}, not ${integrity}`);
    }
    bytes.expect(description.bytes);
    // An archive that is all here, and too short or too long, is refused at once.
    await Promise.race([bytes.complete, Promise.resolve()]);
    const { gpu, backendReason } = await acquired;
    signal?.throwIfAborted();
    return new Archive({ wasm, header, description, chain, base: isOwn ? linked : undefined, workers, options, gpu, backendReason });
  } catch (error) {
    const reason = signal?.aborted ? signal.reason : McwcError.from(error);
    bytes.close(reason);
    throw reason;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

async function readHead(source: Source, { Archive }: Wasm): Promise<Uint8Array> {
  const preamble = new Uint8Array(PREAMBLE_BYTES);
  await source.read(0, preamble);
  const head = new Uint8Array(Archive.headBytes(preamble));
  await source.read(0, head);
  return head;
}

/** Both values, or the first error; then a source that was opened is closed again. */
async function settled<A, B>([first, second]: readonly [Promise<A>, Promise<B>], discard: (second: B) => void): Promise<[A, B]> {
  try {
    return await Promise.all([first, second]);
  } catch (error) {
    second.then(discard, () => {});
    throw error;
  }
}

function closed(): McwcError {
  return new McwcError('closed', 'the archive could not be opened');
}
