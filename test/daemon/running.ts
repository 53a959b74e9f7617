import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type DaemonConfig, type DaemonFlags, resolveConfig } from '../../dist/daemon/config.js';
import { Listener } from '../../dist/daemon/listener.js';
import type { Fields, Log } from '../../dist/daemon/log.js';
import { type Daemon, startDaemon } from '../../dist/daemon/main.js';
import { binding } from '../../dist/native.js';
import { Peer } from './peer.js';

export interface Running {
  directory: string;
  daemon: Daemon;
  events: Array<{ level: string; event: string }>;
  /** The fields of each event, in the same order. */
  fields: Fields[];
  connect(): Promise<Peer>;
}

export function scratch(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'kms-daemon-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Not what the machine's cores would make it. */
let threads = 1;

/** For a suite that is run with workers, too: how many serve where its tests do not say. */
export function serveWith(workers: number): void {
  threads = workers;
}

/** A configuration with its own socket, key file and data directory. */
export function configIn(directory: string, flags: DaemonFlags = {}, changes: Partial<DaemonConfig> = {}): DaemonConfig {
  const socket = join(directory, 'kms.sock');
  const files = flags.dev ? {} : { dataDir: join(directory, 'data'), masterKeyFile: join(directory, 'master.key') };
  return { ...resolveConfig({ socket, workers: threads, ...files, ...flags }, {}), ...changes };
}

export async function start(t: ExecutionContext, config: DaemonConfig, directory: string): Promise<Running> {
  const events: Running['events'] = [];
  const fields: Fields[] = [];
  const log: Log = (level, event, said = {}) => {
    events.push({ level, event });
    fields.push(said);
    if (level === 'error') t.log(event, said);
  };
  const daemon = await startDaemon(config, log);
  const peers: Peer[] = [];
  t.teardown(async () => {
    for (const peer of peers) await peer.close();
    await daemon.stop();
  });
  const connect = async () => {
    const peer = await Peer.connect(daemon.socket);
    peers.push(peer);
    return peer;
  };
  return { directory, daemon, events, fields, connect };
}

/** A daemon in this process, with the memory store unless told otherwise. */
export async function running(
  t: ExecutionContext,
  flags: DaemonFlags = { dev: true },
  changes: Partial<DaemonConfig> = {},
): Promise<Running> {
  const directory = scratch(t);
  const config = configIn(directory, flags, changes);
  if (config.masterKeyFile !== undefined) binding.writeKeyFile(config.masterKeyFile);
  return start(t, config, directory);
}

/** As long as it takes a slow disk to write all that is under way: how long a stop waits is not what the test is about. */
export function stopPatiently(t: ExecutionContext): void {
  const { stop } = Listener.prototype;
  Listener.prototype.stop = function (this: Listener) {
    return stop.call(this, 200_000);
  };
  t.teardown(() => {
    Listener.prototype.stop = stop;
  });
}

/** Lets everything that is ready happen: the daemon runs on this very event loop. */
export async function settle(turns = 3): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
