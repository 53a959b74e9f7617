import { type ErrorCode, KmsError } from '../../errors.js';

/** One value as somebody gave it: all text, so that every source has the same rules and messages. */
export interface Setting {
  /** As it is shown: `--socket`, `PROGRESSDB_KMS_SOCKET`, `kms.yaml:12 socket`. */
  source: string;
  /** As an error names it: `kms.yaml:12: socket`. */
  at: string;
  given: string | string[];
  from: 'flag' | 'environment' | 'file';
}

/** Something to say that does not stop the daemon; `event` is its name in the log. */
export interface Warning {
  event: string;
  source: string;
  advice: string;
}

const QUOTED_LENGTH = 120;

/**
 * A value for an error's message. What looks like a key or a password is left out of those that are no secrets, too: people
 * put a key where its file's name belongs.
 */
function quoted(given: string | string[]): string {
  const text = [given].flat().join(',');
  if (/[0-9a-f]{64}/i.test(text) || /^[A-Za-z0-9+/]{43}=$/.test(text)) return 'what looks like a key';
  const plain = text.replace(/\/\/[^/]*@/, '//…@');
  return JSON.stringify(plain.length > QUOTED_LENGTH ? `${plain.slice(0, QUOTED_LENGTH)}…` : plain);
}

/** One line that names the place and the rule, and the value unless that is a secret. */
export function refusal(setting: Setting, rule: string, isSecret = false, code: ErrorCode = 'INVALID_ARGUMENT'): KmsError {
  return new KmsError(code, `${setting.at}: ${rule}${isSecret ? '' : `, not ${quoted(setting.given)}`}`);
}
