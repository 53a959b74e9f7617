export { type ConnectOptions, connectKms, type HttpKms, type KmsClient, RemoteKms } from './client/index.js';
export { createEmbeddedKms, type EmbeddedOptions } from './create.js';
export { ERROR_TABLE, type ErrorCode, KmsError } from './errors.js';
export type { DatabaseKms } from './kms/databases/database-kms.js';
export type { EmbeddedKms } from './kms/embedded.js';
export type { Key } from './kms/key.js';
export { openKms } from './open.js';
export type * from './provider.js';
