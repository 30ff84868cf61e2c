// An import of a model -> its archive on the disk: that of an earlier build, if all that it was made of is still the same.
import { readFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { runtimeOr } from '../cli/automatic.js';
import { CalibrationError } from '../cli/errors.js';
import type { Runtime } from '../cli/statistics.js';
import { McwcError } from '../errors.js';
import { Cache, defaultFolder, hashFile, keyOf } from './cache.js';
import { compress } from './compress.js';
import { filesOf, locate, shownFrom } from './files.js';
import type { PluginOptions } from './plugin-options.js';
import { type Recipe, type Request, recipeOf } from './request.js';

export interface Made {
  /** Of the archive. */
  path: string;
  /** What it was made of. */
  inputs: string[];
}

export class Archives {
  /** Where they are kept. */
  readonly folder: string;
  readonly #options: PluginOptions;
  readonly #root: string;
  readonly #log: (line: string) => void;
  readonly #cache: Cache;

  /** `root`: of the project; `log` hears of what was encoded. */
  constructor(options: PluginOptions, root: string, log: (line: string) => void) {
    const { cacheFolder } = options;
    this.folder = cacheFolder === undefined ? defaultFolder(root) : resolve(root, cacheFolder);
    this.#options = options;
    this.#root = root;
    this.#log = log;
    this.#cache = new Cache(this.folder);
  }

  /** `request`: of a file by its absolute path; `importer`: the file that asks for it, if that is known. */
  async make(request: Request, importer: string | undefined): Promise<Made> {
    try {
      const recipe = recipeOf(request, this.#options);
      return await inTurn(() => this.#make(recipe));
    } catch (error) {
      throw this.error(request, importer, error);
    }
  }

  error({ path, query }: Request, importer: string | undefined, reason: unknown): McwcError {
    const { message, code } = McwcError.from(reason);
    // What comes after a blank line is about the command.
    const [text] = message.split('\n\n');
    const what = `${shownFrom(this.#root, path)}?${query}`;
    const from = importer === undefined ? what : `${shownFrom(this.#root, importer)} imports ${what}`;
    const isExpected = reason instanceof McwcError || reason instanceof CalibrationError;
    return new McwcError(code, `${from}: ${text}`, isExpected ? {} : { cause: reason });
  }

  async #make(recipe: Recipe): Promise<Made> {
    const { files, name, statistics, base, baseWeights, samples } = recipe;
    const notes: string[] = [];
    const runtime = recipe.calibrate ? await runtimeOr(samples ? undefined : (note) => notes.push(note)) : undefined;
    const inputs = [files, statistics, base ? [base] : [], baseWeights, samples ? await filesOf(samples) : []];
    const key = await keyFor(recipe, inputs, runtime);
    const companions = (await this.#cache.companions(key))?.map((companion) => locate(companion, files));
    // The encoder tells of one that is missing.
    if (companions?.every((path) => path !== undefined)) {
      const path = this.#cache.archive(await wholeKey(key, companions), name);
      if (path) return { path, inputs: [...inputs.flat(), ...companions] };
    }
    return this.#compress(recipe, inputs, key, runtime, notes);
  }

  async #compress(recipe: Recipe, inputs: string[][], key: string, runtime: Runtime | undefined, notes: string[]): Promise<Made> {
    const { files, name } = recipe;
    const shown = shownFrom(this.#root, files[0]);
    const { archive, companions, lines } = await compress(recipe, runtime, shown);
    const paths = companions.map((companion) => locate(companion, files)!);
    if ((await keyFor(recipe, inputs, runtime)) !== key) throw new McwcError('changed', 'it changed while it was encoded');
    const path = await this.#cache.keepArchive(await wholeKey(key, paths), name, archive);
    await this.#cache.keepCompanions(key, companions);
    for (const note of notes.filter((note) => !said.has(note))) {
      said.add(note);
      this.#log(note);
    }
    for (const line of lines) this.#log(line);
    return { path, inputs: [...inputs.flat(), ...paths] };
  }
}

/** Of all that an archive is made of but for companions, which the encoder finds. */
async function keyFor({ options }: Recipe, inputs: string[][], runtime: Runtime | undefined): Promise<string> {
  const content = async (path: string) => [basename(path), await hashFile(path)];
  const contents = await Promise.all(inputs.map((paths) => Promise.all(paths.map(content))));
  return keyOf([await version(), runtime?.env.versions.node, options, contents]);
}

async function wholeKey(key: string, companions: string[]): Promise<string> {
  return keyOf([key, await Promise.all(companions.map(hashFile))]);
}

/** What is true of all models. */
const said = new Set<string>();

let versions: Promise<string[]> | undefined;

/** Of the package, and of the encoder. */
function version(): Promise<string[]> {
  const [manifest, encoder] = ['../package.json', './mcwc.wasm'].map((path) => new URL(path, import.meta.url));
  versions ??= Promise.all([readFile(manifest, 'utf8').then((text) => JSON.parse(text).version), hashFile(encoder)]);
  return versions;
}

let last: Promise<unknown> = Promise.resolve();

/** One at a time: each takes memory as its model does, and calibrating takes every core. */
function inTurn<T>(task: () => Promise<T>): Promise<T> {
  const result = last.then(task);
  last = result.catch(() => {});
  return result;
}
