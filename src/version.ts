import { readFileSync } from 'node:fs';

export function versionOfPackage(): string {
  const document: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  if (typeof document !== 'object' || document === null || !('version' in document))
    throw new Error('package.json has no version');
  return String(document.version);
}
