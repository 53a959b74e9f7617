/** The frame and the operations of docs/PROTOCOL.md as data. */

export const PROTOCOL_VERSION = 1;
/** The big-endian length before each body. */
export const FRAME_HEADER_BYTES = 4;
/** The answer code of success; the others are the wire codes of the error table. */
export const OK = 0;
/** The id of an answer to a frame whose own id could not be read. Clients must not use it for a request. */
export const NO_REQUEST = 0;
export const MAX_REQUEST_ID = 0xffff_ffff;

/** `admin` may everything; `auditor` and `client` do not include each other. */
export const ROLES = ['client', 'admin', 'auditor'] as const;
export type Role = (typeof ROLES)[number];

export const OP = {
  hello: 0,
  createDekForThread: 1,
  encrypt: 2,
  decrypt: 3,
  encryptMany: 4,
  decryptMany: 5,
  getWrapped: 6,
  rewrap: 7,
  rotateKek: 8,
  rotationStatus: 9,
  status: 10,
  createDek: 11,
  listKeys: 12,
  describeKey: 13,
  setKeyState: 14,
  openDatabase: 15,
  seal: 16,
  unseal: 17,
  slots: 18,
  backup: 19,
  newDatabase: 20,
  ownedKeys: 21,
} as const;

export type OpName = keyof typeof OP;
export type Op = (typeof OP)[OpName];

export interface Operation {
  op: Op;
  /** As in docs/PROTOCOL.md. */
  name: string;
  /** The least role; `any` is everybody who was admitted. */
  role: Role | 'any';
  /** A `client` may do it too, on keys it created. */
  ownKeys: boolean;
}

function operation(op: Op, name: string, role: Operation['role'], ownKeys = false): Operation {
  return { op, name, role, ownKeys };
}

/** Indexed by op number. */
export const OPERATIONS: readonly Operation[] = [
  operation(OP.hello, 'hello', 'any'),
  operation(OP.createDekForThread, 'create_dek_for_thread', 'client'),
  operation(OP.encrypt, 'encrypt', 'client'),
  operation(OP.decrypt, 'decrypt', 'client'),
  operation(OP.encryptMany, 'encrypt_many', 'client'),
  operation(OP.decryptMany, 'decrypt_many', 'client'),
  operation(OP.getWrapped, 'get_wrapped', 'admin'),
  operation(OP.rewrap, 'rewrap', 'admin'),
  operation(OP.rotateKek, 'rotate_kek', 'admin'),
  operation(OP.rotationStatus, 'rotation_status', 'auditor'),
  operation(OP.status, 'status', 'auditor'),
  operation(OP.createDek, 'create_dek', 'client'),
  operation(OP.listKeys, 'list_keys', 'auditor'),
  operation(OP.describeKey, 'describe_key', 'auditor'),
  operation(OP.setKeyState, 'set_key_state', 'admin', true),
  operation(OP.openDatabase, 'open_database', 'client'),
  operation(OP.seal, 'seal', 'admin'),
  operation(OP.unseal, 'unseal', 'admin'),
  operation(OP.slots, 'slots', 'admin'),
  operation(OP.backup, 'backup', 'admin'),
  operation(OP.newDatabase, 'new_database', 'client'),
  operation(OP.ownedKeys, 'owned_keys', 'client'),
];
