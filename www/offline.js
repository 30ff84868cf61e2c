// Keeps the page's own files for when there is no network: the service worker answers with them. The networks are kept by those who
// load them.

const CACHE = 'mcwc-demo-page';
const FILES = 'offline.json';

/** @returns {Promise<boolean>} whether the page can now be opened without a network */
export async function keepPage() {
  if (!navigator.serviceWorker || !window.caches) return false;
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
