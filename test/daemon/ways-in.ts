import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { DaemonFlags } from '../../dist/daemon/config.js';
import type { Daemon } from '../../dist/daemon/main.js';
import { createToken, type NewToken, revokeToken } from '../../dist/daemon/token-writer.js';
import { TOKEN_LOOK_MS } from '../../dist/limits.js';
import { binding } from '../../dist/native.js';
import type { Role } from '../../dist/wire/frames.js';
import { Authority, type Wanted } from './authority.js';
import type { Entry } from './entry.js';
import { claimsOf, ISSUER, jwtOf, keyFileIn, part, seconds, signerOf } from './oidc-tokens.js';
import { configIn, scratch, start } from './running.js';
import { pretendToRunAs } from './stranger.js';
import { TlsGround } from './tls-ground.js';

export interface Opened {
  daemon: Daemon;
  entry: Entry;
}

/** One way of coming in: with which roles, or how it is refused. */
export interface Way {
  name: string;
  roles: Role[];
  /** Of everything; of what every role may, too, where `isHeard` is not given. */
  refused?: 'UNAUTHENTICATED' | 'CLOSED';
  /** A caller whom nothing identifies is greeted all the same, and can ask after the service's health. */
  isHeard?: boolean;
  open(t: ExecutionContext): Promise<Opened>;
}

const REAL = process.getuid?.() ?? 0;
const ELSE = 12_345;
const PLAIN = [{ host: '127.0.0.1', port: 0 }];

/** A key file for a store in the same scratch directory: after a seal the master key must be there again. */
function store(t: ExecutionContext): { dataDir: string; masterKeyFile: string } {
  const directory = scratch(t);
  const files = { dataDir: join(directory, 'data'), masterKeyFile: join(directory, 'master.key') };
  binding.writeKeyFile(files.masterKeyFile);
  return files;
}

async function plain(t: ExecutionContext, as: number | undefined, flags: DaemonFlags = {}) {
  const directory = scratch(t);
  const files = store(t);
  pretendToRunAs(as);
  const { daemon } = await start(t, configIn(directory, { ...files, ...flags }, { endpoints: PLAIN }), directory);
  return { daemon, dataDir: files.dataDir };
}

function byUid(name: string, as: number | undefined, flags: DaemonFlags, way: Pick<Way, 'roles' | 'refused'>): Way[] {
  return (['socket', 'TCP'] as const).map((over) => ({
    name: `${name}, ${over}`,
    ...way,
    open: async (t) => {
      const { daemon } = await plain(t, as, flags);
      return { daemon, entry: { to: over === 'socket' ? daemon.socket : daemon.ports[0]! } };
    },
  }));
}

function byToken(
  name: string,
  wanted: NewToken,
  way: Pick<Way, 'roles' | 'refused'>,
  spoil?: (made: { token: string; tokenId: string }, dataDir: string) => Promise<string>,
): Way {
  return {
    name: `${name} token`,
    ...way,
    isHeard: true,
    open: async (t) => {
      const { daemon, dataDir } = await plain(t, ELSE);
      // Another one, without which nobody would be heard at all.
      await createToken(dataDir, { roles: ['client'] });
      const made = await createToken(dataDir, wanted);
      const token = spoil === undefined ? made.token : await spoil(made, dataDir);
      await delay(TOKEN_LOOK_MS + 50);
      return { daemon, entry: { to: daemon.ports[0]!, token } };
    },
  };
}

const CERTIFICATES = { clientCertificates: 'CN:client', adminCertificates: 'CN:admin', auditorCertificates: 'CN:auditor' };

function byCertificate(
  name: string,
  wanted: Wanted | undefined,
  way: Pick<Way, 'roles' | 'refused'>,
  by?: 'foreign' | 'revoked',
): Way {
  return {
    name: `${name} certificate`,
    ...way,
    open: async (t) => {
      pretendToRunAs(ELSE);
      const ground = await TlsGround.create(t, { ...CERTIFICATES, ...store(t), dev: false }, { revoked: '' });
      const issuer = by === 'foreign' ? await Authority.create('Root') : ground.root;
      const certified = wanted === undefined ? undefined : await issuer.issue(wanted);
      const server = await ground.root.issue({ names: [{ type: 'ip', value: '127.0.0.1' }], usage: 'server' });
      const revoked = await ground.root.revoke(by === 'revoked' && certified !== undefined ? [certified.serial] : []);
      ground.write({ server, authorities: ground.root.pem, revoked });
      const { daemon } = await ground.start();
      return { daemon, entry: { to: ground.port, ca: ground.root.pem, ...(certified && { certified }) } };
    },
  };
}

