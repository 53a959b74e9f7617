import { connectKms } from './client/index.js';
import { createEmbeddedKms } from './create.js';
import { KmsError } from './errors.js';
import type { Provider } from './provider.js';

const DEFAULT_SOCKET = '/tmp/progressdb-kms.sock';
const DEFAULT_DATA_DIR = './kms-data';

/**
 * Opens the provider that the environment names, so that one line serves development and production:
 * `PROGRESSDB_KMS_MODE` `embedded` (the default; with `PROGRESSDB_KMS_DATA_DIR` and `PROGRESSDB_KMS_MASTER_KEY_FILE`) or
 * `external` (`PROGRESSDB_KMS_ENDPOINT`, else `PROGRESSDB_KMS_SOCKET`, else the default socket; each any address that
 * `connectKms` takes, a bare host:port meaning HTTP). External mode asks for no master key. Throws INVALID_ARGUMENT for a mode it does not know, and whatever opening the provider throws.
 */
export async function openKms(env: NodeJS.ProcessEnv = process.env): Promise<Provider> {
  const mode = env['PROGRESSDB_KMS_MODE'] || 'embedded';
  if (mode === 'external') {
    return connectKms(env['PROGRESSDB_KMS_ENDPOINT'] || env['PROGRESSDB_KMS_SOCKET'] || DEFAULT_SOCKET);
  }
  if (mode !== 'embedded')
    throw new KmsError('INVALID_ARGUMENT', `PROGRESSDB_KMS_MODE must be embedded or external, not ${mode}`);
  const masterKeyFile = env['PROGRESSDB_KMS_MASTER_KEY_FILE'] || env['PROGRESSDB_MINIKMS_MASTER_KEY_FILE'];
  if (!masterKeyFile) {
    throw new KmsError(
      'INVALID_ARGUMENT',
      'embedded mode needs PROGRESSDB_KMS_MASTER_KEY_FILE (`progressdb-kms init` makes one)',
    );
  }
  return createEmbeddedKms({ dataDir: env['PROGRESSDB_KMS_DATA_DIR'] || DEFAULT_DATA_DIR, masterKeyFile });
}
