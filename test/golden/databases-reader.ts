import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';

/** A reader of docs/FORMATS.md, "Databases", that shares nothing with the product. */

const V1 = (what: string) => `progressdb-kms/${what}/v1`;
const NO_SALT = Buffer.alloc(0);

export function lp(...fields: Array<string | number | Buffer>): Buffer {
  return Buffer.concat(
    fields.flatMap((field) => {
      const bytes = Buffer.isBuffer(field) ? field : Buffer.from(String(field));
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );
}

export function fieldsOf(bytes: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32BE(at);
    fields.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return fields;
}

function hkdf(key: Buffer, salt: Buffer, info: Buffer | string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, 32));
}

export function opened(key: Buffer, sealed: Buffer, aad: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12), { authTagLength: 16 });
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]);
}

function unpadded(bytes: Buffer): Buffer {
  return bytes.subarray(4, 4 + bytes.readUInt32BE(0));
}

export interface Outside {
  storeId: string;
  kek: Buffer;
  recordMac: Buffer;
}

interface RecordJson {
  key_id: string;
  thread_id: string;
  alg: string;
  state: string;
  wrapped: string;
  kek_id: string;
  kek_version: number;
  created_at: string;
  created_by: string;
}

export interface ReadDatabase {
  databaseId: string;
  createdBy: string;
  /** How many stand in its own document. */
  shares: number;
  /** By key id; destroyed ones have none. */
  deks: Map<string, Buffer>;
  states: Map<string, string>;
  defaultKeyId: string;
}

/** Which database a secret is of, and its own half of the record key. */
function secretOf(storeId: string, secret: string): { databaseId: string; half: Buffer } {
  const [, groupId, key] = /^\{"group_id":(\d+),"key":"([0-9a-f]{64})"\}$/.exec(Buffer.from(secret, 'base64').toString())!;
  const group = Buffer.from(BigInt(groupId!).toString(16).padStart(32, '0'), 'hex');
  const name = createHash('sha256')
    .update(lp(V1('database-id'), storeId, group))
    .digest('hex');
  return { databaseId: name.slice(0, 32), half: Buffer.from(key!, 'hex') };
}

/** The record key of a database, and what else its own document says. Throws if anything is not as it should be. */
function entered({ storeId, kek, recordMac }: Outside, databaseId: string, half: Buffer, document: Buffer) {
  const body = document.subarray(0, -32);
  const mac = createHmac('sha256', recordMac).update(body).digest();
  if (!mac.equals(document.subarray(-32))) throw new Error('the MAC of the database does not match');
  const [label, store, database, , , check, shares, kekId, kekVersion, wrapped, details] = fieldsOf(body);
  if (`${label}|${store}|${database}` !== `${V1('database')}|${storeId}|${databaseId}`) throw new Error('it is another one');
  const under = [storeId, databaseId, `${kekId}`, `${kekVersion}`];
  const share = opened(kek, wrapped!, lp(V1('database-share'), ...under));
  const known = opened(hkdf(kek, NO_SALT, lp(V1('database-details'))), details!, lp(V1('database-details'), ...under));
  const recordKey = hkdf(half, share, lp(V1('database-key'), storeId, databaseId));
  const checked = hkdf(recordKey, NO_SALT, lp(V1('database-check')));
  if (opened(checked, check!, lp(V1('database-check'), storeId, databaseId)).length > 0)
    throw new Error('the check is not empty');
  return { recordKey, shares: Number(`${shares}`), createdBy: `${fieldsOf(unpadded(known))[1]}` };
}

/** All of a database: its documents by their names in text, the empty one for its own. */
export function readDatabase(outside: Outside, secret: string, documents: ReadonlyMap<string, Buffer>): ReadDatabase {
  const { storeId } = outside;
  const { databaseId, half } = secretOf(storeId, secret);
  const { recordKey, shares, createdBy } = entered(outside, databaseId, half, documents.get(databaseId)!);
  const names = hkdf(recordKey, NO_SALT, V1('database-names'));
  const kek = hkdf(recordKey, NO_SALT, V1('database-kek'));
  const read: ReadDatabase = { databaseId, createdBy, shares, deks: new Map(), states: new Map(), defaultKeyId: '' };
  for (const [path, sealed] of documents) {
    if (!path.startsWith(`${databaseId}/`)) continue;
    const name = path.slice(33);
    const label = V1('database-document');
    const key = hkdf(recordKey, NO_SALT, lp(label, name));
    const [kind, restores, content] = fieldsOf(unpadded(opened(key, sealed, lp(label, storeId, databaseId, name))));
    if (`${restores}` !== '0') throw new Error('nothing of these was restored');
    let id = '';
    if (`${kind}` === 'record') id = addRecord(read, storeId, kek, JSON.parse(`${content}`));
    else read.defaultKeyId = `${content}`;
    const named = createHmac('sha256', names)
      .update(lp(`${kind}`, id))
      .digest('hex')
      .slice(0, 32);
    if (named !== name) throw new Error(`${kind} ${id} stands under another name`);
  }
  return read;
}

function addRecord(read: ReadDatabase, storeId: string, kek: Buffer, record: RecordJson): string {
  const { key_id, thread_id, alg, state, wrapped, kek_id, kek_version, created_at, created_by } = record;
  if (kek_id !== `kek_${read.databaseId}` || kek_version !== 1) throw new Error('it is under another KEK');
  read.states.set(key_id, state);
  if (state === 'destroyed') return key_id;
  const aad = lp(V1('dek'), storeId, key_id, thread_id, alg, created_at, created_by, kek_id, kek_version);
  read.deks.set(key_id, opened(kek, Buffer.from(wrapped, 'base64'), aad));
  return key_id;
}