const signer = signerOf();

function byJwt(name: string, token: string | undefined, way: Pick<Way, 'roles' | 'refused'>): Way {
  return {
    name,
    ...way,
    isHeard: true,
    open: async (t) => {
      const subjects = { oidcClientSubjects: 'client', oidcAdminSubjects: 'admin', oidcAuditorSubjects: 'auditor' };
      const oidc = { oidcIssuer: ISSUER, oidcAudience: 'kms', oidcJwksFile: keyFileIn(scratch(t), signer), ...subjects };
      const { daemon } = await plain(t, ELSE, oidc);
      return { daemon, entry: { to: daemon.ports[0]!, ...(token !== undefined && { token }) } };
    },
  };
}

function jwt(change: Record<string, unknown>): string {
  return jwtOf(signer, claimsOf({ sub: 'client', ...change }));
}

const REFUSED = { roles: [], refused: 'UNAUTHENTICATED' } as const;
const refused = (): Pick<Way, 'roles' | 'refused'> => ({ ...REFUSED, roles: [] });

export const WAYS: readonly Way[] = [
  ...byUid('own uid', undefined, {}, { roles: ['client', 'admin'] }),
  ...byUid('listed uid, client', ELSE, { allowedUids: `${REAL}` }, { roles: ['client'] }),
  ...byUid('listed uid, auditor', ELSE, { auditorUids: `${REAL}` }, { roles: ['auditor'] }),
  ...byUid('listed uid, admin', ELSE, { adminUids: `${REAL}` }, { roles: ['admin'] }),
  ...byUid('own uid, made auditor', undefined, { auditorUids: `${REAL}` }, { roles: ['auditor'] }),
  ...byUid('other uid', ELSE, { allowedUids: `${REAL + 1}` }, { roles: [], refused: 'CLOSED' }),
  byToken('client', { roles: ['client'] }, { roles: ['client'] }),
  byToken('auditor', { roles: ['auditor'] }, { roles: ['auditor'] }),
  byToken('admin', { roles: ['admin'] }, { roles: ['admin'] }),
  byToken(
    'wrong',
    { roles: ['admin'] },
    refused(),
    async ({ token }) => `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`,
  ),
  byToken('malformed', { roles: ['admin'] }, refused(), async () => 'pk'),
  byToken('revoked', { roles: ['admin'] }, refused(), async ({ token, tokenId }, dataDir) => {
    await revokeToken(dataDir, tokenId);
    return token;
  }),
  byToken('expired', { roles: ['admin'], lifeMs: 1 }, refused()),
  byCertificate('client', { cn: 'client' }, { roles: ['client'] }),
  byCertificate('auditor', { cn: 'auditor' }, { roles: ['auditor'] }),
  byCertificate('admin', { cn: 'admin' }, { roles: ['admin'] }),
  byCertificate('expired', { cn: 'admin', from: -2, until: -1 }, refused()),
  byCertificate('foreign', { cn: 'admin' }, refused(), 'foreign'),
  byCertificate('revoked', { cn: 'admin' }, refused(), 'revoked'),
  byCertificate('unlisted', { cn: 'other' }, refused()),
  byCertificate('no', undefined, refused()),
  byJwt('client JWT', jwt({}), { roles: ['client'] }),
  byJwt('auditor JWT', jwt({ sub: 'auditor' }), { roles: ['auditor'] }),
  byJwt('admin JWT', jwt({ sub: 'admin' }), { roles: ['admin'] }),
  byJwt('expired JWT', jwt({ sub: 'admin', exp: seconds() - 100 }), refused()),
  byJwt('JWT for another audience', jwt({ sub: 'admin', aud: 'other' }), refused()),
  byJwt('JWT with alg none', `${part({ alg: 'none', kid: signer.kid })}.${part(claimsOf({ sub: 'admin' }))}.`, refused()),
  byJwt('JWT of another key', jwtOf({ ...signerOf(), kid: signer.kid }, claimsOf({ sub: 'admin' })), refused()),
  byJwt('no JWT', undefined, refused()),
];
