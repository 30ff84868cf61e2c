// The package as npm packs it, and where a program finds it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../scripts/tools.mjs';

/** The path of the tarball: of the one that `npm test` has packed for all files, or of a new one in `folder`. */
export function pack(folder) {
  const { MCWC_TARBALL } = process.env;
  if (MCWC_TARBALL) return MCWC_TARBALL;
  const { name, version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  execFileSync('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder], { cwd: ROOT, stdio: 'ignore' });
  return join(folder, `${name}-${version}.tgz`);
}

/** Installs the package, which depends on nothing, in a project. */
export function installIn(project) {
  const installed = join(project, 'node_modules/mcwc');
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', pack(project), '-C', installed, '--strip-components', '1']);
}
