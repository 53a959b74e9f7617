import { existsSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import type { StoreKind } from '../../store/key-store.js';
import type { PostgresSettings } from '../../store/postgres-settings.js';
import { Failure } from '../failure.js';
import type { Output } from '../output.js';
import { configText, draftFile } from './config-file.js';

/** Where it is made; `files` unless told. */
export interface Place {
  dataDir: string;
  store?: StoreKind | PostgresSettings | undefined;
}

export interface Initialised {
  dataDir: string;
  masterKeyFile: string;
  madeKeyFile: boolean;
  configFile?: string;
}

/** A configuration file to write; `socket` as `serve` takes it. */
export interface WantedConfig {
  path: string;
  socket: string;
}

/** Makes a key store, its master key file unless that exists, and perhaps a configuration file that names the two. */
export async function initialise(place: Place, masterKeyFile: string, wanted?: WantedConfig): Promise<Initialised> {
  if (wanted === undefined) return await makeStore(place, masterKeyFile);
  const { path, socket } = wanted;
  if (real(path) === real(masterKeyFile)) throw new Failure('USAGE', `${path} is named for the key and the configuration`);
  // Written before anything else is made, since it may not be possible, and named when all that it names is there.
  const draft = draftFile(path, configText({ socket, ...place, masterKeyFile }, process.geteuid?.() ?? 0));
  try {
    const made = await makeStore(place, masterKeyFile);
    draft.publish();
    return { ...made, configFile: path };
  } finally {
    draft.discard();
  }
}

async function makeStore({ dataDir, store }: Place, masterKeyFile: string): Promise<Initialised> {
  const key = real(masterKeyFile);
  if (`${key}${sep}`.startsWith(`${real(dataDir)}${sep}`)) {
    throw new Failure(
      'USAGE',
      `the master key file ${masterKeyFile} is inside the data directory`,
      'a copy of the directory would then hold its own key; name a file elsewhere',
    );
  }
  if (existsSync(join(dataDir, 'keyring.json'))) {
    throw new Failure('CONFLICT', `${dataDir} already holds a key store`, '`progressdb-kms serve` uses it as it is');
  }
  const madeKeyFile = !existsSync(masterKeyFile);
  const { binding } = await import('../../native.js');
  if (madeKeyFile) binding.writeKeyFile(masterKeyFile);
  const { createEmbeddedKms } = await import('../../create.js');
  const kms = await createEmbeddedKms({ dataDir, ...(store && { store }), masterKeyFile, initialise: true });
  await kms.close();
  return { dataDir, masterKeyFile, madeKeyFile };
}

export function reportInitialised({ dataDir, masterKeyFile, madeKeyFile, configFile }: Initialised, output: Output): void {
  output.result(
    { data_dir: dataDir, master_key_file: masterKeyFile, made_key_file: madeKeyFile, config_file: configFile },
    [
      madeKeyFile ? `made the master key file ${masterKeyFile}` : `used the master key file ${masterKeyFile}`,
      `made the key store ${dataDir}`,
      ...(configFile === undefined ? [] : [`made the configuration file ${configFile}`]),
    ].join('\n'),
  );
  output.note('back the master key file up, apart from the data directory: without it nothing can be decrypted');
}

/** The path without symbolic links, also where its end does not exist yet. */
function real(path: string): string {
  const absolute = resolve(path);
  try {
    return realpathSync(absolute);
  } catch {
    const parent = dirname(absolute);
    return parent === absolute ? absolute : join(real(parent), basename(absolute));
  }
}
