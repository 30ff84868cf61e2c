// An archive and the files it was made of -> what differs between them: decoded again by the package, like any page would.
import { open } from 'mcwc';
import { toFloat32 } from 'mcwc/float32';
import { piecesOf } from './pieces.js';
import { postTensors } from './tensors.js';

/**
 * `error` is relative: root mean square, 0 if every byte is equal.
 * @typedef {{name: string, dtype: string, shape: number[], bytes: number, error: number}} VerifiedTensor
 * @typedef {{files: number, exactBytes: number, tensors: VerifiedTensor[], ms: number}} Verified
 */

/** Whose values tell how far off they are. */
const FLOATS = { f32: Float32Array, f16: Uint16Array, bf16: Uint16Array, f64: Float64Array };

/** Names of tensors that are coded exactly, and shapes of others. Of tensors that are equal to each other the encoder names one. */
onmessage = async ({ data: { archive, files, exact, lossyShapes } }) => {
  const [exactNames, shapes] = [new Set(exact), new Set(lossyShapes)];
  const mayDiffer = ({ name, dtype, shape }) => dtype in FLOATS && !exactNames.has(name) && shapes.has(shape.join());
  try {
    const start = performance.now();
    const result = await verify(archive, files, mayDiffer);
    postMessage({ result: { ...result, ms: performance.now() - start } });
  } catch ({ message, code }) {
    postMessage({ error: { message, code } });
  }
};

async function verify(blob, files, mayDiffer) {
  // In the archive, a path begins inside of the folder that was given.
  const sources = new Map(files.map(({ name, data }) => [name.slice(name.indexOf('/') + 1), data]));
  const archive = await open(blob);
  try {
    for (const { name, bytes } of archive.files) {
      if (sources.get(name)?.size !== bytes) throw new Error(`${name} comes back with another length`);
    }
    const total = archive.files.reduce((sum, { bytes }) => sum + bytes, 0);
    let [done, differing] = [0, 0];
    for await (const { name, piece, decoded, original } of decodedPieces(archive, sources)) {
      const tensors = compare(name, piece, decoded, original, mayDiffer);
      differing += tensors.reduce((sum, { error, bytes }) => sum + (error > 0 ? bytes : 0), 0);
      done += piece.end - piece.start;
      postTensors(tensors);
      postMessage({ progress: [done / total] });
    }
    return { files: archive.files.length, exactBytes: total - differing };
  } finally {
    archive.close();
  }
}

/** While one is compared, the next is decoded. */
async function* decodedPieces(archive, sources) {
  const pieces = archive.files.flatMap(({ name, bytes }) => {
    const tensors = archive.tensors.filter(({ file }) => file === name);
    return piecesOf(tensors, bytes).map((piece) => ({ name, piece }));
  });
  const read = async ({ name, piece }) => {
    const { start, end } = piece;
    const [decoded, original] = await Promise.all([archive.file(name).bytes(start, end), sources.get(name).slice(start, end).arrayBuffer()]);
    return { name, piece, decoded, original: new Uint8Array(original) };
  };
  let next;
  for (let index = 0; index < pieces.length; index++) {
    const current = await (next ?? read(pieces[index]));
    next = pieces[index + 1] && read(pieces[index + 1]);
    // Whoever awaits it hears of it.
    next?.catch(() => {});
    yield current;
  }
}

/** @returns {VerifiedTensor[]} @throws {Error} if what has to be equal is not */
function compare(file, { start, end, tensors }, decoded, original, mayDiffer) {
  const inPiece = (bytes, from, to) => bytes.subarray(from - start, to - start);
  const isEqual = (from, to) => equal(inPiece(decoded, from, to), inPiece(original, from, to));
  const compareOther = (from, to) => {
    if (from < to && !isEqual(from, to)) throw new Error(`${file} comes back with other bytes between ${from} and ${to}`);
  };
  let at = start;
  const compared = tensors.map((tensor) => {
    const { name, dtype, shape, offset, bytes } = tensor;
    compareOther(at, offset);
    at = Math.max(at, offset + bytes);
    if (isEqual(offset, offset + bytes)) return { name, dtype, shape, bytes, error: 0 };
    if (!mayDiffer(tensor)) throw new Error(`${name} should come back exactly`);
    const [found, wanted] = [decoded, original].map((bytesOf) => floats(dtype, inPiece(bytesOf, offset, offset + bytes)));
    return { name, dtype, shape, bytes, error: relativeError(found, wanted) };
  });
  compareOther(at, end);
  return compared;
}

function equal(a, b) {
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** Tensors lie in files wherever they want. */
function floats(dtype, bytes) {
  return toFloat32({ dtype, data: new FLOATS[dtype](bytes.slice().buffer) });
}

function relativeError(found, wanted) {
  let [squaredError, energy] = [0, 0];
  for (let index = 0; index < wanted.length; index++) {
    squaredError += (found[index] - wanted[index]) ** 2;
    energy += wanted[index] ** 2;
  }
  return Math.sqrt(squaredError / energy);
}
