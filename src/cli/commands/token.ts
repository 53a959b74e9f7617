import { createToken, listTokens, type NewToken, revokeToken, type TokenDescription } from '../../daemon/token-writer.js';
import { TOKEN_ID_PATTERN, TOKEN_LOOK_MS } from '../../limits.js';
import type { Role } from '../../wire/frames.js';
import { Failure } from '../failure.js';
import { type Output, table, wireNames } from '../output.js';
import type { Settings } from '../settings.js';

export interface CreateTokenOptions {
  role: Role[];
  name?: string;
  expiresIn?: number;
  threadPrefix?: string[];
  own?: boolean;
}

/** Prints the token alone, so that a script can take it as it is. It is written to the file whether a daemon runs or not. */
export async function createTokenCommand(options: CreateTokenOptions, settings: Settings, output: Output): Promise<void> {
  const { role, name, expiresIn, threadPrefix, own } = options;
  const wanted: NewToken = {
    roles: role,
    ...(name !== undefined && { name }),
    ...(expiresIn !== undefined && { lifeMs: expiresIn }),
    ...(threadPrefix !== undefined && { threadPrefixes: threadPrefix }),
    ...(own === true && { own }),
  };
  const made = await createToken(settings.dataDir.value, wanted);
  output.result(wireNames(made), made.token);
  output.note(`token ${made.tokenId} is shown this once: only its hash is kept`);
  if (expiresIn === undefined) output.note('it does not expire: `progressdb-kms token revoke` ends it');
}

export async function listTokensCommand(settings: Settings, output: Output): Promise<void> {
  const tokens = await listTokens(settings.dataDir.value);
  const now = Date.now();
  const expired = ({ expiresAt }: TokenDescription) => expiresAt !== null && Date.parse(expiresAt) <= now;
  const rows = tokens.map((token) => [
    token.tokenId,
    token.name || '-',
    token.roles.join(','),
    token.createdAt,
    expired(token) ? 'expired' : (token.expiresAt ?? 'never'),
    restrictionsOf(token),
  ]);
  output.result({ tokens: tokens.map((token) => ({ ...wireNames(token), expired: expired(token) })) }, table(rows));
}

function restrictionsOf({ threadPrefixes, own }: TokenDescription): string {
  const parts = [...(threadPrefixes ?? []).map((prefix) => `thread ${prefix}*`), ...(own ? ['own keys'] : [])];
  return parts.join(', ') || '-';
}

export async function revokeTokenCommand(tokenId: string, settings: Settings, output: Output): Promise<void> {
  if (!TOKEN_ID_PATTERN.test(tokenId)) {
    // Not repeated: it may be the token itself.
    throw new Failure('USAGE', 'not a token id', '`progressdb-kms token list` shows the ids: 16 hex digits');
  }
  await revokeToken(settings.dataDir.value, tokenId);
  output.result({ token_id: tokenId, revoked: true }, `revoked ${tokenId}`);
  output.note(`a running daemon refuses it within ${TOKEN_LOOK_MS} ms`);
}
