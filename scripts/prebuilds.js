// `npm run prebuilds`: makes `prebuilds/` anew, with the addon for this platform, architecture and C library. It is built in a
// copy, so that `build/`, which the checkout runs on, stays as it is. (Not named `prebuild`: npm would run it before `build`.)
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import prebuildify from 'prebuildify';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const copy = mkdtempSync(join(tmpdir(), 'progressdb-kms-prebuilds-'));
const options = {
  cwd: copy,
  out: ROOT,
  cache: join(copy, 'headers'),
  napi: true,
  strip: true,
  tagLibc: true,
  targets: [`node@${process.versions.node}`],
};

try {
  for (const name of ['package.json', 'binding.gyp', 'native']) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  // An addon of an earlier version must not get into a package of this one.
  rmSync(join(ROOT, 'prebuilds'), { recursive: true, force: true });
  await promisify(prebuildify)(options);
} finally {
  rmSync(copy, { recursive: true, force: true });
}
