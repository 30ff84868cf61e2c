// Keeps the files of all pages for when there is no network: the service worker answers with them. The networks are kept by those who
// load them.

const CACHE = 'mcwc-demo-page';
const FILES = 'offline.json';
const ASKED_FOR = 'mcwc-demo-files';

/** @returns {Promise<boolean>} whether all pages can now be opened without a network */
export async function keepPages() {
  if (!navigator.serviceWorker || !window.caches || navigator.connection?.saveData) return false;
  await navigator.serviceWorker.register('service-worker.js');
  const files = await (await fetch(FILES)).json();
  const cache = await caches.open(CACHE);
  const wanted = new Set(files.map((file) => new URL(file, document.baseURI).href));
  const there = new Set((await cache.keys()).map(({ url }) => url));
  await Promise.all([...there].filter((url) => !wanted.has(url)).map((url) => cache.delete(url)));
  // Names of what is in assets/ change with their content.
  await cache.addAll([...wanted].filter((url) => !there.has(url) || !url.includes('/assets/')));
  return true;
}

/** Of what a visitor has asked for, what no page has kept yet. @param {URL} url @param {Blob} data */
export async function keepFile(url, data) {
  if (!window.caches || (await caches.match(url, { ignoreSearch: true }))) return;
  const cache = await caches.open(ASKED_FOR);
  await cache.put(url, new Response(data));
}
