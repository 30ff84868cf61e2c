// What `import 'mcwc/encoder'` gives: model files -> an archive, by the `mcwc` command, which is compiled to wasm and runs in a
// thread of its own. Nothing is loaded before it is called.
import { collectFiles, commandLine, OUTPUT, refuseUnknown } from './encoder/arguments.js';
import { camelCased, commandError } from './encoder/results.js';
import type { EncodeOptions, EncodeResult, EncoderFile } from './encoder/encoding.js';
import { run } from './encoder/thread.js';
import type { ByteArray } from './types.js';

export type { EncodeOptions, EncodeProgress, EncodeReport, EncodeResult, EncodedTensor, EncoderData, EncoderFile } from './encoder/encoding.js';
export { type ErrorCode, McwcError } from './errors.js';

/**
 * Compresses model files into one archive: the same bytes as the command makes of them, on one core. What it refuses is thrown as a
 * `McwcError`: `argument` for options, `invalid` for files, `limit-exceeded` if memory did not suffice, `io` otherwise.
 */
export async function encode(files: EncoderFile | readonly EncoderFile[], options: EncodeOptions = {}): Promise<EncodeResult> {
  const { signal, onProgress, workerUrl, wasmUrl = new URL('./mcwc.wasm', import.meta.url) } = options;
  signal?.throwIfAborted();
  refuseUnknown(options);
  const { inputs, inMemory } = await collectFiles(files, options);
  const messages: string[] = [];
  const onLine = (line: string) => {
    if (line.startsWith('{')) onProgress?.(JSON.parse(line));
    else messages.push(line);
  };
  const { href } = new URL(wasmUrl, globalThis.location?.href);
  const request = { wasmUrl: href, args: commandLine(inputs, options), files: inMemory, output: OUTPUT };
  const { status, stdout, output } = await run(request, { workerUrl, signal, onLine, messages });
  if (status !== 0) throw commandError(status, messages);
  return { archive: new Blob(output as ByteArray[]), report: camelCased(JSON.parse(stdout)) };
}
