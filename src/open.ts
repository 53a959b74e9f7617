import { callerFilesIn, connectAs } from './client/caller-files.js';
import { createEmbeddedKms } from './create.js';
import { KmsError } from './errors.js';
import type { Provider } from './provider.js';
import type { StoreKind } from './store/key-store.js';
import { postgresIn } from './store/postgres-environment.js';

const DEFAULT_SOCKET = '/tmp/progressdb-kms.sock';
const DEFAULT_DATA_DIR = './kms-data';

/**
 * Opens the provider that the environment names, so that one line serves development and production:
 * `PROGRESSDB_KMS_MODE` `embedded` (the default; with `PROGRESSDB_KMS_DATA_DIR`, `PROGRESSDB_KMS_STORE` and `PROGRESSDB_KMS_MASTER_KEY_FILE`) or
 * `external` (`PROGRESSDB_KMS_ENDPOINT`, else `PROGRESSDB_KMS_SOCKET`, else the default socket; each any address that
 * `connectKms` takes, a bare host:port meaning HTTP). There `PROGRESSDB_KMS_TOKEN_FILE` names a file with the token to call
 * with, `PROGRESSDB_KMS_CA_FILE` the authorities of the server's certificate, `PROGRESSDB_KMS_CERT_FILE` and
 * `PROGRESSDB_KMS_KEY_FILE` a certificate to call with, in PEM; these three are for addresses over TLS only. External mode asks
 * for no master key. Throws INVALID_ARGUMENT for a mode it does not know, PERMISSION_DENIED for a token or key that others can
 * read, and whatever opening the provider throws.
 */
export async function openKms(env: NodeJS.ProcessEnv = process.env): Promise<Provider> {
  const mode = env['PROGRESSDB_KMS_MODE'] || 'embedded';
  if (mode === 'external') {
    const endpoint = env['PROGRESSDB_KMS_ENDPOINT'] || env['PROGRESSDB_KMS_SOCKET'] || DEFAULT_SOCKET;
    return connectAs(callerFilesIn(env), { endpoint });
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
  const store = postgresIn(env) ?? (env['PROGRESSDB_KMS_STORE'] as StoreKind | undefined);
  const place = { dataDir: env['PROGRESSDB_KMS_DATA_DIR'] || DEFAULT_DATA_DIR, ...(store && { store }) };
  return createEmbeddedKms({ ...place, masterKeyFile });
}
