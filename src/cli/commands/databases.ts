import { Failure } from '../failure.js';
import { type Output, table, wireNames } from '../output.js';
import { openAccess, openOffline } from '../provider.js';
import type { Settings } from '../settings.js';

/** Prints the secret alone, this once, so that a script can put it where it belongs. */
export async function newDatabaseCommand(settings: Settings, output: Output): Promise<void> {
  const { kms } = await openAccess(settings, output);
  try {
    const secret = await kms.newDatabase();
    const text = Buffer.from(secret).toString('latin1');
    secret.fill(0);
    output.result({ kms_database_secret: text }, text);
    output.note('this is shown once and kept nowhere: put it into kms.json as kms_database_secret');
  } finally {
    await kms.close();
  }
}

/** What is known of databases without their secrets. */
export async function listDatabasesCommand(settings: Settings, output: Output): Promise<void> {
  const { kms } = await openOffline(settings, { inspect: true });
  try {
    const databases = [];
    for await (const one of kms.databases()) databases.push(one);
    const rows = databases.map((one) => [one.databaseId, one.createdAt ?? '-', one.createdBy ?? '-', one.fault ?? '']);
    output.result({ databases: databases.map(wireNames) }, rows.length === 0 ? '' : table(rows));
  } finally {
    await kms.close();
  }
}

export async function dropDatabaseCommand(
  databaseId: string,
  confirmed: boolean,
  settings: Settings,
  output: Output,
): Promise<void> {
  if (!confirmed) {
    throw new Failure(
      'USAGE',
      `dropping ${databaseId} makes all data of its keys unreadable for ever`,
      'add --yes if that is meant',
    );
  }
  const { kms } = await openOffline(settings);
  try {
    await kms.dropDatabase(databaseId);
    output.result({ dropped: databaseId }, `dropped ${databaseId}`);
  } finally {
    await kms.close();
  }
}
