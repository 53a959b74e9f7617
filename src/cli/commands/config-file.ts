import { randomBytes } from 'node:crypto';
import { closeSync, constants, existsSync, fchmodSync, fsyncSync, linkSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { StoreKind } from '../../store/key-store.js';
import type { PostgresSettings } from '../../store/postgres-settings.js';
import { Failure, fileFailure, isSystemError } from '../failure.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;

export interface ConfigValues {
  /** A path, or host:port. */
  socket: string;
  dataDir: string;
  store?: StoreKind | PostgresSettings | undefined;
  masterKeyFile: string;
}

/** Quoted where it is not plain for YAML; a JSON string is one of YAML, too. */
function scalar(text: string): string {
  return /^[A-Za-z0-9._/][A-Za-z0-9._/@:+-]*$/.test(text) ? text : JSON.stringify(text);
}

/** A password is not copied: where the database was not named by a file, its place is left open. */
function storeText(store: ConfigValues['store']): string {
  if (store === undefined) return '';
  if (typeof store === 'string') return `store: ${store}\n`;
  const { urlFile, caFile, schema } = store;
  const urlLine =
    urlFile === undefined ? '#url_file: FILE              # holds the URL of the database' : `url_file: ${scalar(urlFile)}`;
  const lines = [urlLine, ...(caFile ? [`ca_file: ${scalar(caFile)}`] : []), ...(schema ? [`schema: ${scalar(schema)}`] : [])];
  return `store: postgres\npostgres:\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

/** The file's text. `uid` is whose daemon will read it. */
export function configText({ socket, dataDir, store, masterKeyFile }: ConfigValues, uid: number): string {
  return `# For \`progressdb-kms serve --config\`, run by uid ${uid}: the key and the data are its own. --check-config only checks this
# file, \`progressdb-kms config show --config\` shows every value, docs/RUNBOOK.md explains every key. What is marked
# live holds after \`kill -HUP\`, the rest after a restart.

listen:
  socket: ${scalar(socket)}
  #group: kms-clients            # who may connect to the socket
  #endpoints: [127.0.0.1:6820]   # TCP as well

# Keyring, records and audit log. Keep neither the master key nor its backup in there.
data_dir: ${scalar(dataDir)}
${storeText(store)}master_key_file: ${scalar(masterKeyFile)}

# Who may call, beside uid ${uid}: user ids as \`id -u NAME\` prints them. Live.
auth:
  allowed_uids: []              # make keys, encrypt, decrypt
  auditor_uids: []              # read states and lists
  admin_uids: []                # everything

audit:
  #auditor_key: KEY             # what \`progressdb-kms audit new-auditor-key FILE\` prints; best before the first start
  forward: []                   # who gets each line, too: syslog+unix:/dev/log, https://host/path

log:
  level: info                   # live; debug, info, warn or error
  #file: /var/log/progressdb-kms/kms.log   # live; standard error without it
`;
}

export interface Draft {
  /** Gives it its name, durably. */
  publish(): void;
  discard(): void;
}

function conflict(path: string): Failure {
  return new Failure('CONFLICT', `${path} exists already; a configuration file is never overwritten`);
}

/** A new file, 0600, that is whole and on the disk before it takes its name, which it takes from no other. */
export function draftFile(path: string, text: string): Draft {
  if (existsSync(path)) throw conflict(path);
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString('hex')}.tmp`);
  const discard = () => rmSync(temporary, { force: true });
  try {
    writeNew(temporary, text);
  } catch (error) {
    discard();
    throw fileFailure('write', path, error);
  }
  const publish = () => {
    try {
      linkSync(temporary, path);
      discard();
      syncDirectory(dirname(path));
    } catch (error) {
      discard();
      throw isSystemError(error) && error.code === 'EEXIST' ? conflict(path) : fileFailure('write', path, error);
    }
  };
  return { publish, discard };
}

function writeNew(path: string, text: string): void {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    // The umask may have taken more than it should.
    fchmodSync(fd, 0o600);
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function syncDirectory(path: string): void {
  const fd = openSync(path, O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
