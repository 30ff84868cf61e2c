// A source -> a verified header -> an archive that can be read while the rest arrives.
import { Archive } from './archive.js';
import { loadBackend } from './backend.js';
import type { Link } from './chunks.js';
import { descriptionOf } from './description.js';
import { McwcError } from './errors.js';
import { defaultWorkers } from './pool/threads.js';
import { openSource } from './sources.js';
import { PREAMBLE_BYTES, type Source } from './source/source.js';
import type { ArchiveOptions, ArchiveSource } from './types.js';
import { type Wasm, type WasmArchive, parse } from './wasm.js';

/** Of `setTimeout`. */
const DELAY_MS_MAX = 2 ** 31 - 1;

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
  const { signal, integrity, workers = defaultWorkers(), onProgress } = options;
  signal?.throwIfAborted();
  check(options);
  const counted = { decoded: 0 };
  const bytes = await openSource(source, options, (progress) => onProgress?.({ ...progress, ...counted }));
  const onAbort = () => bytes.close(signal?.reason);
  signal?.addEventListener('abort', onAbort);
  try {
    signal?.throwIfAborted();
    const { wasm, acquired } = await loadBackend(options);
    const link = { head: await readHead(bytes, wasm), source: bytes };
    const linked = await base;
    const chain = [link, ...(linked?.chain ?? [])];
    const header = await parseChain(chain, wasm);
    const description = descriptionOf(header.describe());
    if (integrity !== undefined && integrity.toLowerCase() !== description.integrity) {
      throw new McwcError('checksum', `the archive's integrity is ${description.integrity}, not ${integrity}`);
    }
    counted.decoded = link.head.length;
    bytes.expect(description.bytes);
    // An archive that is all here, and too short or too long, is refused at once.
    await Promise.race([bytes.complete, Promise.resolve()]);
    const { readOnGpu, backendReason } = await acquired;
    signal?.throwIfAborted();
    const own = isOwn ? linked : undefined;
    return new Archive({ wasm, header, description, chain, base: own, workers, options, readOnGpu, backendReason, counted });
  } catch (error) {
    const reason = signal?.aborted ? signal.reason : McwcError.from(error);
    bytes.close(reason);
    throw reason;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

function check({ backend = 'auto', workers = 0, integrity, lazy = false, silenceMs = 0, retries = 0, retryMs = 0 }: ArchiveOptions): void {
  const refuse = (message: string) => {
    throw new McwcError('argument', message);
  };
  if (!['auto', 'cpu', 'webgpu'].includes(backend)) refuse(`there is no backend ${JSON.stringify(backend)}`);
  if (typeof lazy !== 'boolean') refuse('lazy must be a boolean');
  for (const [name, value] of Object.entries({ workers, retries, silenceMs, retryMs })) {
    if (!Number.isInteger(value) || value < 0 || value > DELAY_MS_MAX) refuse(`${name} must be a whole number`);
  }
  if (integrity !== undefined && !/^[0-9a-f]{32}$/i.test(integrity)) refuse('integrity must be 32 hexadecimal digits');
}

async function readHead(source: Source, { Archive }: Wasm): Promise<Uint8Array> {
  const preamble = new Uint8Array(PREAMBLE_BYTES);
  await source.read(0, preamble);
  const head = new Uint8Array(Archive.headBytes(preamble));
  await source.read(0, head);
  return head;
}

/** A damaged header is fetched again once. */
async function parseChain(chain: Link[], wasm: Wasm): Promise<WasmArchive> {
  const [own] = chain;
  try {
    return parse(wasm, chain.map(({ head }) => head));
  } catch (error) {
    const isDamaged = McwcError.from(error).code === 'checksum';
    if (!isDamaged || !(await own.source.refetch(0, own.head.length))) throw error;
    own.head = await readHead(own.source, wasm);
    return parse(wasm, chain.map(({ head }) => head));
  }
}
