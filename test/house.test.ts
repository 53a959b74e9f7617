import { execFileSync } from 'node:child_process';
import test from 'ava';
import { layerFaults, layerOf, reached, unreached } from './house/layers.js';
import { filesIn, importsOf, ownImportsOf, textOf } from './house/sources.js';

const sources = filesIn('src', '.ts');
const imports = new Map(sources.map((path) => [path, ownImportsOf(path)]));
const natives = filesIn('native', '.cc', '.h');

interface Package {
  bin: Record<string, string>;
  exports: Record<string, { default: string }>;
}

/** What somebody outside can name: the package's commands and exports. */
function entries(): string[] {
  const { bin, exports } = JSON.parse(textOf('package.json')) as Package;
  const built = [...Object.values(bin), ...Object.values(exports).map((one) => one.default)];
  return built.map((path) => path.replace(/^(\.\/)?dist\//, 'src/').replace(/\.js$/, '.ts'));
}

test('every source has a layer, and imports go down, stay in the folder, or go through a door', (t) => {
  t.true(sources.length > 50, 'the sources were found');
  t.deepEqual(layerFaults(imports), []);
});

test('every import of an own file names a file that is there', (t) => {
  for (const [from, targets] of imports) for (const to of targets) t.true(imports.has(to), `${from} imports ${to}`);
});

test('the layer test finds an upward import, a neighbour without a door, and a file that it does not know', (t) => {
  const faulty = new Map([
    ['src/errors.ts', ['src/limits.ts']],
    ['src/vault.ts', ['src/kms/keys.ts', 'src/native.ts']],
    ['src/store/canonical.ts', ['src/store/files.ts']],
    ['src/client/link.ts', ['src/daemon/log.ts', 'src/client/slots.ts']],
    ['src/helpers.ts', []],
    ['src/store/new.ts', []],
  ]);
  t.deepEqual(layerFaults(faulty), [
    'src/vault.ts (layer 2) imports src/kms/keys.ts (layer 3)',
    'src/store/canonical.ts (layer 1) imports src/store/files.ts (layer 4)',
    'src/client/link.ts imports src/daemon/log.ts, a neighbour without a door',
    'src/helpers.ts has no layer',
    'src/store/new.ts has no layer',
  ]);
});

test('imports are read in every way that they are written', (t) => {
  const source = [
    "import { a } from './a.js';",
    "import type { b } from '../b.js';",
    "export * from './c.js';",
    "import {\n  d,\n} from './d.js';",
    "import './e.js';",
    "  const { f } = await import('./f.js');",
    "export type * from './g.js';",
    "import('./h.js');",
    "const PROGRAM = new URL('./i.js', import.meta.url);",
  ];
  t.deepEqual(importsOf(source.join('\n')), [
    './a.js',
    '../b.js',
    './c.js',
    './d.js',
    './e.js',
    './f.js',
    './g.js',
    './h.js',
    './i.js',
  ]);
});

test('no file is dead', (t) => {
  const doors = entries();
  for (const entry of doors) t.true(imports.has(entry), `${entry} is there`);
  t.deepEqual(unreached(imports, doors), []);
  t.deepEqual(unreached(new Map([...imports, ['src/cli/old.ts', ['src/errors.ts']]]), doors), ['src/cli/old.ts'], 'one is found');
});

test('one TypeScript file loads the addon', (t) => {
  const loading = sources.filter((path) => /\.node['"`]|createRequire|dlopen|node-gyp-build/.test(textOf(path)));
  t.deepEqual(loading, ['src/native.ts']);
});

test('the client holds no key code', (t) => {
  const behind = [...reached(imports, ['src/client/index.ts'])].filter(
    (path) => layerOf(path) > 1 && !path.startsWith('src/client/'),
  );
  t.deepEqual(behind, []);
});

test('only a daemon, an embedding application and the command line reach the keys', (t) => {
  const using = sources.filter(
    (path) => imports.get(path)!.some((to) => /^src\/(kms\/|vault)/.test(to)) && !path.startsWith('src/kms/'),
  );
  const expected = [
    ...[
      'audit/chained-log',
      'audit/signing-keys',
      'backup/create',
      'backup/documents',
      'backup/drill',
      'backup/restore',
      'backup/verify',
      'create',
    ],
    ...['daemon/backup', 'daemon/main', 'daemon/operations', 'import/import-keys', 'import/original-key', 'index'],
  ];
  t.deepEqual(
    using,
    expected.map((name) => `src/${name}.ts`),
  );
});

test('a process that embeds the service loads neither HTTP nor TLS', (t) => {
  const loadedBy = (code: string) => {
    const script = `${code}; console.log(process.moduleLoadList.filter((name) => /^NativeModule (http|tls)$/.test(name)).length)`;
    return execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }).trim();
  };
  t.is(loadedBy("await import('./dist/index.js')"), '0');
  t.is(loadedBy("await import('node:http'); await import('node:tls')"), '2', 'they would be seen');
});

test('what verifies the tokens of an issuer is loaded when there is one', (t) => {
  const atOnce = /^import (?!type)[^;]*from 'jose'|^export [^;]*from 'jose'|^import 'jose'/m;
  const of = (path: string) => importsOf(textOf(path)).includes('jose');
  const using = sources.filter(of);
  t.true(using.length > 0 && using.every((path) => path.startsWith('src/daemon/oidc/')), `${using}`);
  t.deepEqual(
    using.filter((path) => atOnce.test(textOf(path))),
    [],
  );
  t.regex("import { jwtVerify } from 'jose';", atOnce, 'one would be found');
  const constructed = sources.filter((path) => /import\('jose'\)/.test(textOf(path).replaceAll("typeof import('jose')", '')));
  t.deepEqual(constructed, ['src/daemon/oidc/issuer.ts']);
});

test('what talks to a database is loaded where there is one', (t) => {
  const of = (path: string) => importsOf(textOf(path)).some((name) => name === 'pg');
  const using = sources.filter(of);
  const atOnce = /^import (?!type)[^;]*from 'pg'|^export [^;]*from 'pg'/m;
  t.true(using.length > 0 && using.every((path) => path.startsWith('src/store/postgres-')), `${using}`);
  t.deepEqual(
    using.filter((path) => atOnce.test(textOf(path))),
    [],
  );
  t.regex("import pg from 'pg';", atOnce, 'one would be found');
});

test('one C++ file includes napi.h', (t) => {
  const including = natives.filter((path) => /#\s*include\s*[<"]napi\.h/.test(textOf(path)));
  t.deepEqual(including, ['native/addon.cc']);
});

test('the native core knows nothing of Node and nothing outside itself', (t) => {
  const core = natives.filter((path) => path.startsWith('native/core/'));
  t.true(core.length > 30, 'the core was found');
  for (const path of core) {
    const text = textOf(path);
    t.notRegex(text, /#\s*include\s*[<"](napi|node|uv|v8|js_native)/, path);
    for (const [, own] of text.matchAll(/#\s*include\s*"([^"]+)"/g)) {
      t.true(own!.startsWith('core/') && natives.includes(`native/${own}`), `${path} includes ${own}`);
    }
    t.notRegex(text, /napi_|Napi::/, path);
  }
});

test('every native file is used', (t) => {
  const built = textOf('binding.gyp');
  const texts = natives.map((path) => [path, textOf(path)] as const);
  for (const path of natives.filter((one) => one.endsWith('.h'))) {
    const name = path.replace(/^native\/(test\/|fuzz\/)?/, '');
    t.true(
      texts.some(([other, text]) => other !== path && text.includes(`"${name}"`)),
      `${path} is included`,
    );
  }
  for (const path of natives.filter((one) => one.endsWith('.cc') && !/\/(test|fuzz)\//.test(one))) {
    t.true(built.includes(path) || built.includes('native/core'), `${path} is built`);
  }
});

test('no test is left out or alone', (t) => {
  const tests = filesIn('test', '.ts');
  t.true(tests.length > 30, 'the tests were found');
  const leftOut = new RegExp(
    `\\btest\\.(${['only', 'skip', 'todo', 'failing'].join('|')})\\b|\\bt\\.assert\\.skip\\b|\\bt\\.\\w+\\.skip\\(`,
  );
  t.deepEqual(
    tests.filter((path) => leftOut.test(textOf(path))),
    [],
  );
  t.regex(['test', 'only("x", f)'].join('.'), leftOut, 'one would be found');
});

test('no file is longer than a reader bears', (t) => {
  const long = [...sources, ...filesIn('test', '.ts')].filter((path) => textOf(path).split('\n').length > 451);
  t.deepEqual(long, []);
});
