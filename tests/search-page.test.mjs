// The page of semantic search with a small model that nobody trained: it is built, loads all three variants, and compares what they find.
// With MiniLM, which has to be fetched: npm run check:search.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { serveSearch } from '../bench/search.mjs';
import { smallBert, untrained } from './common/bert.mjs';
import { checkSearch } from './common/search-page.mjs';

test('the page of semantic search shows three variants of a model side by side', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'mcwc-search-'));
  const read = () => {
    const { 'onnx/model.onnx': _, ...files } = smallBert();
    const weightsOf = untrained();
    const weights = (name) => {
      const { shape, data } = weightsOf(name);
      return { shape, data: Float32Array.from(data) };
    };
    return { files, weights };
  };
  try {
    const site = await serveSearch({ source: { folder, read } });
    try {
      const facts = await checkSearch(site.url, { ratioMin: 2, sharedMin: 40, query: 'mind the ducks', found: '.' });
      t.diagnostic(JSON.stringify(facts));
    } finally {
      await site.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
