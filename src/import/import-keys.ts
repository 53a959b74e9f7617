import { ERROR_TABLE, KmsError } from '../errors.js';
import type { Importing } from '../kms/importing.js';
import { MAX_IMPORT_KEYS } from '../limits.js';
import { Turnstile } from '../store/turnstile.js';
import type { Fault, Finding, Found } from './original-key.js';

/** Records written at once; each waits for its own fsync. */
const WRITES_AT_ONCE = 64;

export interface ImportOptions {
  /** Who imports. */
  actor: string;
  /** Where from, for the audit log. */
  source: string;
  /** Called for each thing that cannot be imported, before the whole is refused. */
  onFault?: (where: string, reason: string) => void;
  /** Everything was checked: so many keys are written. */
  onChecked?: (keys: number) => void;
  onKey?: () => void;
}

export interface Imported {
  imported: number;
  /** Were in the store already, as the same keys. */
  present: number;
}

/**
 * Imports all or, where anything is wrong with any, none. Everything is read and checked before the first write. Crash story: each
 * key is durable as it is written; what a crash cut short goes on when the same import is run again.
 */
export async function importKeys(
  findings: AsyncIterable<Finding>,
  importing: Importing,
  options: ImportOptions,
): Promise<Imported> {
  const { actor, source, onChecked, onKey } = options;
  const { audit } = importing;
  audit.refuseIfFailed();
  const { fresh, present } = await check(findings, importing, options.onFault);
  onChecked?.(fresh.length);
  const turnstile = new Turnstile(WRITES_AT_ONCE);
  const writes = fresh.map((found) =>
    turnstile.through(async () => {
      await importing.add(found.key, actor);
      onKey?.();
    }),
  );
  const failed = (await Promise.allSettled(writes)).find((write) => write.status === 'rejected');
  const imported = fresh.length;
  const outcome = failed === undefined ? 'ok' : failed.reason instanceof KmsError ? failed.reason.code : 'INTERNAL';
  await audit.write({ type: 'import', actor, outcome, detail: { source, keys: imported, present } });
  if (failed !== undefined) throw failed.reason;
  return { imported, present };
}

interface Checked {
  fresh: Found[];
  present: number;
}

async function check(
  findings: AsyncIterable<Finding>,
  importing: Importing,
  onFault: ImportOptions['onFault'],
): Promise<Checked> {
  const seen = new Map<string, string>();
  const fresh: Found[] = [];
  const faults: Fault[] = [];
  let present = 0;
  for await (const finding of findings) {
    if (seen.size + faults.length >= MAX_IMPORT_KEYS)
      throw new KmsError('TOO_LARGE', `more than ${MAX_IMPORT_KEYS} keys; import them in parts`);
    const checked = 'error' in finding ? finding : await checkOne(finding, seen, importing);
    if (typeof checked === 'object') {
      faults.push(checked);
      onFault?.(checked.where, reasonOf(checked.error));
    } else if (checked) present += 1;
    else fresh.push(finding as Found);
  }
  refuseIfAny(faults, seen.size);
  if (seen.size === 0) throw new KmsError('INVALID_ARGUMENT', 'there is no key to import');
  return { fresh, present };
}

/** Whether the key is there already, or what is wrong with it. */
async function checkOne(found: Found, seen: Map<string, string>, importing: Importing): Promise<Fault | boolean> {
  const { where, key } = found;
  const before = seen.get(key.keyId);
  seen.set(key.keyId, before ?? where);
  if (before !== undefined)
    return { where, error: new KmsError('INVALID_ARGUMENT', `${key.keyId}: stands in ${before} already`) };
  try {
    return await importing.isPresent(key);
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    if (error.code === 'AUTHENTICATION_FAILED') {
      const reason = `${key.keyId}: does not open under the master key that it is said to stand under`;
      return { where, error: new KmsError('INVALID_ARGUMENT', reason) };
    }
    if (error.code === 'CONFLICT') return { where, error: new KmsError('CONFLICT', `${key.keyId}: ${reasonOf(error)}`) };
    throw error;
  }
}

function reasonOf(error: KmsError): string {
  return error.message.replace(`${ERROR_TABLE[error.code].message}: `, '');
}

function refuseIfAny(faults: readonly Fault[], keys: number): void {
  const [first] = faults;
  if (first === undefined) return;
  const others = faults.length === 1 ? '' : ` (and ${faults.length - 1} more)`;
  const all = Math.max(keys, faults.length);
  throw new KmsError(first.error.code, `${first.where}: ${reasonOf(first.error)}${others}; nothing of ${all} was imported`);
}
