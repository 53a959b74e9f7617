import { readWholeAt, nodeFileSystem as system } from './file-system.js';
import { Fields, type Meta, PAGE_HEADER, type Tree } from './lmdb-meta.js';

const BRANCH_FLAG = 0x01;
const LEAF_FLAG = 0x02;
/** Of a page's entries, or nodes: the beginning, before key and value. */
const NODE_BYTES = 8;
/** Of an entry whose value lies in pages of its own. */
const BIG_VALUE_FLAG = 0x01;
const BIG_VALUE_BYTES = 24;

export type Extent = 'whole' | 'short' | 'damaged';

/**
 * Whether all that is reachable from the roots lies within so many pages.
 *
 * The number of the last page does not tell: a page that a transaction took at the end and gave back before its commit is counted
 * there and was never written, so that an honest file may be shorter by as much as its largest transaction took. Such pages
 * stand in the tree of free ones, though not all of them (lmdb-js loses some), and LMDB reads none of them before it has written them.
 * What it reads is what is reachable, every page of which was written, and synced, before the roots were.
 */
export async function extentOf(fd: number, meta: Meta, pages: number): Promise<Extent> {
  const walk = new Walk(fd, meta.pageSize, pages);
  for (const tree of meta.trees) {
    if (tree.root === undefined) continue;
    const extent = await walk.below(tree, tree.root, tree.depth);
    if (extent !== 'whole') return extent;
  }
  return 'whole';
}

class Walk {
  readonly #fd: number;
  readonly #pages: number;
  readonly #pageSize: number;
  /** No page is reached twice, so that whoever reads more than there are is in a circle. */
  #left: number;

  constructor(fd: number, pageSize: number, pages: number) {
    this.#fd = fd;
    this.#pages = pages;
    this.#left = pages;
    this.#pageSize = pageSize;
  }

  async below(tree: Tree, number: number, height: number): Promise<Extent> {
    if (number >= this.#pages) return 'short';
    // Leaves name further pages only for values that are too large for them, and are by far the most: without such they are not read.
    if (height === 1 && tree.overflowPages === 0) return 'whole';
    const named = await this.#named(number, height === 1);
    if (named === undefined) return 'damaged';
    if (height === 1) return named.every((last) => last < this.#pages) ? 'whole' : 'short';
    for (const child of named) {
      const extent = await this.below(tree, child, height - 1);
      if (extent !== 'whole') return extent;
    }
    return 'whole';
  }

  /** The children of a branch, the last pages of a leaf's large values; undefined for a page that is not what it should be. */
  async #named(number: number, isLeaf: boolean): Promise<number[] | undefined> {
    this.#left -= 1;
    const page = await readWholeAt(system, this.#fd, this.#pageSize, number * this.#pageSize);
    if (this.#left < 0 || page.length < this.#pageSize) return undefined;
    const fields = new Fields(page);
    const lower = fields.u16(PAGE_HEADER.lower);
    const isKind = (fields.u16(PAGE_HEADER.flags) & (BRANCH_FLAG | LEAF_FLAG)) === (isLeaf ? LEAF_FLAG : BRANCH_FLAG);
    if (!isKind || Number(fields.u64(PAGE_HEADER.number)) !== number) return undefined;
    if (PAGE_HEADER.bytes + lower > page.length) return undefined;
    const nodes = Array.from({ length: lower >> 1 }, (_, n) => PAGE_HEADER.bytes + fields.u16(PAGE_HEADER.bytes + 2 * n));
    const named = nodes.map((node) => (isLeaf ? lastOfValue(fields, page.length, node) : childAt(fields, page.length, node)));
    return named.every((last) => last !== undefined) ? named : undefined;
  }
}

function childAt(fields: Fields, end: number, node: number): number | undefined {
  if (node + NODE_BYTES > end) return undefined;
  return fields.u32(node) + fields.u16(node + 4) * 2 ** 32;
}

/** 0 for a value that lies beside its key. */
function lastOfValue(fields: Fields, end: number, node: number): number | undefined {
  if (node + NODE_BYTES > end) return undefined;
  if ((fields.u16(node + 4) & BIG_VALUE_FLAG) === 0) return 0;
  const value = node + NODE_BYTES + fields.u16(node + 6);
  if (value + BIG_VALUE_BYTES > end) return undefined;
  return Number(fields.u64(value) + fields.u64(value + 16)) - 1;
}
