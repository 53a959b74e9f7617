import { createHash } from 'node:crypto';

/** One change of names, as one rename makes two: it survives a power cut whole or not at all. `null` takes the name away. */
export type Naming = ReadonlyArray<readonly [directory: number, name: string, inode: number | null]>;

interface Common {
  ino: number;
  mode: number;
  mtimeMs: number;
}
export interface FileNode extends Common {
  kind: 'file';
  /** As processes see it, and as the disk surely has it. Never changed in place: snapshots share them. */
  content: Buffer;
  durable: Buffer;
}
export interface DirectoryNode extends Common {
  kind: 'directory';
  entries: ReadonlyMap<string, number>;
  durable: ReadonlyMap<string, number>;
}
export type Node = FileNode | DirectoryNode;

export const ROOT = 1;
const EMPTY = Buffer.alloc(0);

/**
 * What lies on a disk and what a power cut may leave of it, by the rules of POSIX rather than the kindness of one file system:
 * content is there once its file was synced, a name once its directory was, and nothing orders what was not synced.
 */
export class Disk {
  readonly nodes: Map<number, Node>;
  /** Changes of names that no sync of their directory has covered, in the order they were made. */
  unsynced: readonly Naming[];
  #next: number;

  private constructor(nodes: Map<number, Node>, unsynced: readonly Naming[], next: number) {
    this.nodes = nodes;
    this.unsynced = unsynced;
    this.#next = next;
  }

  static empty(): Disk {
    const root: DirectoryNode = { kind: 'directory', ino: ROOT, mode: 0o755, mtimeMs: 0, entries: new Map(), durable: new Map() };
    return new Disk(new Map([[ROOT, root]]), [], ROOT + 1);
  }

  /** A copy that goes its own way, unsynced changes and all: what a new process finds after a kill. */
  fork(): Disk {
    return new Disk(new Map([...this.nodes].map(([ino, node]) => [ino, { ...node }])), this.unsynced, this.#next);
  }

  add(kind: Node['kind'], mode: number): number {
    const ino = this.#next++;
    const common = { ino, mode, mtimeMs: Date.now() };
    if (kind === 'file') this.nodes.set(ino, { ...common, kind, content: EMPTY, durable: EMPTY });
    else this.nodes.set(ino, { ...common, kind, entries: new Map(), durable: new Map() });
    return ino;
  }

  directory(ino: number): DirectoryNode {
    const node = this.nodes.get(ino);
    if (node?.kind !== 'directory') throw new Error(`inode ${ino} is no directory`);
    return node;
  }

  name(change: Naming): void {
    for (const [directory, name, ino] of change) {
      const node = this.directory(directory);
      node.entries = named(node.entries, name, ino);
      node.mtimeMs = Date.now();
    }
    this.unsynced = [...this.unsynced, change];
  }

  /**
   * Begins a sync and returns its end: what changes between the two is not covered, as a sync already under way may have passed
   * it by.
   */
  beginSync(ino: number): () => void {
    const node = this.nodes.get(ino);
    if (node === undefined) throw new Error(`no inode ${ino}`);
    if (node.kind === 'file') {
      const { content } = node;
      return () => {
        node.durable = content;
      };
    }
    const covered = new Set(this.unsynced.filter((change) => change.some(([directory]) => directory === ino)));
    return () => {
      for (const change of this.unsynced) if (covered.has(change)) this.#settle(change);
      this.unsynced = this.unsynced.filter((change) => !covered.has(change));
    };
  }

  #settle(change: Naming): void {
    for (const [directory, name, ino] of change) {
      const node = this.directory(directory);
      node.durable = named(node.durable, name, ino);
    }
  }

  /** What stands is all there is: the disk as it comes up after a power cut. */
  forgetUnsynced(): void {
    this.unsynced = [];
    for (const node of this.nodes.values()) {
      if (node.kind === 'file') node.durable = node.content;
      else node.durable = node.entries;
    }
  }

  /** The paths of all that can be reached, directories with `/` at their end. */
  *walk(): Generator<readonly [path: string, node: Node]> {
    const waiting: Array<readonly [string, number]> = [['/', ROOT]];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [path, ino] = next;
      const node = this.nodes.get(ino) as Node;
      yield [path, node];
      if (node.kind !== 'directory') continue;
      for (const [name, child] of [...node.entries].sort().reverse()) {
        waiting.push([`${path}${name}${this.nodes.get(child)?.kind === 'directory' ? '/' : ''}`, child]);
      }
    }
  }

  /** The content of a file, undefined if there is none. */
  read(path: string): Buffer | undefined {
    for (const [found, node] of this.walk()) if (found === path && node.kind === 'file') return node.content;
    return undefined;
  }

  /** Two disks with one digest hold the same files under the same names. */
  digest(): string {
    const hash = createHash('sha256');
    for (const [path, node] of this.walk()) {
      hash.update(`${path}\0${node.mode}\0`);
      if (node.kind === 'file') hash.update(digestOf(node.content));
    }
    return hash.digest('hex');
  }
}

/** Content is never changed in place: it is looked at once however many disks hold it. */
const digests = new WeakMap<Buffer, Buffer>();

function digestOf(content: Buffer): Buffer {
  let digest = digests.get(content);
  if (digest === undefined) {
    digest = createHash('sha256').update(content).digest();
    digests.set(content, digest);
  }
  return digest;
}

export function named(entries: ReadonlyMap<string, number>, name: string, ino: number | null): Map<string, number> {
  const next = new Map(entries);
  if (ino === null) next.delete(name);
  else next.set(name, ino);
  return next;
}
