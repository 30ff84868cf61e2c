// A file and the tensors in it -> pieces of it, one after another, none of which cuts a tensor in two.

/** At least, but for the last. Small tensors share chunks of an archive, each of which is decoded once for a piece. */
export const PIECE_BYTES = 2 ** 22;

/**
 * @template {{offset: number, bytes: number}} Tensor
 * @param {Tensor[]} tensors which may overlap
 * @param {number} fileBytes
 * @returns {{start: number, end: number, tensors: Tensor[]}[]} with the tensors that lie in each, in order
 */
export function piecesOf(tensors, fileBytes) {
  const pieces = [{ start: 0, end: 0, tensors: [] }];
  // Up to where the next tensor begins: what lies before it can be cut anywhere.
  const extend = (end) => {
    let piece = pieces.at(-1);
    do {
      if (piece.end - piece.start >= PIECE_BYTES && piece.end <= end) pieces.push((piece = { start: piece.end, end: piece.end, tensors: [] }));
      piece.end = Math.max(piece.end, Math.min(end, piece.start + PIECE_BYTES));
    } while (piece.end < end);
    return piece;
  };
  for (const tensor of tensors.toSorted((a, b) => a.offset - b.offset)) {
    const piece = extend(tensor.offset);
    piece.tensors.push(tensor);
    piece.end = Math.max(piece.end, tensor.offset + tensor.bytes);
  }
  if (pieces.at(-1).end < fileBytes) extend(fileBytes);
  return pieces;
}
