// An archive and the files it was made of -> what differs between them: decoded again by the package, like any page would.
import { open } from 'mcwc';
import { toFloat32 } from 'mcwc/float32';

/**
 * `error` is relative: root mean square, 0 if every byte is equal.
 * @typedef {{name: string, dtype: string, shape: number[], bytes: number, error: number}} VerifiedTensor
 * @typedef {{files: number, exactBytes: number, tensors: VerifiedTensor[], ms: number}} Verified
 */

const FLOATS = ['f32', 'f16', 'bf16', 'f64'];
/** Of what lies between tensors, as much as is compared at once. */
const PIECE_BYTES = 2 ** 22;

onmessage = async ({ data: { archive, files, coded } }) => {
  try {
    postMessage({ result: await verify(archive, files, coded) });
  } catch ({ message, code }) {
    postMessage({ error: { message, code } });
  }
};

/** @param {import('mcwc/encoder').EncodedTensor[]} coded what the encoder says of tensors */
async function verify(blob, files, coded) {
  const start = performance.now();
  // In the archive, a path begins inside of the folder that was given.
  const sources = new Map(files.map(({ name, data }) => [name.slice(name.indexOf('/') + 1), data]));
  const archive = await open(blob);
  try {
    for (const { name, bytes } of archive.files) {
      if (sources.get(name)?.size !== bytes) throw new Error(`${name} comes back with another length`);
    }
    const tensors = await compareTensors(archive, sources, whatMayDiffer(coded));
    const exact = tensors.filter(({ error }) => error === 0).reduce((sum, { bytes }) => sum + bytes, 0);
    const exactBytes = exact + (await compareOthers(archive, sources));
    return { files: archive.files.length, exactBytes, tensors, ms: performance.now() - start };
  } finally {
    archive.close();
  }
}

/** Only what is coded with loss. Of tensors that are equal to each other the encoder names one. */
function whatMayDiffer(coded) {
  const lossy = new Map(coded.map((tensor) => [tensor.name, tensor.lossy]));
  const shapes = new Set(coded.filter((tensor) => tensor.lossy).map(({ shape }) => shape.join()));
  return (name, shape) => lossy.get(name) ?? shapes.has(shape.join());
}

async function compareTensors(archive, sources, mayDiffer) {
  const infos = new Map(archive.tensors.map((info) => [info.name, info]));
  const compared = [];
  for await (const { name, dtype, shape, data } of archive.each()) {
    const { file, offset, bytes } = infos.get(name);
    const original = await sources.get(file).slice(offset, offset + bytes).arrayBuffer();
    const decoded = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const isEqual = equal(decoded, new Uint8Array(original));
    if (!isEqual && !(FLOATS.includes(dtype) && mayDiffer(name, shape))) throw new Error(`${name} should come back exactly`);
    const error = isEqual ? 0 : relativeError(dtype, data, original);
    compared.push({ name, dtype, shape, bytes, error });
  }
  return compared;
}

/** Of what belongs to no tensor, whose bytes have to be equal. Gives how many there are. */
async function compareOthers(archive, sources) {
  let others = 0;
  for (const { name, bytes } of archive.files) {
    for (const [start, end] of gaps(archive.tensors.filter(({ file }) => file === name), bytes)) {
      const [decoded, original] = await Promise.all([archive.file(name).bytes(start, end), sources.get(name).slice(start, end).arrayBuffer()]);
      if (!equal(decoded, new Uint8Array(original))) throw new Error(`${name} comes back with other bytes between ${start} and ${end}`);
      others += end - start;
    }
  }
  return others;
}

/** What tensors leave of a file, in pieces. */
function gaps(tensors, fileBytes) {
  const found = [];
  let at = 0;
  const ends = { offset: fileBytes, bytes: 0 };
  for (const { offset, bytes } of [...tensors.toSorted((a, b) => a.offset - b.offset), ends]) {
    for (; at < offset; at = found.at(-1)[1]) found.push([at, Math.min(offset, at + PIECE_BYTES)]);
    at = Math.max(at, offset + bytes);
  }
  return found;
}

function equal(a, b) {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

function relativeError(dtype, decoded, bytes) {
  const found = toFloat32({ dtype, data: decoded });
  const wanted = toFloat32({ dtype, data: new decoded.constructor(bytes) });
  let [squaredError, energy] = [0, 0];
  for (let index = 0; index < wanted.length; index++) {
    squaredError += (found[index] - wanted[index]) ** 2;
    energy += wanted[index] ** 2;
  }
  return Math.sqrt(squaredError / energy);
}
