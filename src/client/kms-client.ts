import type { BackupDescription, BackupOrder, CallOptions, KeyPage, ListQuery, Provider, SlotKeeper } from '../provider.js';

/** What a server says of itself. */
export interface Greeting {
  version: number;
  server: string;
  protection: string;
  sealed: boolean;
}

/** A provider behind a daemon, whichever protocol it is spoken to in. */
export interface KmsClient extends Provider, SlotKeeper {
  hello(options?: CallOptions): Promise<Greeting>;
  /** The whole status map of the daemon, named as docs/PROTOCOL.md names it. */
  status(options?: CallOptions): Promise<Record<string, unknown>>;
  /** Wipes every key in the daemon: all operations on keys answer SEALED from here. */
  seal(options?: CallOptions): Promise<void>;
  /** Has the daemon write a backup, as its own user; resolves when the file is whole and durable. CONFLICT if it is there. */
  backup(order: BackupOrder, options?: CallOptions): Promise<BackupDescription>;
  /**
   * Makes a client-sealed database and resolves to its secret, which is shown this once: the caller keeps it (`databaseSecret` of
   * `connectKms`) and wipes it. This client stays where it is.
   */
  newDatabase(options?: CallOptions): Promise<Uint8Array>;
  /** The keys that the caller created, of the database that it is in. */
  ownedKeys(query?: Omit<ListQuery, 'threadId'>, options?: CallOptions): Promise<KeyPage>;
  /** Has the daemon read its master key again. */
  unseal(options?: CallOptions): Promise<void>;
}
