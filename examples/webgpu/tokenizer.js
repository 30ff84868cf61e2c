// tokenizer.json of a BERT -> numbers of the pieces of a text: the longest that fit, word by word.

export function tokenizer({ model: { vocab } }) {
  const piecesOf = (word) => {
    const pieces = [];
    for (let at = 0; at < word.length; ) {
      let end = word.length;
      const piece = () => vocab[(at > 0 ? '##' : '') + word.slice(at, end)];
      while (end > at && piece() === undefined) end--;
      if (end === at) return [vocab['[UNK]']];
      pieces.push(piece());
      at = end;
    }
    return pieces;
  };
  return (text) => {
    const words = text.toLowerCase().normalize('NFD').replace(/\p{Mn}/gu, '').match(/[\p{L}\p{N}]+|[^\p{L}\p{N}\s]/gu) ?? [];
    return [vocab['[CLS]'], ...words.flatMap(piecesOf), vocab['[SEP]']];
  };
}
