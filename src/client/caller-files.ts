import { readChecked } from '../checked-file.js';
import { KmsError } from '../errors.js';
import { MAX_JWT_BYTES, MAX_TLS_FILE_BYTES } from '../limits.js';
import type { ConnectOptions } from './index.js';
import type { KmsClient } from './kms-client.js';
import type { TlsOptions } from './server.js';

/** The variables that name the files. */
export const CALLER_VARIABLES = {
  tokenFile: 'PROGRESSDB_KMS_TOKEN_FILE',
  caFile: 'PROGRESSDB_KMS_CA_FILE',
  certFile: 'PROGRESSDB_KMS_CERT_FILE',
  keyFile: 'PROGRESSDB_KMS_KEY_FILE',
} as const;

export type CallerFile = keyof typeof CALLER_VARIABLES;

export interface NamedFile {
  path: string;
  /** The option or variable that named it, for errors. */
  by: string;
}

/** Files that show who calls, and by whom a server's certificate must be signed. */
export type CallerFiles = Partial<Record<CallerFile, NamedFile>>;

/** An empty variable counts as absent, as shells and units leave them. */
export function callerFilesIn(env: NodeJS.ProcessEnv): CallerFiles {
  const files: CallerFiles = {};
  for (const [file, by] of Object.entries(CALLER_VARIABLES) as Array<[CallerFile, string]>) {
    const path = env[by];
    if (path) files[file] = { path, by };
  }
  return files;
}

/**
 * As `connectKms`, which says what it rejects with. Rejects as well with INVALID_ARGUMENT for a file that is not there or does
 * not hold what it should, and with PERMISSION_DENIED for one that is open to others.
 */
export async function connectAs(files: CallerFiles, options: ConnectOptions): Promise<KmsClient> {
  const token = tokenIn(files);
  const tls = tlsIn(files);
  try {
    // Not before it is needed: commands read what names the files even where they call nobody.
    const { connectKms } = await import('./index.js');
    return await connectKms({ ...options, ...(token === undefined ? {} : { token }), ...(tls === undefined ? {} : { tls }) });
  } finally {
    if (tls?.key !== undefined) tls.key.fill(0);
  }
}

/** What the files say of TLS; undefined if they say nothing. The key is wiped by whoever asked for it. */
export function tlsIn({ caFile, certFile, keyFile }: CallerFiles): (TlsOptions & { key?: Buffer }) | undefined {
  const [alone, other] = certFile === undefined ? [keyFile, 'certificate'] : [certFile, 'key'];
  if ((certFile === undefined) !== (keyFile === undefined)) throw invalid(alone!, `its ${other} is not named`);
  if (caFile === undefined && certFile === undefined) return undefined;
  const read = (file: NamedFile, isSecret = false) => readChecked(file.by, file.path, { isSecret, maxBytes: MAX_TLS_FILE_BYTES });
  return {
    ...(caFile === undefined ? {} : { ca: read(caFile) }),
    ...(certFile === undefined ? {} : { cert: read(certFile), key: read(keyFile!, true) }),
  };
}

function tokenIn({ tokenFile }: CallerFiles): string | undefined {
  if (tokenFile === undefined) return undefined;
  // Beside the token the end of its line.
  const bytes = readChecked(tokenFile.by, tokenFile.path, { isSecret: true, maxBytes: MAX_JWT_BYTES + 2 });
  const token = bytes.toString('latin1').replace(/\r?\n$/, '');
  bytes.fill(0);
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw invalid(tokenFile, 'one line of visible ASCII characters was expected');
}

function invalid({ path, by }: NamedFile, rule: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${by}: ${path}: ${rule}`);
}
