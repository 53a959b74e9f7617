// Builds what the gate counts the instructions of: the driver of the native core, and the collector for node.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { BENCH, BUILD, nodeHeaders, ROOT } from './programs.js';

const COMPILER = process.env.CXX ?? 'g++';
const CORE = join(ROOT, 'native/core');
const OBJECTS = join(ROOT, 'build/Release/obj.target/progressdb_kms/native/core');

/** Those that the addon is linked of: the same code, by the same compiler. */
function coreObjects() {
  const sources = readdirSync(CORE).filter((name) => name.endsWith('.cc'));
  return sources.map((source) => {
    const object = join(OBJECTS, source.replace(/cc$/, 'o'));
    if (!existsSync(object)) throw new Error(`there is no ${object}: npm run build`);
    return object;
  });
}

function compile(args) {
  execFileSync(COMPILER, ['-std=c++17', '-O2', '-fno-exceptions', '-Wall', '-Wextra', ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
}

export function buildCounted() {
  mkdirSync(BUILD, { recursive: true });
  const driver = join(BUILD, 'instructions');
  const collector = join(BUILD, `collector-${process.version}.node`);
  const source = join(BENCH, 'instructions.cc');
  compile(['-fno-rtti', '-fno-plt', '-I', join(ROOT, 'native'), source, ...coreObjects(), '-o', driver, '-lcrypto', '-pthread']);
  compile(['-shared', '-fPIC', '-DNAPI_VERSION=9', '-isystem', nodeHeaders(), join(BENCH, 'collector.cc'), '-o', collector]);
  return { driver, collector };
}

/** What the counts hold for: `g++ 12, glibc 2.36`. */
export function toolchain() {
  const version = execFileSync(COMPILER, ['-dumpversion'], { encoding: 'utf8' }).trim();
  return `${basename(COMPILER)} ${version}, glibc ${process.report.getReport().header.glibcVersionRuntime}`;
}
