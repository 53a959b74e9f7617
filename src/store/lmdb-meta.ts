// The first pages of a data file of lmdb-js (version 2 of its format: MDB_page_header, MDB_meta and MDB_db of its mdb.c), in the byte
// order of the machine.

/** How a page begins. */
export const PAGE_HEADER = { number: 0, flags: 18, lower: 20, bytes: 24 } as const;
/** Of either meta page: no page is smaller. */
export const META_BYTES = 168;

const MAGIC_AT = 24;
const VERSION_AT = 28;
const MAP_BYTES_AT = 32;
const FREE_TREE_AT = 48;
const MAIN_TREE_AT = 96;
const LAST_PAGE_AT = 144;
const TRANSACTION_AT = 152;
const META_FLAG = 0x08;
const MAGIC = 0xbeefc0de;
const VERSION = 2;
/** Of the tree of free pages: its keys are integers. */
const INTEGER_KEY = 0x08;
/** Of the tree of entries: other orders of keys than that of bytes, and several values of one. */
const OTHER_ORDERS = 0x7e;
/** The file is encrypted. */
const ENCRYPTED = 0x2000;
const SMALLEST_PAGE = 512;
const LARGEST_PAGE = 65_536;
/** LMDB's cursors go no deeper. */
const MAX_DEPTH = 32;
/** What a process can map, and a number is exact. */
const MOST_BYTES = 2 ** 46;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;

export interface Tree {
  /** undefined for one of no entries. */
  root: number | undefined;
  depth: number;
  /** Pages of values that are too large to lie beside their keys. */
  overflowPages: number;
}

export interface Meta {
  pageSize: number;
  lastPage: number;
  transaction: number;
  trees: readonly Tree[];
}

/** Bytes of a page as LMDB's C reads them. */
export class Fields {
  static readonly #isLittle = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  u16(at: number): number {
    return this.#view.getUint16(at, Fields.#isLittle);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, Fields.#isLittle);
  }

  u64(at: number): bigint {
    return this.#view.getBigUint64(at, Fields.#isLittle);
  }
}

/** The size of the pages of a file that begins with these bytes; undefined for one that LMDB would not open. */
export function pageSizeOf(bytes: Uint8Array): number | undefined {
  if (bytes.length < META_BYTES) return undefined;
  const fields = new Fields(bytes);
  const size = fields.u32(FREE_TREE_AT);
  const isMeta =
    (fields.u16(PAGE_HEADER.flags) & META_FLAG) !== 0 &&
    fields.u32(MAGIC_AT) === MAGIC &&
    (fields.u32(VERSION_AT) & 0xffff) === VERSION &&
    size >= SMALLEST_PAGE &&
    size <= LARGEST_PAGE &&
    (size & (size - 1)) === 0;
  return isMeta ? size : undefined;
}

/**
 * What LMDB goes by: of the two the one of the later transaction, the first of equals. A transaction writes the page of its own
 * parity; that after a failure an older one has roots of the failed transaction matters to nobody. undefined for what no
 * transaction leaves.
 */
export function liveMetaOf(pages: readonly [Uint8Array, Uint8Array]): Meta | undefined {
  const [first, second] = pages;
  const pageSize = pageSizeOf(first);
  if (pageSize === undefined || pageSizeOf(second) !== pageSize) return undefined;
  const [one, other] = [new Fields(first), new Fields(second)];
  const isSecond = other.u64(TRANSACTION_AT) > one.u64(TRANSACTION_AT);
  return metaOf(isSecond ? other : one, pageSize, isSecond ? 1n : 0n);
}

function metaOf(fields: Fields, pageSize: number, parity: bigint): Meta | undefined {
  const transaction = fields.u64(TRANSACTION_AT);
  const lastPage = Number(fields.u64(LAST_PAGE_AT));
  const isWhole =
    transaction % 2n === parity &&
    lastPage >= 1 &&
    (lastPage + 1) * pageSize <= MOST_BYTES &&
    fields.u64(MAP_BYTES_AT) <= MOST_BYTES &&
    (fields.u16(FREE_TREE_AT + 4) & (INTEGER_KEY | ENCRYPTED)) === INTEGER_KEY &&
    (fields.u16(MAIN_TREE_AT + 4) & OTHER_ORDERS) === 0;
  const trees = [FREE_TREE_AT, MAIN_TREE_AT].map((at) => treeOf(fields, at, lastPage));
  if (!isWhole || !trees.every((tree) => tree !== undefined)) return undefined;
  return { pageSize, lastPage, transaction: Number(transaction), trees };
}

function treeOf(fields: Fields, at: number, lastPage: number): Tree | undefined {
  const depth = fields.u16(at + 6);
  const root = fields.u64(at + 40);
  const overflowPages = Number(fields.u64(at + 24));
  if (root === NO_PAGE) return depth === 0 ? { root: undefined, depth, overflowPages } : undefined;
  const isWithin = root > 1n && root <= BigInt(lastPage) && depth >= 1 && depth <= MAX_DEPTH;
  return isWithin ? { root: Number(root), depth, overflowPages } : undefined;
}
