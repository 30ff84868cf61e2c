// Answers for the page's own files: those whose names change with their content from what is kept, others from the network while
// there is one. What is kept, offline.js says. What is asked for past all caches passes by: the weights, which their loaders keep.

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== 'GET' || request.cache === 'no-store' || origin !== location.origin) return;
  event.respondWith(pathname.includes('/assets/') ? keptFirst(request) : networkFirst(request));
});

async function keptFirst(request) {
  return (await find(request)) ?? fetch(request);
}

async function networkFirst(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const response = await find(request);
    if (response) return response;
    throw error;
  }
}

/** In whichever cache: the networks, which other pages ask for by the same address, are kept by those who load them. */
function find(request) {
  return caches.match(request, { ignoreSearch: true });
}
