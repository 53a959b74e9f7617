import { existsSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { Failure } from '../failure.js';
import type { Output } from '../output.js';

export interface Initialised {
  dataDir: string;
  masterKeyFile: string;
  madeKeyFile: boolean;
}

/** Makes a key store, and its master key file unless that exists. */
export async function initialise(dataDir: string, masterKeyFile: string): Promise<Initialised> {
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
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile, initialise: true });
  await kms.close();
  return { dataDir, masterKeyFile, madeKeyFile };
}

export function reportInitialised({ dataDir, masterKeyFile, madeKeyFile }: Initialised, output: Output): void {
  output.result(
    { data_dir: dataDir, master_key_file: masterKeyFile, made_key_file: madeKeyFile },
    [
      madeKeyFile ? `made the master key file ${masterKeyFile}` : `used the master key file ${masterKeyFile}`,
      `made the key store ${dataDir}`,
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
