/** Which rooms stand on which floor. A folder's files share its floor unless they are named themselves. */
const LAYERS: ReadonlyArray<readonly string[]> = [
  ['errors.ts', 'limits.ts', 'listening.ts', 'version.ts'],
  [
    'audit/audit-log.ts',
    'checked-file.ts',
    'native.ts',
    'provider.ts',
    'slab.ts',
    'store/canonical.ts',
    'store/document-json.ts',
    'store/key-store.ts',
    'store/shared-store.ts',
    'store/succession.ts',
    'wire/',
  ],
  ['audit-chain.ts', 'vault.ts'],
  ['kms/'],
  [
    'audit/',
    'backup/',
    'import/',
    'recovery/',
    'store/commit-queue.ts',
    'store/copies.ts',
    'store/daemon-id.ts',
    'store/data-directory.ts',
    'store/directory-sync.ts',
    'store/document-names.ts',
    'store/documents.ts',
    'store/durable-directory.ts',
    'store/entries.ts',
    'store/file-backups.ts',
    'store/file-documents.ts',
    'store/file-entries.ts',
    'store/file-system.ts',
    'store/files.ts',
    'store/key-names.ts',
    'store/keyring-file.ts',
    'store/kind.ts',
    'store/lmdb-backups.ts',
    'store/lmdb-directory.ts',
    'store/lmdb-entries.ts',
    'store/lmdb-environment.ts',
    'store/lmdb-file.ts',
    'store/lmdb-meta.ts',
    'store/lmdb-names.ts',
    'store/lmdb-packed.ts',
    'store/lmdb-reach.ts',
    'store/lmdb-sealed.ts',
    'store/lmdb-writer.ts',
    'store/lmdb.ts',
    'store/marker.ts',
    'store/memory-backups.ts',
    'store/memory-documents.ts',
    'store/memory.ts',
    'store/open-directories.ts',
    'store/packed.ts',
    'store/postgres-address.ts',
    'store/postgres-backups.ts',
    'store/postgres-claim.ts',
    'store/postgres-database.ts',
    'store/postgres-documents.ts',
    'store/postgres-entries.ts',
    'store/postgres-environment.ts',
    'store/postgres-lease.ts',
    'store/postgres-schema.ts',
    'store/postgres-settings.ts',
    'store/postgres-shared.ts',
    'store/postgres-watch.ts',
    'store/postgres.ts',
    'store/turnstile.ts',
    'store/write-latch.ts',
  ],
  ['client/', 'create.ts', 'daemon/', 'fastify/', 'open.ts', 'threads/'],
  ['bench/'],
  ['cli/', 'index.ts'],
];

/** What may be imported from a neighbour on the same floor: the ports, and the two that compose. */
const DOORS: ReadonlyArray<readonly [from: string, to: string]> = [
  ['native.ts', 'store/key-store.ts'],
  ['audit/', 'store/file-system.ts'],
  ['audit/', 'store/data-directory.ts'],
  ['store/key-store.ts', 'provider.ts'],
  ['wire/', 'provider.ts'],
  ['backup/', 'store/'],
  ['import/', 'store/'],
  ['import/', 'audit/audit-log.ts'],
  ['backup/', 'audit/audit-log.ts'],
  ['daemon/main.ts', 'create.ts'],
  ['open.ts', 'client/caller-files.ts'],
  ['fastify/', 'threads/'],
];

function isIn(path: string, room: string): boolean {
  return room.endsWith('/') ? path.startsWith(`src/${room}`) : path === `src/${room}`;
}

/** −1 for a file that no floor knows. */
export function layerOf(path: string): number {
  return LAYERS.findIndex((rooms) => rooms.some((room) => isIn(path, room)));
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

function topFolderOf(path: string): string {
  return path.split('/').length > 2 ? path.split('/')[1]! : '';
}

/** What is wrong with the imports of each file: unknown files, imports of a higher floor, or of a neighbour without a door. */
export function layerFaults(imports: ReadonlyMap<string, readonly string[]>): string[] {
  const faults: string[] = [];
  for (const [from, targets] of imports) {
    const own = layerOf(from);
    if (own < 0) faults.push(`${from} has no layer`);
    for (const to of targets) {
      const layer = layerOf(to);
      if (layer < 0) faults.push(`${from} imports ${to}, which has no layer`);
      else if (layer > own) faults.push(`${from} (layer ${own}) imports ${to} (layer ${layer})`);
      else if (layer === own && !mayPass(from, to)) faults.push(`${from} imports ${to}, a neighbour without a door`);
    }
  }
  return faults;
}

function mayPass(from: string, to: string): boolean {
  if (folderOf(from) === folderOf(to) || (topFolderOf(from) !== '' && topFolderOf(from) === topFolderOf(to))) return true;
  return layerOf(to) === 0 || DOORS.some(([room, door]) => isIn(from, room) && isIn(to, door));
}

/** Files that none of the entries reaches. */
export function unreached(imports: ReadonlyMap<string, readonly string[]>, entries: readonly string[]): string[] {
  const seen = reached(imports, entries);
  return [...imports.keys()].filter((path) => !seen.has(path));
}

export function reached(imports: ReadonlyMap<string, readonly string[]>, entries: readonly string[]): Set<string> {
  const seen = new Set<string>();
  const walk = (path: string) => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const to of imports.get(path) ?? []) walk(to);
  };
  for (const entry of entries) walk(entry);
  return seen;
}
