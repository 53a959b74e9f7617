import { constants, type Stats } from 'node:fs';
import type { Appended, FileSystem } from '../../dist/store/file-system.js';
import { appendedBy } from '../store/appended.js';
import { systemError } from '../store/intercepted.js';
import { type DirectoryNode, type Disk, type FileNode, type Node, ROOT } from './disk.js';

const UID = 1000;

interface Descriptor {
  path: string;
  node: Node;
  at: number;
  appends: boolean;
}

interface Place {
  directory: DirectoryNode;
  name: string;
  node: Node | undefined;
}

/**
 * The port on a simulated disk. Asynchronous calls are done in an order that `random` chooses among those under way, one a turn of
 * the event loop, so that a run with a seed has one of the orders that a thread pool can produce. `onChange` sees the disk
 * before each call that changes what it holds or what is durable of it.
 */
export class CrashFileSystem implements FileSystem {
  readonly disk: Disk;
  onChange: (call: string) => void = () => {};
  readonly #random: () => number;
  readonly #open = new Map<number, Descriptor>();
  readonly #held: Array<() => void> = [];
  #nextFd = 100;
  #pumping = false;

  constructor(disk: Disk, random: () => number) {
    this.disk = disk;
    this.#random = random;
  }

  effectiveUid(): number {
    return UID;
  }

