import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { packed } from './package.js';

const LIBC = existsSync('/etc/alpine-release') ? 'musl' : 'glibc';
const PREBUILT = `prebuilds/${process.platform}-${process.arch}/progressdb-kms.${LIBC}.node`;
const BUILT = 'build/Release/progressdb_kms.node';
const paths = packed().files.map(({ path }) => path);

/** Stands for node-gyp: says that it was called, and "builds" by copying the checkout's addon. */
const NODE_GYP = `
  const fs = require('node:fs');
  console.log('node-gyp ' + process.argv.slice(2).join(' '));
  fs.mkdirSync('build/Release', { recursive: true });
  fs.copyFileSync(${JSON.stringify(resolve(BUILT))}, '${BUILT}');
`;

/** The package laid down as npm does it, with what it depends on and without an addon. */
class Installed {
  readonly root: string;
  readonly #nodeGyp: string;

  constructor(t: ExecutionContext) {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'kms-package-')));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    this.root = join(folder, 'progressdb-kms');
    this.#nodeGyp = join(folder, 'node-gyp.cjs');
    for (const path of paths.filter((one) => !one.startsWith('prebuilds/'))) cpSync(path, join(this.root, path));
    symlinkSync(resolve('node_modules'), join(this.root, 'node_modules'));
    writeFileSync(this.#nodeGyp, NODE_GYP);
  }

  put(path: string, content?: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    if (content === undefined) copyFileSync(BUILT, join(this.root, path));
    else writeFileSync(join(this.root, path), content);
  }

  #run(args: string[], env: Record<string, string> = {}) {
    const { stdout, stderr, status } = spawnSync(process.execPath, args, {
      cwd: this.root,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], npm_config_node_gyp: this.#nodeGyp, ...env },
    });
    return { stdout, stderr, status };
  }

  /** As npm runs it. */
  install(env?: Record<string, string>) {
    return this.#run(['scripts/install.js'], env);
  }

  /** What becomes of the addon when the product loads it. */
  load(env?: Record<string, string>): string {
    const code = `import('./dist/native.js').then(({ binding }) => console.log(typeof binding.serveChunk), ({ code, message }) => console.log(code, message))`;
    return this.#run(['-e', code], env).stdout.trim();
  }
}

test('a prebuilt addon that loads is used, whether the install script runs or not', (t) => {
  const installed = new Installed(t);
  installed.put(PREBUILT);
  t.is(installed.load(), 'function');
  t.deepEqual(installed.install(), { stdout: '', stderr: '', status: 0 });
  t.false(existsSync(join(installed.root, 'build')));
});

test('an addon is built where none is prebuilt, and where one is asked for', (t) => {
  const bare = new Installed(t);
  t.is(bare.install().stdout, 'node-gyp rebuild\n');
  t.is(bare.load(), 'function');
  const asked = new Installed(t);
  asked.put(PREBUILT);
  t.is(asked.install({ npm_config_build_from_source: 'true' }).stdout, 'node-gyp rebuild\n');
});

test('an addon is built where the prebuilt one does not load, and comes before it', (t) => {
  const installed = new Installed(t);
  installed.put(PREBUILT, 'made for another system');
  t.is(installed.install().stdout, 'node-gyp rebuild\n');
  t.is(installed.load(), 'function');
});

test('a build that fails fails the installation', (t) => {
  const installed = new Installed(t);
  t.is(installed.install({ npm_config_node_gyp: join(installed.root, 'missing.js') }).status, 1);
});

test('without an addon that loads, the error says what builds one', (t) => {
  const installed = new Installed(t);
  const mend = `\`npm --prefix ${installed.root} run install\` builds it, which takes g++, make and python3`;
  const platform = `${process.platform}-${process.arch}`;
  t.is(installed.load(), `UNSUPPORTED not supported: ${installed.root} holds no native addon for ${platform}: ${mend}`);
  installed.put(PREBUILT, 'made for another system');
  const message = installed.load();
  t.true(message.startsWith('UNSUPPORTED not supported: the native addon'), message);
  t.true(message.includes(join(installed.root, PREBUILT)) && message.endsWith(mend), message);
});

test('no addon is loaded but the package’s own, whatever the environment says', (t) => {
  const [installed, other] = [new Installed(t), new Installed(t)];
  installed.put(PREBUILT);
  other.put(BUILT);
  const answer = installed.load({ PROGRESSDB_KMS_PREBUILD: other.root });
  t.true(answer.startsWith('UNSUPPORTED'), answer);
  t.true(answer.includes(`${join(other.root, BUILT)} is not taken`), answer);
});

test('a checkout is always built: a prebuilt addon there may be older than its sources', (t) => {
  const installed = new Installed(t);
  installed.put(PREBUILT);
  installed.put('src/native.ts', '');
  t.is(installed.install().stdout, 'node-gyp rebuild\n');
});
