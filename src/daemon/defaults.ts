/** Beside the schema and not in it: every command wants these two, and only the daemon the libraries that it stands on. */
export const DEFAULT_SOCKET = '/tmp/progressdb-kms.sock';
export const DEFAULT_DATA_DIR = './kms-data';