  #turn<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#held.push(() => {
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      });
      if (!this.#pumping) this.#pump();
    });
  }

  #pump(): void {
    this.#pumping = true;
    setImmediate(() => {
      const [call] = this.#held.splice(Math.floor(this.#random() * this.#held.length), 1);
      call?.();
      this.#pumping = false;
      if (this.#held.length > 0) this.#pump();
    });
  }

  #node(ino: number): Node {
    return this.disk.nodes.get(ino) as Node;
  }

  #place(path: string, op: string): Place {
    // There are no links, so that what is above is what stands before.
    const parts: string[] = [];
    for (const part of path.split('/')) {
      if (part === '..') parts.pop();
      else if (part !== '') parts.push(part);
    }
    let directory = this.disk.directory(ROOT);
    const name = parts.pop() ?? '';
    for (const part of parts) {
      const ino = directory.entries.get(part);
      const node = ino === undefined ? undefined : this.#node(ino);
      if (node === undefined) throw systemError('ENOENT', op);
      if (node.kind !== 'directory') throw systemError('ENOTDIR', op);
      directory = node;
    }
    if (name === '') return { directory, name, node: directory };
    const ino = directory.entries.get(name);
    return { directory, name, node: ino === undefined ? undefined : this.#node(ino) };
  }

  #there(path: string, op: string): Place & { node: Node } {
    const place = this.#place(path, op);
    if (place.node === undefined) throw systemError('ENOENT', op);
    return place as Place & { node: Node };
  }

  #descriptor(fd: number, op: string): Descriptor {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) throw systemError('EBADF', op);
    return descriptor;
  }

  #file(fd: number, op: string): Descriptor & { node: FileNode } {
    const descriptor = this.#descriptor(fd, op);
    if (descriptor.node.kind !== 'file') throw systemError('EISDIR', op);
    return descriptor as Descriptor & { node: FileNode };
  }

  openSync(path: string, flags: number, mode: number): number {
    const { O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY } = constants;
    const place = this.#place(path, 'open');
    let { node } = place;
    if (node !== undefined && flags & O_CREAT && flags & O_EXCL) throw systemError('EEXIST', 'open');
    if (node !== undefined && flags & O_DIRECTORY && node.kind !== 'directory') throw systemError('ENOTDIR', 'open');
    if (node === undefined) {
      if (!(flags & O_CREAT)) throw systemError('ENOENT', 'open');
      this.onChange(`create ${path}`);
      const ino = this.disk.add('file', mode);
      this.disk.name([[place.directory.ino, place.name, ino]]);
      node = this.#node(ino);
    } else if (flags & O_TRUNC && node.kind === 'file') {
      this.onChange(`truncate ${path}`);
      node.content = Buffer.alloc(0);
    }
    const fd = this.#nextFd++;
    this.#open.set(fd, { path, node, at: 0, appends: (flags & O_APPEND) !== 0 });
    return fd;
  }

  writeSync(fd: number, bytes: Uint8Array, offset: number): number {
    const descriptor = this.#file(fd, 'write');
    this.onChange(`write ${descriptor.path}`);
    const { node } = descriptor;
    const at = descriptor.appends ? node.content.length : descriptor.at;
    const length = bytes.length - offset;
    const content = Buffer.alloc(Math.max(node.content.length, at + length));
    node.content.copy(content);
    content.set(bytes.subarray(offset), at);
    node.content = content;
    node.mtimeMs = Date.now();
    descriptor.at = at + length;
    return length;
  }

  readSync(fd: number, into: Uint8Array, offset: number): number {
    const descriptor = this.#file(fd, 'read');
    const part = descriptor.node.content.subarray(descriptor.at, descriptor.at + into.length - offset);
    into.set(part, offset);
    descriptor.at += part.length;
    return part.length;
  }

  #pread(fd: number, into: Uint8Array, offset: number, position: number): number {
    const part = this.#file(fd, 'read').node.content.subarray(position, position + into.length - offset);
    into.set(part, offset);
    return part.length;
  }

  fsyncSync(fd: number): void {
    const { node, path } = this.#descriptor(fd, 'fsync');
    this.onChange(`fsync ${path}`);
    this.disk.beginSync(node.ino)();
  }

  fsync(fd: number): Promise<void> {
    const { node, path } = this.#descriptor(fd, 'fsync');
    const end = this.disk.beginSync(node.ino);
    return this.#turn(() => {
      this.onChange(`fsync ${path}`);
      end();
    });
  }

  append(fd: number, bytes: Uint8Array, path: string): Promise<Appended> {
    return appendedBy(this, fd, bytes, path);
  }

  fstatSync(fd: number): Stats {
    return this.#stats(this.#descriptor(fd, 'fstat').node);
  }

  fchownSync(fd: number): void {
    this.#descriptor(fd, 'fchown');
  }

  closeSync(fd: number): void {
    this.#descriptor(fd, 'close');
    this.#open.delete(fd);
  }

  renameSync(from: string, to: string): void {
    const source = this.#there(from, 'rename');
    const target = this.#place(to, 'rename');
    this.onChange(`rename ${from} ${to}`);
    this.disk.name([
      [source.directory.ino, source.name, null],
      [target.directory.ino, target.name, source.node.ino],
    ]);
  }

  unlinkSync(path: string): void {
    const { directory, name, node } = this.#there(path, 'unlink');
    if (node.kind === 'directory') throw systemError('EISDIR', 'unlink');
    this.onChange(`unlink ${path}`);
    this.disk.name([[directory.ino, name, null]]);
  }

  #link(from: string, to: string): void {
    const { node } = this.#there(from, 'link');
    const target = this.#place(to, 'link');
    if (target.node !== undefined) throw systemError('EEXIST', 'link');
    this.onChange(`link ${to}`);
    this.disk.name([[target.directory.ino, target.name, node.ino]]);
  }

  #rmdir(path: string): void {
    const { directory, name, node } = this.#there(path, 'rmdir');
    if (node.kind !== 'directory') throw systemError('ENOTDIR', 'rmdir');
    if (node.entries.size > 0) throw systemError('ENOTEMPTY', 'rmdir');
    this.onChange(`rmdir ${path}`);
    this.disk.name([[directory.ino, name, null]]);
  }

  #mkdir(path: string, mode: number): void {
    const { directory, name, node } = this.#place(path, 'mkdir');
    if (node !== undefined) throw systemError('EEXIST', 'mkdir');
    this.onChange(`mkdir ${path}`);
    this.disk.name([[directory.ino, name, this.disk.add('directory', mode)]]);
  }

  #truncate(fd: number, length: number): void {
    const { node, path } = this.#file(fd, 'ftruncate');
    this.onChange(`ftruncate ${path}`);
    const content = Buffer.alloc(length);
    node.content.copy(content, 0, 0, length);
    node.content = content;
  }

  #readdir(path: string): string[] {
    const { node } = this.#there(path, 'scandir');
    if (node.kind !== 'directory') throw systemError('ENOTDIR', 'scandir');
    return [...node.entries.keys()];
  }

  /** No fields but those that the product asks for: one that it should come to need is missed at once. */
  #stats(node: Node): Stats {
    const isFile = node.kind === 'file';
    let nlink = 0;
    for (const other of this.disk.nodes.values()) {
      if (other.kind === 'directory') for (const ino of other.entries.values()) if (ino === node.ino) nlink += 1;
    }
    return {
      isFile: () => isFile,
      isDirectory: () => !isFile,
      isSymbolicLink: () => false,
      size: isFile ? node.content.length : 0,
      mode: node.mode | (isFile ? constants.S_IFREG : constants.S_IFDIR),
      uid: UID,
      gid: UID,
      dev: 1,
      ino: node.ino,
      nlink,
      mtimeMs: node.mtimeMs,
    } as Stats;
  }

  open = (path: string, flags: number, mode: number) => this.#turn(() => this.openSync(path, flags, mode));
  write = (fd: number, bytes: Uint8Array, offset: number) => this.#turn(() => this.writeSync(fd, bytes, offset));
  read = (fd: number, into: Uint8Array, offset: number) => this.#turn(() => this.readSync(fd, into, offset));
  pread = (fd: number, into: Uint8Array, offset: number, position: number) =>
    this.#turn(() => this.#pread(fd, into, offset, position));
  fstat = (fd: number) => this.#turn(() => this.fstatSync(fd));
  fchown = (fd: number) => this.#turn(() => this.fchownSync(fd));
  close = (fd: number) => this.#turn(() => this.closeSync(fd));
  link = (from: string, to: string) => this.#turn(() => this.#link(from, to));
  rename = (from: string, to: string) => this.#turn(() => this.renameSync(from, to));
  unlink = (path: string) => this.#turn(() => this.unlinkSync(path));
  rmdir = (path: string) => this.#turn(() => this.#rmdir(path));
  ftruncate = (fd: number, length: number) => this.#turn(() => this.#truncate(fd, length));
  mkdir = (path: string, mode: number) => this.#turn(() => this.#mkdir(path, mode));
  readdir = (path: string) => this.#turn(() => this.#readdir(path));
  stat = (path: string) => this.#turn(() => this.#stats(this.#there(path, 'stat').node));
  lstat = this.stat;
}
