// How each tool builds and serves the pages that lie in the folder `scripts` of its project.

const STRICT = { 'default-src': ["'none'"], 'script-src': ["'self'", "'wasm-unsafe-eval'"], 'worker-src': ["'self'"], 'connect-src': ["'self'"], 'img-src': ['data:'] };
/** What reloads a page when its sources change. */
const RELOADING = { 'connect-src': ['ws:'] };

/**
 * `html`: whether HTML that knows the `script` of a page is there `before` it is built, or is made `after`; else the tool makes it, and
 * has a server for it. `output`: where it builds to; `foreign`: what another server is to serve of it, if not that. `development`,
 * `production`: what has to be allowed besides.
 */
export const PROJECTS = {
  vite: { html: 'before', script: (page) => `/scripts/${page}.js`, output: 'dist', development: { ...RELOADING, 'style-src': ["'unsafe-inline'"] } },
  webpack: { html: 'after', script: (page, base) => `${base}${page}.js`, output: 'dist', development: RELOADING },
  esbuild: { html: 'after', script: (page, base) => `${base}${page}.js`, output: 'dist' },
  next: {
    output: '.next',
    foreign: 'foreign',
    // React's and Next's own, inline and evaluated.
    development: { ...RELOADING, 'script-src': ["'unsafe-inline'", "'unsafe-eval'"], 'style-src': ["'self'", "'unsafe-inline'"], 'font-src': ["'self'"] },
    production: { 'script-src': ["'unsafe-inline'"], 'style-src': ["'self'", "'unsafe-inline'"] },
  },
};

/** The policy with what has to be allowed besides, and another origin that scripts come from. */
export function policyOf(besides = {}, origin) {
  const foreign = origin && { 'script-src': [origin], 'style-src': [origin], 'connect-src': [origin], 'worker-src': ['blob:'] };
  const names = new Set([STRICT, besides, foreign ?? {}].flatMap(Object.keys));
  return Array.from(names, (name) => [name, ...new Set([STRICT, besides, foreign].flatMap((policy) => policy?.[name] ?? []))].join(' ')).join('; ');
}
