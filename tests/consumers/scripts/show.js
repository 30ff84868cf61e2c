// What a page found out -> its output, for check.mjs to read.

export async function show(run) {
  const output = document.querySelector('output');
  output.textContent = JSON.stringify(await run());
}

/** FNV-1a of bytes, and how many there are. */
export function fnv(bytes) {
  let state = 0x811c9dc5;
  for (const byte of bytes) state = Math.imul(state ^ byte, 0x01000193);
  return `${bytes.length} ${(state >>> 0).toString(16)}`;
}
