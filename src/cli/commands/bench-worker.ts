import { Failure } from '../failure.js';

const ROLES: Readonly<Record<string, () => Promise<void>>> = {
  embedded: async () => (await import('../../bench/embedded-worker.js')).embeddedWorker(),
  generator: async () => (await import('../../bench/generator.js')).generator(),
  'plain-server': async () => (await import('../../bench/plain-server.js')).plainServer(),
};

/** One of the processes that `bench` starts. */
export async function benchWorkerCommand(role: string): Promise<void> {
  const work = Object.hasOwn(ROLES, role) ? ROLES[role] : undefined;
  if (work === undefined || process.send === undefined) {
    throw new Failure('USAGE', 'this command is started by `progressdb-kms bench`');
  }
  await work();
}
