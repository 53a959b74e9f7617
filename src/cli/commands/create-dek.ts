import { Failure } from '../failure.js';
import { openInside } from '../inside.js';
import type { Output } from '../output.js';
import type { Settings } from '../settings.js';

/** Prints the id alone, so that a script can take it as it is. The wrapped key is the store's business. */
export async function createDekCommand(
  { thread, label }: { thread?: string; label?: string },
  settings: Settings,
  output: Output,
): Promise<void> {
  if (thread !== undefined && label !== undefined) throw new Failure('USAGE', '--thread and --label exclude each other');
  const { kms, end } = await openInside(settings, output);
  try {
    const made = thread === undefined ? await kms.createDek(label) : await kms.createDekForThread(thread);
    output.result({ key_id: made.keyId, kek_id: made.kekId, kek_version: made.kekVersion }, made.keyId);
  } finally {
    await end();
  }
}
