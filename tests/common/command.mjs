// The native programs that tests run: what `cargo build --bins --examples` makes.
import { join } from 'node:path';
import { CARGO_TARGET } from '../../scripts/tools.mjs';

export const NATIVE = join(CARGO_TARGET, 'debug/mcwc');
export const PERMUTE = join(CARGO_TARGET, 'debug/examples/permute');
