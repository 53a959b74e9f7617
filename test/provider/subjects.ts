import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { createEmbeddedKms, type EmbeddedKms, type EmbeddedOptions } from '../../dist/create.js';
import { binding } from '../../dist/native.js';
import type { Provider, SlotKeeper } from '../../dist/provider.js';
import { configIn, start } from '../daemon/running.js';

/** What every opener of a provider can do beside the provider itself. */
export interface Subject {
  provider: Provider & SlotKeeper;
  seal(): Promise<void>;
  /** As whom it makes keys, unless by the uid. */
  actor?: string;
}

export interface SubjectOptions {
  cachedKeys?: number;
  workers?: number;
}

export type Open = (t: ExecutionContext, options?: SubjectOptions) => Promise<Subject>;

export function scratch(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'kms-provider-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A place with a fresh master key file, not yet with a store. */
export interface Place {
  directory: string;
  dataDir: string;
  masterKeyFile: string;
}

export function newPlace(t: ExecutionContext): Place {
  const directory = scratch(t);
  const masterKeyFile = join(directory, 'master.key');
  binding.writeKeyFile(masterKeyFile);
  return { directory, dataDir: join(directory, 'data'), masterKeyFile };
}

/** Closed with the test; may be closed before. */
export async function openAt(t: ExecutionContext, place: Place, options: EmbeddedOptions = {}): Promise<EmbeddedKms> {
  const { dataDir, masterKeyFile } = place;
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile, ...options });
  t.teardown(() => kms.close());
  return kms;
}

export async function openMemory(t: ExecutionContext, options: EmbeddedOptions = {}): Promise<EmbeddedKms> {
  const kms = await createEmbeddedKms({ memory: true, ...options });
  t.teardown(() => kms.close());
  return kms;
}

function subjectOf(kms: EmbeddedKms): Subject {
  return { provider: kms, seal: () => kms.seal() };
}

export const embeddedFiles: Open = async (t, options = {}) => subjectOf(await openAt(t, newPlace(t), options));

export const embeddedLmdb: Open = async (t, options = {}) =>
  subjectOf(await openAt(t, newPlace(t), { ...options, store: 'lmdb' }));

export const embeddedMemory: Open = async (t, options = {}) => subjectOf(await openMemory(t, options));

/** Nothing ends by it: a hundred tests share a process, and perhaps a loaded machine. */
const PATIENT = { connectTimeoutMs: 200_000, deadlineMs: 200_000 };

/** A daemon on `place` and a client of it. */
export async function served(t: ExecutionContext, place: Place, options: SubjectOptions = {}) {
  const endpoints = [{ host: '127.0.0.1', port: 0 }];
  const config = configIn(
    place.directory,
    { dataDir: place.dataDir, masterKeyFile: place.masterKeyFile },
    { endpoints, ...options },
  );
  const { daemon } = await start(t, config, place.directory);
  const client = await connectKms({ socket: daemon.socket, ...PATIENT });
  t.teardown(() => client.close());
  return { daemon, client, socket: daemon.socket };
}

export const daemonAndClient: Open = async (t, options = {}) => {
  const { client } = await served(t, newPlace(t), options);
  return { provider: client, seal: () => client.seal() };
};

/** The same with threads beside the main one, which serve the client. */
export const workersAndClient: Open = (t, options = {}) => daemonAndClient(t, { ...options, workers: 2 });

/** A client of one daemon by another of its addresses. */
function byAddress(addressOf: (at: { socket: string; port: number }) => string): Open {
  return async (t, options = {}) => {
    const { daemon, socket } = await served(t, newPlace(t), options);
    const client = await connectKms({ endpoint: addressOf({ socket, port: daemon.ports[0]! }), ...PATIENT });
    t.teardown(() => client.close());
    return { provider: client, seal: () => client.seal() };
  };
}

export const binaryOverTcp = byAddress(({ port }) => `kms://127.0.0.1:${port}`);

export const httpOverSocket = byAddress(({ socket }) => `http+unix://${socket}`);

export const httpOverTcp = byAddress(({ port }) => `127.0.0.1:${port}`);

/** The files of test/client/tls: one certificate for both sides, which know each other by it. */
function tlsFilesIn(directory: string) {
  const copied = (name: string) => {
    const file = join(directory, name);
    writeFileSync(file, readFileSync(new URL(`../../test/client/tls/TEST-ONLY-${name}`, import.meta.url)), { mode: 0o600 });
    return file;
  };
  return { tlsCertFile: copied('leaf.pem'), tlsKeyFile: copied('leaf.key'), tlsClientCaFile: copied('ca.pem') };
}

function overTls(scheme: string): Open {
  return async (t, options = {}) => {
    const { directory, dataDir, masterKeyFile } = newPlace(t);
    const files = tlsFilesIn(directory);
    const flags = { dataDir, masterKeyFile, ...files, adminCertificates: 'DNS:localhost' };
    const endpoints = [{ host: '127.0.0.1', port: 0, isTls: true as const }];
    const { daemon } = await start(t, configIn(directory, flags, { endpoints, ...options }), directory);
    const [ca, cert, key] = [files.tlsClientCaFile, files.tlsCertFile, files.tlsKeyFile].map((file) => readFileSync(file));
    const endpoint = `${scheme}://127.0.0.1:${daemon.ports[0]}`;
    const client = await connectKms({ endpoint, tls: { ca: ca!, cert: cert!, key: key! }, ...PATIENT });
    t.teardown(() => client.close());
    return { provider: client, seal: () => client.seal(), actor: 'cert:DNS:localhost' };
  };
}

export const binaryOverTls = overTls('kms+tls');

export const httpOverTls = overTls('https');

/** A database of the provider in its place; slots, seals and rotations are the store's. */
export const embeddedDatabase: Open = async (t, options = {}) => {
  const kms = await openAt(t, newPlace(t), options);
  const database = await kms.openDatabase(await kms.newDatabase());
  t.teardown(() => database.close());
  return { provider: database, seal: () => kms.seal() };
};

/** A client of one daemon that is in a database, by an address of it. */
function databaseByAddress(addressOf: (at: { socket: string; port: number }) => string, more: SubjectOptions = {}): Open {
  return async (t, options = {}) => {
    const { daemon, client, socket } = await served(t, newPlace(t), { ...options, ...more });
    const databaseSecret = await client.newDatabase();
    const endpoint = addressOf({ socket, port: daemon.ports[0]! });
    const inside = await connectKms({ endpoint, databaseSecret, ...PATIENT });
    t.teardown(() => inside.close());
    return { provider: inside, seal: () => client.seal() };
  };
}

export const binaryDatabase = databaseByAddress(({ socket }) => socket);

export const workersDatabase = databaseByAddress(({ socket }) => socket, { workers: 2 });

export const httpDatabase = databaseByAddress(({ socket }) => `http+unix://${socket}`);
