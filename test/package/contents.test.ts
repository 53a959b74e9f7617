import test from 'ava';
import { filesIn, textOf } from '../house/sources.js';
import { packed } from './package.js';

const { files, size, unpackedSize } = packed();
const paths = files.map(({ path }) => path);
/** Made by `npm pack` itself, so perhaps not there now. */
const PREBUILT = /^prebuilds\/[a-z]+-[a-z0-9]+\/progressdb-kms\.(glibc|musl)\.node$/;

test('the package holds these folders and files, and no others', (t) => {
  t.log(`${paths.length} files, ${size} bytes packed, ${unpackedSize} bytes unpacked`);
  const tops = new Set(paths.map((path) => path.replace(/\/.*/, '/')));
  tops.delete('prebuilds/');
  t.deepEqual([...tops].sort(), [
    'LICENSE',
    'README.md',
    'binding.gyp',
    'deploy/',
    'dist/',
    'docs/',
    'native/',
    'package.json',
    'scripts/',
  ]);
  t.deepEqual(
    paths.filter((path) => path.startsWith('scripts/')),
    ['scripts/install.js'],
  );
  t.deepEqual(
    paths.filter((path) => path.startsWith('prebuilds/') && !PREBUILT.test(path)),
    [],
  );
});

test('its code is that of the sources: a module and its types each, no tests and no source maps', (t) => {
  const built = filesIn('src', '.ts').flatMap((path) => {
    const name = path.replace(/^src\//, 'dist/').replace(/\.ts$/, '');
    return [`${name}.d.ts`, `${name}.js`];
  });
  t.deepEqual(
    built.filter((path) => !paths.includes(path)),
    [],
  );
  // What was built from sources that are gone stays in `dist/` until it is made anew.
  t.regex(JSON.parse(textOf('package.json')).scripts.prepack, /^rm -rf dist && /);
  for (const path of built) t.notRegex(textOf(path), /sourceMappingURL/, path);
  t.deepEqual(
    paths.filter((path) => /test|fuzz|TEST-ONLY|\.map$/.test(path)),
    [],
  );
});

test('it holds every file that the addon is built from', (t) => {
  const built = filesIn('native', '.cc', '.h').filter((path) => !/^native\/(test|fuzz)\//.test(path));
  t.true(built.length > 50);
  t.deepEqual(paths.filter((path) => path.startsWith('native/')).sort(), built);
});

test('it holds no file that only its owner may read, and no keys', (t) => {
  for (const { path, mode } of files) t.is(mode & 0o444, 0o444, path);
  t.deepEqual(
    paths.filter((path) => /\.(key|pem|token|tgz|log)$/.test(path)),
    [],
  );
});
