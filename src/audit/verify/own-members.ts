import type { AuditEvent } from '../audit-log.js';
import { decodeBase64 } from './base64.js';

const STORE_ID = /^[0-9a-f]{32}$/;
const SHA256 = /^[0-9a-f]{64}$/;
const EPOCH_KEY_BYTES = 92;

type Members = Readonly<Record<string, unknown>>;
type Rule = (value: unknown) => boolean;

const isCount: Rule = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isKey: Rule = (value) => decodeBase64(value, 32) !== undefined;
const isKeyOrNull: Rule = (value) => value === null || isKey(value);

/** What the lines that verification goes by must have of their own; the texts of others are not judged. */
const RULES: Readonly<Partial<Record<AuditEvent['type'], Readonly<Record<string, Rule>>>>> = {
  start: {
    format: (value) => value === 1,
    store_id: (value) => typeof value === 'string' && STORE_ID.test(value),
    version: (value) => typeof value === 'string',
    signing_key: isKey,
    epoch_key: (value) => value === null || decodeBase64(value, EPOCH_KEY_BYTES) !== undefined,
    auditor_key: isKeyOrNull,
    data_operations: (value) => value === 'grouped' || value === 'each' || value === 'off',
  },
  signing_key: { public: isKey },
  checkpoint: { lines: isCount, signing_key: isKey },
  recovered: {
    bytes: isCount,
    sha256: (value) => typeof value === 'string' && SHA256.test(value),
    file: (value) => typeof value === 'string',
  },
};

/** What is wrong with the members of its own that a line has; undefined if nothing is. */
export function faultOfOwn(type: AuditEvent['type'], members: Members): string | undefined {
  if (type === 'start' && typeof members['format'] === 'number' && members['format'] > 1) {
    return `its format ${members['format']} is newer than this version reads`;
  }
  for (const [name, rule] of Object.entries(RULES[type] ?? {})) {
    if (!Object.hasOwn(members, name)) return `\`${name}\` is missing`;
    if (!rule(members[name])) return `\`${name}\` breaks its rule`;
  }
  if (type === 'start' && (members['epoch_key'] === null) !== (members['auditor_key'] === null)) {
    return 'of `epoch_key` and `auditor_key` one is null';
  }
  return undefined;
}
