import test from 'ava';
import { type DaemonFlags, resolveConfig, showConfig } from '../../dist/daemon/config.js';
import { configFile } from './config-files.js';

const GOOD: DaemonFlags = {
  oidcIssuer: 'https://issuer.example',
  oidcAudience: 'kms',
  oidcJwksFile: '/jwks.json',
  oidcClientSubjects: 'alice',
};
const ROLES = 'oidc.client_subjects, admin_subjects, auditor_subjects or roles_claim';

/** What is changed of good flags, and the one line that comes of it; undefined if it is good. */
const COMBINED: Array<[change: DaemonFlags, line: string | undefined]> = [
  [{}, undefined],
  [{ oidcIssuer: undefined }, '--oidc-audience: means nothing without oidc.issuer'],
  [
    {
      oidcIssuer: undefined,
      oidcAudience: undefined,
      oidcJwksFile: undefined,
      oidcClientSubjects: undefined,
      oidcAlgorithms: 'ES256',
    },
    '--oidc-algorithms: means nothing without oidc.issuer',
  ],
  [{ oidcAudience: undefined }, '--oidc-issuer: needs oidc.audience: tokens for other services would be taken'],
  [{ oidcAudience: '' }, '--oidc-issuer: needs oidc.audience: tokens for other services would be taken'],
  [{ oidcJwksFile: undefined }, '--oidc-issuer: needs oidc.jwks_file or oidc.jwks_url'],
  [{ oidcJwksFile: undefined, oidcJwksUrl: 'https://issuer.example/jwks' }, undefined],
  [{ oidcJwksUrl: 'https://x/jwks' }, '--oidc-jwks-url: the keys are given already: --oidc-jwks-file; give one of them'],
  [{ oidcClientSubjects: undefined }, `--oidc-issuer: needs ${ROLES}: nobody would have a role`],
  [{ oidcClientSubjects: undefined, oidcAuditorSubjects: ['bob', 'carol'] }, undefined],
  [{ oidcClientSubjects: undefined, oidcRolesClaim: 'roles' }, undefined],
  [{ oidcPrefixesClaim: 'threads' }, undefined],
  [{ oidcPrefixesClaim: 'threads', oidcAdminSubjects: 'root' }, '--oidc-admin-subjects: does not go with oidc.prefixes_claim'],
];
for (const [change, line] of COMBINED) {
  test(`flags with ${JSON.stringify(change, (_, value) => value ?? null)}: ${line ?? 'good'}`, (t) => {
    const look = () => showConfig({ ...GOOD, ...change }, {});
    if (line === undefined) t.notThrows(look);
    else t.throws(look, { code: 'INVALID_ARGUMENT', message: `invalid argument: ${line}` });
  });
}

const ALGORITHMS = 'RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA';
const SYMMETRIC = ['HS256', 'none', 'RS1', 'es256', ''];
const VALUES: Array<[change: DaemonFlags, rule: string]> = [
  ...SYMMETRIC.slice(0, -1).map((oidcAlgorithms): [DaemonFlags, string] => [
    { oidcAlgorithms: `ES256,${oidcAlgorithms}` },
    `--oidc-algorithms: must be algorithms out of ${ALGORITHMS}, not "ES256,${oidcAlgorithms}"`,
  ]),
  [{ oidcAlgorithms: '' }, '--oidc-algorithms: must name at least one algorithm, not ""'],
  [{ oidcIssuer: '' }, '--oidc-issuer: must be the `iss` of the tokens, at most 255 visible ASCII characters, not ""'],
  [{ oidcClockSkewSeconds: 301 }, '--oidc-clock-skew-seconds: must be a whole number from 0 to 300, not "301"'],
  [{ oidcJwksUrl: 'jwks.json' }, '--oidc-jwks-url: must be a URL, not "jwks.json"'],
  [{ oidcJwksUrl: 'file:///jwks' }, '--oidc-jwks-url: must be an https:// URL, not "file:///jwks"'],
  [{ oidcJwksUrl: 'http://issuer/jwks' }, '--oidc-jwks-url: must be https://, except on loopback, not "http://issuer/jwks"'],
  [{ oidcJwksUrl: 'http://127.0.0.1.x/' }, '--oidc-jwks-url: must be https://, except on loopback, not "http://127.0.0.1.x/"'],
  [{ oidcJwksUrl: 'https://a:pw@x/' }, '--oidc-jwks-url: must not hold a user or a password, not "https://…@x/"'],
  [{ oidcJwksUrl: 'https://x/#y' }, '--oidc-jwks-url: must not hold a fragment, not "https://x/#y"'],
  [{ oidcRolesClaim: 'a b' }, '--oidc-roles-claim: must be the name of a claim, of A-Z a-z 0-9 . _ : @ / -, not "a b"'],
  [{ oidcClientSubjects: 'ü' }, '--oidc-client-subjects: must be `sub` values of 1 to 255 printable ASCII characters, not "ü"'],
];
for (const [change, line] of VALUES) {
  test(`one line names what is wrong with ${JSON.stringify(change)}`, (t) => {
    const flags = { ...GOOD, ...('oidcJwksUrl' in change ? { oidcJwksFile: undefined } : {}), ...change };
    t.throws(() => showConfig(flags, {}), { code: 'INVALID_ARGUMENT', message: `invalid argument: ${line}` });
  });
}

test('plain HTTP is taken for loopback in any spelling', (t) => {
  for (const host of ['127.0.0.1:80', '127.9.9.9', '[::1]:8080', 'localhost']) {
    t.notThrows(() => showConfig({ ...GOOD, oidcJwksFile: undefined, oidcJwksUrl: `http://${host}/jwks` }, {}), host);
  }
});

test('a file’s section is what the daemon gets, and errors name its lines', (t) => {
  const lines = ['oidc:', '  issuer: https://i', '  audience: [a, b]', '  jwks_url: https://i/jwks', '  roles_claim: kms.roles'];
  lines.push('  client_subjects: ["1234", "auth0|5"]', '  clock_skew_seconds: 5');
  const { oidc } = resolveConfig({ dev: true, config: configFile(t, lines.join('\n')) }, {});
  t.deepEqual(oidc, {
    issuer: 'https://i',
    audience: ['a', 'b'],
    keys: { url: 'https://i/jwks' },
    algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'],
    clockSkewSeconds: 5,
    subjects: { client: ['1234', 'auth0|5'], admin: [], auditor: [] },
    rolesClaim: 'kms.roles',
    prefixesClaim: undefined,
  });
  const config = configFile(t, `${lines.slice(1, 2).concat(lines.slice(3)).join('\n').replace(/^/, 'oidc:\n')}\n`);
  const error = t.throws(() => resolveConfig({ dev: true, config }, {}), { code: 'INVALID_ARGUMENT' });
  t.regex(error!.message, new RegExp(`${config}:2: oidc.issuer: needs oidc.audience`));
  t.is(resolveConfig({ dev: true }, {}).oidc, undefined);
});
