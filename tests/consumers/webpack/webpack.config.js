import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { mcwc } from 'mcwc/webpack';

const pages = readdirSync('scripts').filter((name) => name !== 'show.js');

export default (_, { mode }) => ({
  entry: Object.fromEntries(pages.map((name) => [name.replace('.js', ''), `./scripts/${name}`])),
  output: { path: resolve('dist'), publicPath: process.env.BASE || '/', crossOriginLoading: 'anonymous' },
  plugins: [mcwc()],
  // What webpack takes in development, `eval`, no strict policy allows.
  devtool: mode === 'development' && 'source-map',
  devServer: { port: process.env.PORT, host: 'localhost', static: 'public', client: { overlay: false } },
  performance: { hints: false },
});
