import test from 'ava';
import { faultOfJwt, identityOfClaims } from '../../dist/daemon/oidc/claims.js';
import { ACTOR_PATTERN, MAX_JWT_LIFE_MS } from '../../dist/limits.js';
import { type Claims, claimsOf, jwtOf, oidcConfig, part, seconds, signerOf } from './oidc-tokens.js';

const NOW = Date.now();
const AT = seconds(NOW);
const DAY = MAX_JWT_LIFE_MS / 1000;
const signer = signerOf();
const config = oidcConfig({ file: '/jwks.json' });

/** A change of good claims, and why they are refused then, unless they are not. */
const CLAIMS: Array<[change: Claims, fault: string | undefined]> = [
  [{}, undefined],
  [{ aud: ['other', 'kms'] }, undefined],
  [{ exp: AT - 59 }, undefined],
  [{ exp: AT - 60 }, 'expired'],
  [{ exp: AT + DAY + 60 }, undefined],
  [{ exp: AT + DAY + 62 }, 'exp too far ahead'],
  [{ exp: `${AT + 300}` }, 'exp'],
  [{ exp: undefined }, 'exp'],
  [{ exp: null }, 'exp'],
  [{ nbf: AT + 60 }, undefined],
  [{ nbf: AT + 62 }, 'nbf ahead'],
  [{ nbf: 'now' }, 'nbf'],
  [{ iat: AT + 62 }, 'iat ahead'],
  [{ iat: undefined }, undefined],
  [{ iat: '1' }, 'iat'],
  [{ iss: 'https://issuer.example/realm/' }, 'iss'],
  [{ iss: ['https://issuer.example/realm'] }, 'iss'],
  [{ iss: undefined }, 'iss'],
  [{ aud: 'KMS' }, 'aud'],
  [{ aud: [] }, 'aud'],
  [{ aud: [['kms']] }, 'aud'],
  [{ aud: undefined }, 'aud'],
  [{ sub: undefined }, 'sub'],
  [{ sub: '' }, 'sub'],
  [{ sub: 7 }, 'sub'],
  [{ sub: 'a\nb' }, 'sub'],
  [{ sub: 'ü' }, 'sub'],
  [{ sub: 'x'.repeat(255) }, undefined],
  [{ sub: 'x'.repeat(256) }, 'sub'],
];
for (const [change, fault] of CLAIMS) {
  test(`claims with ${JSON.stringify(change).slice(0, 60)}: ${fault ?? 'good'} (${CLAIMS.findIndex(([one]) => one === change)})`, (t) => {
    t.is(faultOfJwt(jwtOf(signer, claimsOf(change, NOW)), config, NOW), fault);
  });
}

const HEADERS: Array<[header: Claims, fault: string | undefined]> = [
  [{ typ: 'JWT' }, undefined],
  [{ typ: 'application/at+jwt' }, undefined],
  [{ typ: 'logout+jwt' }, 'typ'],
  [{ typ: ['JWT'] }, 'typ'],
  [{ alg: 'none' }, 'alg'],
  [{ alg: 'None' }, 'alg'],
  [{ alg: 'HS256' }, 'alg'],
  [{ alg: 'RS256' }, 'alg'],
  [{ alg: ['ES256'] }, 'alg'],
  [{ alg: undefined }, 'alg'],
  [{ crit: ['exp'], exp: 1 }, 'crit'],
  [{ crit: ['b64'], b64: false }, 'crit'],
  [{ crit: null }, 'crit'],
];
for (const [header, fault] of HEADERS) {
  test(`a header with ${JSON.stringify(header)}: ${fault ?? 'good'}`, (t) => {
    t.is(faultOfJwt(jwtOf(signer, claimsOf({}, NOW), header), config, NOW), fault);
  });
}

test('what is no JWT is none', (t) => {
  const good = jwtOf(signer);
  const [header, claims, signature] = good.split('.') as [string, string, string];
  const others = [`${header}.${claims}`, `${header}.${claims}.`, `${good}.x`, `${good}=`, ` ${good}`, '..', '.'];
  others.push(`x.${claims}.${signature}`, `${header}.x.${signature}`, `${part('[]')}.${claims}.x`, `${header}.${part('null')}.x`);
  others.push(`${header}.${part('"x"')}.${signature}`, `${header}.${part('['.repeat(3000))}.${signature}`);
  for (const text of others) t.is(faultOfJwt(text, config, NOW), 'not a JWT', text.slice(0, 60));
  t.is(faultOfJwt(good, config, NOW), undefined);
});

