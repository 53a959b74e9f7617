import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { createEmbeddedKms, type EmbeddedKms, type EmbeddedOptions } from '../../dist/create.js';
import { binding } from '../../dist/native.js';
import type { Provider } from '../../dist/provider.js';
import { HttpPeer } from '../client/http-peer.js';
import { Relay } from '../client/relay.js';
import { configIn, start } from '../daemon/running.js';

/** What every opener of a provider can do beside the provider itself. */
export interface Subject {
  provider: Provider;
  seal(): Promise<void>;
}

export interface SubjectOptions {
  cachedKeys?: number;
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

export const embeddedMemory: Open = async (t, options = {}) => subjectOf(await openMemory(t, options));

/** A daemon on `place` and a client of it. */
export async function served(t: ExecutionContext, place: Place, options: SubjectOptions = {}) {
  const config = configIn(place.directory, { dataDir: place.dataDir, masterKeyFile: place.masterKeyFile }, options);
  const { daemon } = await start(t, config, place.directory);
  const client = await connectKms({ socket: config.socket, deadlineMs: 60_000 });
  t.teardown(() => client.close());
  return { daemon, client, socket: config.socket };
}

export const daemonAndClient: Open = async (t, options = {}) => {
  const { client } = await served(t, newPlace(t), options);
  return { provider: client, seal: () => client.seal() };
};

/** The binary protocol over TCP, to a daemon behind a relay. */
export const relayedOverTcp: Open = async (t, options = {}) => {
  const { socket } = await served(t, newPlace(t), options);
  const relay = await Relay.to(socket);
  t.teardown(() => relay.stop());
  const client = await connectKms({ endpoint: `kms://127.0.0.1:${relay.port}`, deadlineMs: 60_000 });
  t.teardown(() => client.close());
  return { provider: client, seal: () => client.seal() };
};

async function overHttp(t: ExecutionContext, options: SubjectOptions, path?: string): Promise<Subject> {
  const peer = new HttpPeer(await openMemory(t, options));
  const port = await peer.listen(path);
  t.teardown(() => peer.stop());
  const endpoint = path === undefined ? `127.0.0.1:${port}` : `http+unix://${path}`;
  const client = await connectKms({ endpoint, deadlineMs: 60_000 });
  t.teardown(() => client.close());
  return { provider: client, seal: () => client.seal() };
}

export const httpOverSocket: Open = (t, options = {}) => overHttp(t, options, join(scratch(t), 'kms.sock'));

export const httpOverTcp: Open = (t, options = {}) => overHttp(t, options);
