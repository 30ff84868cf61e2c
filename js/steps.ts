// A byte range of a file -> the chunks to decode for it, in order, and where their bytes go.
import type { Frame } from './description.js';

/** One chunk, another part of the raw chunk before it, or a frame that is opened without a side chunk. */
export interface Step {
  /** Which of the archive's chunks to decode; -1 for none. */
  chunk: number;
  /** The frame that it belongs to; -1 for a raw stream. */
  frame: number;
  /** Which of the frame's element chunks; -1 to open the frame. */
  index: number;
  /** Whether it gives bytes, rather than what such a step needs: an open frame, chunks of its references. */
  gives: boolean;
  /** Bytes that a raw chunk decodes to. */
  decoded: number;
  /** Bytes to leave out at the front of the piece, and to take. */
  skip: number;
  take: number;
  /** Where the taken bytes go in the result. */
  at: number;
  /** Whether runs of the chunk have places of their own in the piece. */
  scattered: boolean;
}

/** What a decoder still holds from the steps before. */
export interface Held {
  frame: number;
  /** A raw chunk, and the bytes that it was decoded to. */
  raw: string;
}

export function nothing(): Held {
  return { frame: -1, raw: '' };
}

/** Numbers in one piece of `plan` (src/web/archive.rs). */
const PIECE_LEN = 5;

export interface Piece {
  /** -1 for a raw stream. */
  frame: number;
  /** -1 for all chunks of a frame whose elements are scattered. */
  chunk: number;
  decoded: number;
  skip: number;
  bytes: number;
  /** The pieces to decode on the CPU, if the GPU does not take the frame whole. Then `decoded` is the tensor's length. */
  parts?: Piece[];
  /** Where the tensor ends in its file. */
  end?: number;
}

export function piecesOf(plan: Float64Array): Piece[] {
  return Array.from({ length: plan.length / PIECE_LEN }, (_, index) => {
    const [frame, chunk, decoded, skip, bytes] = plan.subarray(index * PIECE_LEN, (index + 1) * PIECE_LEN);
    return { frame, chunk, decoded, skip, bytes };
  });
}

/** Updates `held` as it goes, so that a decoder is not sent what it has. */
export function* stepsOf(pieces: Iterable<Piece>, frames: readonly Frame[], held: Held): Generator<Step> {
  let at = 0;
  for (const { frame, chunk, decoded, skip, bytes } of pieces) {
    const piece = { frame, index: -1, gives: true, decoded, skip, take: bytes, at, scattered: chunk < 0 };
    at += bytes;
    if (frame < 0) {
      const raw = `${chunk} ${decoded}`;
      yield { ...piece, chunk: held.raw === raw ? -1 : chunk };
      held.raw = raw;
      continue;
    }
    yield* opening(piece, frames, held);
    const [first, end] = chunk < 0 ? [0, frames[frame].chunkCount] : [chunk, chunk + 1];
    for (let index = first; index < end; index++) yield* decoding({ ...piece, index }, frames);
  }
}

type Part = Omit<Step, 'chunk'>;

/** A frame is opened after its reference. */
function* opening(piece: Part, frames: readonly Frame[], held: Held): Generator<Step> {
  const { sideChunk, reference } = frames[piece.frame];
  if (held.frame === piece.frame) return;
  if (reference >= 0) yield* opening({ ...piece, frame: reference }, frames, held);
  yield { ...piece, gives: false, chunk: sideChunk };
  held.frame = piece.frame;
}

/** A chunk is decoded after the same chunk of the frame's reference, which may have fewer. */
function* decoding(piece: Part, frames: readonly Frame[]): Generator<Step> {
  const { firstChunk, reference } = frames[piece.frame];
  if (piece.index < frames[reference]?.chunkCount) yield* decoding({ ...piece, frame: reference, gives: false }, frames);
  yield { ...piece, chunk: firstChunk + piece.index };
}
