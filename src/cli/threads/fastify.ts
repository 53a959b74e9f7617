import type { fastify } from 'fastify';
import { Failure } from '../failure.js';

/** Only those who keep threads need it, with all that it brings: it is not installed with a key service. */
export async function loadFastify(): Promise<typeof fastify> {
  try {
    return (await import('fastify')).fastify;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new Failure(
      'UNSUPPORTED',
      'threads need the package fastify',
      'install it beside progressdb-kms: npm install fastify@5',
    );
  }
}