const named = (claims: Claims, change: Parameters<typeof oidcConfig>[1] = {}) => {
  const identity = identityOfClaims(claims, oidcConfig({ file: '/jwks.json' }, change));
  return typeof identity === 'string' ? identity : { ...identity, roles: [...identity.roles].join() };
};

/** A claim of roles, its name in the configuration, and the roles that come of it. */
const ROLES: Array<[claims: Claims, name: string | undefined, roles: string]> = [
  [{ sub: 'root' }, undefined, 'admin'],
  [{ sub: 'alice', roles: ['admin'] }, undefined, 'client'],
  [{ sub: 'alice', roles: ['auditor', 'auditor', 'other', 1, null] }, 'roles', 'client,auditor'],
  [{ sub: 'bob', roles: 'client' }, 'roles', 'client'],
  [{ sub: 'bob', scope: 'openid auditor client' }, 'scope', 'client,auditor'],
  [{ sub: 'bob', resource_access: { kms: { roles: ['admin'] } } }, 'resource_access.kms.roles', 'admin'],
  [{ sub: 'bob', 'https://x.example/roles': ['client'] }, 'https://x.example/roles', 'client'],
];
for (const [claims, rolesClaim, roles] of ROLES) {
  test(`${JSON.stringify(claims)} has the roles ${roles}`, (t) => {
    t.deepEqual(named(claims, { rolesClaim }), { actor: `oidc:${claims['sub']}`, roles });
  });
}

test('a token without a role is nobody’s, whatever else it says', (t) => {
  const strange = [undefined, null, 'Client', 'clients', ['CLIENT'], { client: true }, [['client']], 7, 'client,admin'];
  for (const roles of strange) t.is(named({ sub: 'bob', roles }, { rolesClaim: 'roles' }), 'no role');
  t.is(named({ sub: 'alic' }), 'no role');
  t.is(named({ sub: 'Alice' }), 'no role');
  for (const rolesClaim of ['__proto__.roles', 'constructor.name', 'roles.length', 'toString']) {
    t.is(named({ sub: 'bob', roles: ['client'] }, { rolesClaim }), 'no role', rolesClaim);
  }
});

test('prefixes narrow a client, and are wanted of every token where they are configured', (t) => {
  const change = { prefixesClaim: 'kms.threads', rolesClaim: 'roles' };
  const of = (threads: unknown, more: Claims = {}) => named({ sub: 'alice', kms: { threads }, ...more }, change);
  t.deepEqual(of(['chat/', 'mail/1']), { actor: 'oidc:alice', roles: 'client', threadPrefixes: ['chat/', 'mail/1'] });
  const many = Array.from({ length: 17 }, (_, index) => `p${index}`);
  for (const threads of [undefined, null, [], '', 'chat/', [''], ['chat/', 7], ['a b'], many]) {
    t.is(of(threads), 'no thread prefixes', JSON.stringify(threads));
  }
  t.is(of(['chat/'], { roles: ['auditor'] }), 'thread prefixes go with the role client alone');
  t.is(of(['chat/'], { sub: 'root' }), 'thread prefixes go with the role client alone');
});

test('a subject that records have no room for is named by its hash, which none can have for a name', (t) => {
  const actorOf = (sub: string) => (named({ sub, roles: 'client' }, { rolesClaim: 'roles' }) as { actor: string }).actor;
  t.is(actorOf('x'.repeat(59)), `oidc:${'x'.repeat(59)}`);
  const hashed = actorOf('auth0|123');
  // printf 'auth0|123' | sha256sum
  t.is(hashed, 'oidc:sha256:4043445eadeeeb2a5d885af3c133f60ef57523a1ff87ba20edcc');
  for (const sub of ['auth0|123', 'auth0|124', 'x'.repeat(60), 'x'.repeat(61), 'a b', hashed.slice('oidc:'.length)]) {
    t.regex(actorOf(sub), /^oidc:sha256:[0-9a-f]{52}$/);
    t.regex(actorOf(sub), ACTOR_PATTERN);
    t.true(sub === 'auth0|123' || actorOf(sub) !== hashed, sub);
  }
});
