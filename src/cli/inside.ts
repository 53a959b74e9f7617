import type { KmsClient } from '../client/kms-client.js';
import type { DatabaseKms, EmbeddedKms } from '../create.js';
import { KmsError } from '../errors.js';
import { failureOf } from './failure.js';
import type { Output } from './output.js';
import { openAccess } from './provider.js';
import type { Settings } from './settings.js';

/** Where data commands work: in the database of kms.json, or outside where it names none. */
export interface Inside {
  kms: KmsClient | EmbeddedKms | DatabaseKms;
  /** Gives it back. */
  end(): Promise<void>;
}

export async function openInside(settings: Settings, output: Output): Promise<Inside> {
  const { databaseSecret, path } = settings.kmsJson ?? {};
  if (databaseSecret === undefined) {
    const { kms } = await openAccess(settings, output);
    return { kms, end: () => kms.close() };
  }
  output.detail(`in the database of ${path}`);
  try {
    const access = await openAccess(settings, output, { databaseSecret });
    if (access.kind === 'daemon') return { kms: access.kms, end: () => access.kms.close() };
    return await offline(access.kms, databaseSecret);
  } catch (error) {
    const isWrong = error instanceof KmsError && error.code === 'UNAUTHENTICATED' && error.message.includes('database secret');
    throw isWrong
      ? failureOf(error).with(`${path} holds the secret; \`progressdb-kms new-database\` makes another database`)
      : error;
  }
}

async function offline(kms: EmbeddedKms, secret: string): Promise<Inside> {
  try {
    const database = await kms.openDatabase(Buffer.from(secret, 'latin1'));
    const end = async () => {
      database.leave();
      await kms.close();
    };
    return { kms: database, end };
  } catch (error) {
    await kms.close();
    throw error;
  }
}
