import { readdirSync, readFileSync, statSync } from 'node:fs';

const ROOT = new URL('../../', import.meta.url);

export function textOf(path: string): string {
  return readFileSync(new URL(path, ROOT), 'utf8');
}

/** Paths below `folder`, from the project's root, of files that end so. */
export function filesIn(folder: string, ...endings: string[]): string[] {
  return readdirSync(new URL(folder, ROOT), { recursive: true, encoding: 'utf8' })
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => `${folder}/${name}`)
    .filter((path) => statSync(new URL(path, ROOT)).isFile())
    .sort();
}

/** The modules that a TypeScript source names, types, imports at run time and programs of threads included, as they are written. */
export function importsOf(source: string): string[] {
  const named = source.matchAll(/(?:^|[\s}*;])(?:from|import)\s*\(?\s*'([^']+)'/gm);
  const programs = source.matchAll(/new URL\('(\.\/[^']+\.js)', import\.meta\.url\)/g);
  return [...named, ...programs].map((match) => match[1]!);
}

/** The own files that the file at `path` imports, as paths from the project's root. */
export function ownImportsOf(path: string): string[] {
  return importsOf(textOf(path))
    .filter((name) => name.startsWith('.'))
    .map((name) => new URL(name, new URL(path, 'file:///')).pathname.slice(1).replace(/\.js$/, '.ts'));
}

/** `constexpr` numbers of C++ sources by name, those of a struct too: what the two languages must agree on. */
export function constantsOf(...paths: string[]): Map<string, number> {
  const constants = new Map<string, number>();
  for (const path of paths) {
    for (const [, list] of textOf(path).matchAll(/constexpr\s+\w+\s+(k[^;{(]*=[^;]*);/g)) takeList(constants, list!);
    for (const [, list] of textOf(path).matchAll(/enum(?:\s+class)?\s+\w+\s*:\s*\w+\s*{([^}#]*)}/g)) takeList(constants, list!);
  }
  return constants;
}

function takeList(constants: Map<string, number>, list: string): void {
  for (const [, name, expression] of list.matchAll(/(\w+) = ([^,]+)/g)) {
    const value = evaluated(expression!, constants);
    if (value !== undefined && !constants.has(name!)) constants.set(name!, value);
  }
}

/** Sums of products of literals and names; undefined for anything else. */
function evaluated(expression: string, known: Map<string, number>): number | undefined {
  const factor = (text: string) => {
    const literal = text.trim().replace(/^uint64_t\{(\d+)\}$/, '$1');
    return /^-?(0x[0-9a-f]+|\d+)u?$/i.test(literal) ? Number(literal.replace(/u$/, '')) : (known.get(literal) ?? Number.NaN);
  };
  const shift = (text: string) =>
    text
      .split('<<')
      .map(factor)
      .reduce((value, by) => value * 2 ** by);
  const product = (text: string) =>
    text
      .split('*')
      .map(shift)
      .reduce((a, b) => a * b);
  const value = expression
    .split('+')
    .map(product)
    .reduce((a, b) => a + b);
  return Number.isNaN(value) ? undefined : value;
}

/** The cells of the rows of a Markdown document's tables whose first cell matches. */
export function rowsOf(path: string, first: RegExp): string[][] {
  return textOf(path)
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .replaceAll('\\|', '\0')
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.replaceAll('\0', '|').trim()),
    )
    .filter((cells) => first.test(cells[0]!));
}
