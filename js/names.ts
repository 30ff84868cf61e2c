// What a tensor is called -> which of the archive's tensors it is.
import { McwcError } from './errors.js';
import type { TensorInfo } from './types.js';

/** In an archive of several models, names that two of them share have the names of their files before them. */
export class Names {
  #tensors: readonly TensorInfo[];
  /** The first of each name. */
  #byName = new Map<string, number>();

  constructor(tensors: readonly TensorInfo[]) {
    this.#tensors = tensors;
    for (const [index, { name }] of tensors.entries()) if (!this.#byName.has(name)) this.#byName.set(name, index);
  }

  /** The index of a tensor: by its name in the archive, or by its own in a file. */
  find(name: string, file?: string): number {
    const index = file === undefined ? this.#byName.get(name) : this.#inFile(name, file);
    if (index === undefined) throw new McwcError('argument', this.#missing(name, file));
    return index;
  }

  #inFile(name: string, file: string): number | undefined {
    const index = this.#byName.get(name);
    if (index !== undefined && this.#tensors[index].file === file) return index;
    const equal = index === undefined ? -1 : this.#tensors.findIndex((tensor) => tensor.name === name && tensor.file === file);
    return equal < 0 ? this.#byName.get(`${file}/${name}`) : equal;
  }

  #missing(name: string, file: string | undefined): string {
    const wanted = `no tensor named ${JSON.stringify(name)}${file === undefined ? '' : ` in a file named ${JSON.stringify(file)}`}`;
    const others = this.#tensors.filter((tensor) => tensor.name === name || tensor.name.endsWith(`/${name}`));
    const hint = others.slice(0, 3).map((tensor) => `${JSON.stringify(tensor.name)} in ${JSON.stringify(tensor.file)}`);
    return `the archive has ${wanted}${hint.length > 0 ? `, but ${hint.join(', ')}${others.length > 3 ? ', …' : ''}` : ''}`;
  }
}
