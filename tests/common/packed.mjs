// The package as npm packs it, and where a program finds it.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pack } from '../../scripts/pack.mjs';

/** The tarball: that which `npm test` has packed for all files, or a new one in `folder`. */
export function tarballIn(folder) {
  return process.env.MCWC_TARBALL ?? pack(folder);
}

/** Installs the package, which depends on nothing, in a project. */
export function installIn(project) {
  const installed = join(project, 'node_modules/mcwc');
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', tarballIn(project), '-C', installed, '--strip-components', '1']);
}
