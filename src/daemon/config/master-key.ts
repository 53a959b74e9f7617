import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../../errors.js';
import type { Name } from './schema.js';
import type { Setting, Warning } from './setting.js';

/** Where a master key may come from; at most one of them may be given. */
export const MASTER_KEYS = ['masterKeyFd', 'masterKeyFile', 'masterKeyHex'] as const satisfies Name[];
/** The name of the credential in a unit's LoadCredential= or SetCredentialEncrypted=. */
const CREDENTIAL = 'master-key';

/** Throws if two sources name a key: which of them is meant decides whether the store opens. */
export function refuseTwoKeys(settings: ReadonlyMap<Name, readonly Setting[]>): void {
  const [first, second] = MASTER_KEYS.flatMap((name) => settings.get(name)?.slice(0, 1) ?? []);
  if (first === undefined || second === undefined) return;
  throw new KmsError('INVALID_ARGUMENT', `${second.at}: a master key is given already: ${first.source}; give one of them`);
}

/** The key that systemd laid down for this service, where nothing else names one. */
export function credentialOf(env: NodeJS.ProcessEnv): Setting | undefined {
  const directory = env['CREDENTIALS_DIRECTORY'];
  if (!directory || !existsSync(join(directory, CREDENTIAL))) return undefined;
  return {
    source: 'CREDENTIALS_DIRECTORY',
    at: 'CREDENTIALS_DIRECTORY',
    given: join(directory, CREDENTIAL),
    from: 'environment',
  };
}

export function inConfiguration({ source }: Setting): Warning {
  const advice = 'this copy of the master key stays in the memory and cannot be wiped; use a file that only holds the key';
  return { event: 'master_key_in_config', source, advice };
}

/**
 * `--dev` makes a key and keeps nothing: whoever names a key or a place for data on the command line or in a file wants
 * something else. Variables may be there for other commands, and are passed over.
 */
export function refuseWithDev(settings: ReadonlyMap<Name, readonly Setting[]>): void {
  const conflicts: Array<[name: Name, why: string]> = [
    ['dataDir', 'which stores nothing'],
    ...MASTER_KEYS.map((name): [Name, string] => [name, 'which makes an ephemeral key']),
  ];
  for (const [name, why] of conflicts) {
    const byHand = settings.get(name)?.find(({ from }) => from !== 'environment');
    if (byHand !== undefined) throw new KmsError('INVALID_ARGUMENT', `${byHand.at}: cannot be combined with --dev, ${why}`);
  }
}
