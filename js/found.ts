// What a server sends in place of what it was asked for.

const MAGIC = [0x8d, 0x4d, 0x43, 0x57, 0x43, 0x0d, 0x0a, 0x1a];

/** Whether an archive begins so. */
export function isArchive(begin: Uint8Array): boolean {
  return begin.length > 0 && MAGIC.slice(0, begin.length).every((byte, at) => byte === begin[at]);
}

export function foundInstead(begin: Uint8Array, contentType: string | null): string {
  const text = String.fromCharCode(...begin.subarray(0, 32)).trimStart();
  if (begin.length === 0) return 'nothing';
  if (text.startsWith('version https://git-lfs')) return 'a Git LFS pointer';
  if (text.startsWith('<?xml')) return 'an XML document';
  if (text.startsWith('<') || contentType?.startsWith('text/html')) return 'an HTML page';
  return 'something else';
}
