import type { KeyDescription, KeyPage, ListQuery, Provider } from '../../provider.js';
import { Failure } from '../failure.js';
import { openInside } from '../inside.js';
import { columns, type Output } from '../output.js';
import type { Settings } from '../settings.js';

const PAGE = 1_000;

export async function listCommand(
  { thread, own, limit }: { thread?: string; own?: boolean; limit?: number },
  settings: Settings,
  output: Output,
): Promise<void> {
  if (thread !== undefined && own === true) throw new Failure('USAGE', '--thread and --own exclude each other');
  const { kms, end } = await openInside(settings, output);
  try {
    const list = own === true ? (query: ListQuery) => kms.ownedKeys(query) : (query: ListQuery) => kms.listKeys(query);
    const listed: object[] = [];
    for await (const key of pagesOf(list, thread, limit ?? Number.POSITIVE_INFINITY)) {
      // Text goes out as it comes, so that a store of any size can be listed; a JSON document has to be whole.
      if (output.json) listed.push(jsonOf(key));
      else output.result(undefined, `${key.keyId}  ${key.state.padEnd(9)}  ${key.createdAt}  ${key.threadId ?? '-'}`);
    }
    if (output.json) output.result({ keys: listed }, '');
  } finally {
    await end();
  }
}

/** Every key, page by page. */
export function keysOf(kms: Provider): AsyncGenerator<KeyDescription> {
  return pagesOf((query) => kms.listKeys(query), undefined, Number.POSITIVE_INFINITY);
}

async function* pagesOf(
  list: (query: ListQuery) => Promise<KeyPage>,
  threadId: string | undefined,
  limit: number,
): AsyncGenerator<KeyDescription> {
  let cursor: string | null = null;
  let left = limit;
  do {
    const query = {
      limit: Math.min(left, PAGE),
      ...(threadId !== undefined && { threadId }),
      ...(cursor !== null && { cursor }),
    };
    const { keys, next } = await list(query);
    yield* keys;
    left -= keys.length;
    cursor = next;
  } while (cursor !== null && left > 0);
}

export async function showCommand(keyId: string, settings: Settings, output: Output): Promise<void> {
  const { kms, end } = await openInside(settings, output);
  try {
    report(await kms.describeKey(keyId), output);
  } finally {
    await end();
  }
}

export type StateVerb = 'disable' | 'enable' | 'destroy';

export async function stateCommand(
  verb: StateVerb,
  keyId: string,
  confirmed: boolean,
  settings: Settings,
  output: Output,
): Promise<void> {
  if (verb === 'destroy' && !confirmed) {
    throw new Failure('USAGE', `destroying ${keyId} makes all its data unreadable for ever`, 'add --yes if that is meant');
  }
  const { kms, end } = await openInside(settings, output);
  try {
    if (verb === 'disable') report(await kms.disableKey(keyId), output);
    else if (verb === 'enable') report(await kms.enableKey(keyId), output);
    else {
      report(await kms.destroyKey(keyId), output);
      output.note('copies of the data directory made earlier still hold the key, as do discarded disk blocks');
    }
  } finally {
    await end();
  }
}

function report(key: KeyDescription, output: Output): void {
  const json = jsonOf(key);
  output.result(json, columns(Object.entries(json).map(([name, value]) => [name, value === null ? '-' : String(value)])));
}

/** The key map of docs/PROTOCOL.md. */
function jsonOf(key: KeyDescription): Record<string, string | number | null> {
  return {
    key_id: key.keyId,
    thread_id: key.threadId,
    alg: key.alg,
    state: key.state,
    version: key.version,
    kek_id: key.kekId,
    kek_version: key.kekVersion,
    uses_reserved: key.usesReserved,
    created_at: key.createdAt,
    updated_at: key.updatedAt,
    created_by: key.createdBy,
  };
}
