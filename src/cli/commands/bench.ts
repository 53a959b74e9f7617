import { closeSync, existsSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { type Measured, measure } from '../../bench/measure.js';
import type { Existing, Plan } from '../../bench/plan.js';
import type { KmsClient } from '../../client/kms-client.js';
import type { BenchFlags } from '../bench-flags.js';
import { planOf } from '../bench-plan.js';
import { benchProgress } from '../bench-progress.js';
import { benchText } from '../bench-table.js';
import { fileFailure } from '../failure.js';
import type { Output } from '../output.js';
import { openDaemon } from '../provider.js';
import type { Settings } from '../settings.js';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export async function benchCommand(
  given: string | undefined,
  flags: BenchFlags,
  settings: Settings,
  output: Output,
): Promise<void> {
  const { plan, isExisting } = planOf(given, flags, settings);
  const target = flags.out === undefined ? undefined : outFile(flags.out);
  const stopping = new AbortController();
  const stop = (signal: NodeJS.Signals) => stopping.abort(signal);
  // For the whole of it, the end too: who is impatient must not leave processes behind.
  for (const signal of SIGNALS) process.on(signal, stop);
  try {
    const measured = isExisting
      ? await withKey(plan, settings, (existing) => watched(plan, existing, output, stopping.signal))
      : await watched(plan, undefined, output, stopping.signal);
    const document = snakeCased(measured);
    target?.write(`${JSON.stringify(document, null, 2)}\n`);
    output.result(document, benchText(measured));
  } catch (error) {
    target?.discard();
    if (!stopping.signal.aborted) throw error;
    for (const signal of SIGNALS) process.off(signal, stop);
    process.kill(process.pid, stopping.signal.reason);
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop);
  }
}

async function watched(plan: Plan, existing: Existing | undefined, output: Output, signal: AbortSignal): Promise<Measured> {
  const progress = benchProgress(output.json);
  try {
    return await measure(plan, existing, progress.show, signal);
  } finally {
    progress.stop();
  }
}

/** Makes the one key that messages go to in a daemon which is not ours, and destroys it whatever comes. */
async function withKey(plan: Plan, settings: Settings, use: (existing: Existing) => Promise<Measured>): Promise<Measured> {
  const { kms, address } = await openDaemon(settings);
  try {
    const endpoints = endpointsOf(address.target, plan);
    const label = `progressdb-kms-bench/${new Date().toISOString()}`;
    const { keyId } = await kms.createDek(label);
    try {
      const { caller, serverUids } = settings;
      const files = address.tls === undefined ? (caller.tokenFile === undefined ? {} : { tokenFile: caller.tokenFile }) : caller;
      return await use({ name: address.name, endpoints, caller: files, serverUids, keyId });
    } finally {
      await destroy(kms, keyId);
    }
  } finally {
    await kms.close();
  }
}

async function destroy(kms: KmsClient, keyId: string): Promise<void> {
  await kms.disableKey(keyId);
  await kms.destroyKey(keyId);
}

/** On a Unix socket both protocols are spoken; the scheme of a URL names one. */
function endpointsOf(target: { socket: string } | { endpoint: string }, { protocols }: Plan): Existing['endpoints'] {
  const socket = 'socket' in target ? target.socket : /^http\+unix:(.*)$/s.exec(target.endpoint)?.[1];
  if (socket !== undefined) return { binary: `unix:${socket}`, http: `http+unix:${socket}` };
  const { endpoint } = target as { endpoint: string };
  return Object.fromEntries(protocols.map((protocol) => [protocol, endpoint]));
}

interface OutFile {
  write(text: string): void;
  discard(): void;
}

/** Tried before anything is measured: a minute later would be late for a wrong name. */
function outFile(path: string): OutFile {
  const isNew = !existsSync(path);
  try {
    closeSync(openSync(path, 'a'));
  } catch (error) {
    throw fileFailure('write', path, error);
  }
  return {
    write(text) {
      try {
        writeFileSync(path, text);
      } catch (error) {
        throw fileFailure('write', path, error);
      }
    },
    discard() {
      if (isNew) rmSync(path, { force: true });
    },
  };
}

/** As docs/PROTOCOL.md names things, at every depth. */
function snakeCased(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(snakeCased);
  if (value === null || typeof value !== 'object') return value;
  const named = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [named(name), snakeCased(inner)]));
}
