// The page of semantic search, with MiniLM itself, in Chromium: all three variants load, agree, answer, and can be read by everybody.
//   npm run check:search     (after npm run build; fetches the model with pip if it is not in .cache)
import { serveSearch } from '../bench/search.mjs';
import { readOptions } from '../scripts/options.mjs';
import { checkSearch } from './common/search-page.mjs';

readOptions(import.meta.filename);
const site = await serveSearch();
try {
  // The title promises the ratio. Of 80 sentences, the ten best for each example, as many are to be those that float32 finds.
  const facts = await checkSearch(site.url, { ratioMin: 6, sharedMin: 72, query: 'a shark', found: 'whale' });
  console.log(facts);
} finally {
  await site.close();
}
