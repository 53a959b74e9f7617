import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { filesIn, textOf } from './house/sources.js';

const documents = ['README.md', 'BENCHMARKS.md', ...filesIn('docs', '.md')];

/** The files and headings that a Markdown text links to or shows, code left out. */
function targetsOf(text: string): string[] {
  const prose = text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^()\s]+)\)/g)].map(([, target]) => target!).filter((target) => !/^[a-z]+:/.test(target));
}

/** As GitHub names them. */
function headingsOf(text: string): string[] {
  const headings = [...text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.+)$/gm)];
  return headings.map(([, title]) =>
    title!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

function isThere(from: string, target: string): boolean {
  const [path, heading] = target.split('#') as [string, string?];
  const file = path === '' ? from : join(dirname(from), path);
  if (!existsSync(file)) return false;
  return heading === undefined || !file.endsWith('.md') || headingsOf(textOf(file)).includes(heading);
}

test('documents link to files and headings that are there', (t) => {
  const dead = documents.flatMap((from) =>
    targetsOf(textOf(from))
      .filter((target) => !isThere(from, target))
      .map((target) => `${from}: ${target}`),
  );
  t.deepEqual(dead, []);
  t.true(targetsOf(textOf('README.md')).length > 10, 'the links were found');
});

test('a link to a file or a heading that is not there would be found', (t) => {
  t.deepEqual(targetsOf('[a](b.md) `[c](d.md)` ![e](f/g.png) [h](https://i)\n```\n[j](k.md)\n```\n'), ['b.md', 'f/g.png']);
  t.true(isThere('README.md', 'docs/RUNBOOK.md#errors'));
  t.false(isThere('README.md', 'docs/RUNBOOK.md#no-such-heading'));
  t.false(isThere('README.md', 'docs/none.md'));
  t.true(isThere('docs/RUNBOOK.md', '../README.md'));
});
