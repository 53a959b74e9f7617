import test from 'ava';
import { hostHeaderOf, isInTheClear, nameOf, parseAddress } from '../../dist/client/address.js';
import { connectKms } from '../../dist/client/index.js';
import { type ErrorCode, KmsError } from '../../dist/errors.js';

const SECRET = 'hunter2';

/** `protocol`, and the place as errors name it, with `+tls` and the prefix where there are any. */
const GOOD: ReadonlyArray<[address: string, meaning: string, host?: string]> = [
  ['/run/kms.sock', 'binary /run/kms.sock', 'unix'],
  ['./kms.sock', 'binary ./kms.sock'],
  ['unix:/run/kms.sock', 'binary /run/kms.sock'],
  ['unix:///run/kms.sock', 'binary /run/kms.sock'],
  ['http+unix:///run/kms.sock', 'http /run/kms.sock', 'unix'],
  ['127.0.0.1:6820', 'http 127.0.0.1:6820', '127.0.0.1:6820'],
  ['localhost:6820/', 'http localhost:6820'],
  ['kms_1.internal:80', 'http kms_1.internal:80', 'kms_1.internal'],
  ['[::1]:6820', 'http [::1]:6820', '[::1]:6820'],
  ['http://kms', 'http kms:80', 'kms'],
  ['HTTP://KMS:6820', 'http kms:6820', 'kms:6820'],
  ['http://kms:6820/a/prefix/', 'http kms:6820/a/prefix'],
  ['https://kms', 'http kms:443+tls', 'kms'],
  ['https://kms:80/p', 'http kms:80+tls/p', 'kms:80'],
  ['kms://10.0.0.1:7000', 'binary 10.0.0.1:7000'],
  ['kms://host:80/', 'binary host:80'],
  ['kms+tls://[fe80::1]:7000', 'binary [fe80::1]:7000+tls'],
];
for (const [address, meaning, host] of GOOD) {
  test(`${address} is ${meaning}`, (t) => {
    const { protocol, place, prefix, userinfo } = parseAddress(address);
    const tls = 'isTls' in place && place.isTls ? '+tls' : '';
    t.is(`${protocol} ${nameOf(place)}${tls}${prefix}`, meaning);
    t.is(userinfo, undefined);
    if (host !== undefined) t.is(hostHeaderOf(place), host);
  });
}

test('a user and a token may stand before the host, percent-encoded', (t) => {
  t.deepEqual(parseAddress('http://kms:s%40c%2Fr%C3%A4t@host:1/p').userinfo, { user: 'kms', token: 's@c/rät' });
  t.deepEqual(parseAddress('kms+tls://:token@host:1').userinfo, { user: '', token: 'token' });
});

const BAD: ReadonlyArray<[address: unknown, code: ErrorCode, why: RegExp]> = [
  ['', 'INVALID_ARGUMENT', /an address was expected/],
  [5, 'INVALID_ARGUMENT', /an address was expected/],
  ['kms', 'INVALID_ARGUMENT', /neither/],
  [`user:${SECRET}@host:80`, 'INVALID_ARGUMENT', /neither/],
  [`user:${SECRET}@host:80/p`, 'INVALID_ARGUMENT', /neither/],
  ['unix:', 'INVALID_ARGUMENT', /path of a socket/],
  ['http+unix:', 'INVALID_ARGUMENT', /path of a socket/],
  ['/', 'INVALID_ARGUMENT', /path of a socket/],
  ['/a\0b', 'INVALID_ARGUMENT', /zero byte/],
  [`/${'a'.repeat(200)}`, 'INVALID_ARGUMENT', /at most/],
  ['ftp://host:21', 'UNSUPPORTED', /schemes/],
  [`redis://u:${SECRET}@host:1`, 'UNSUPPORTED', /schemes/],
  ['constructor://host:1', 'UNSUPPORTED', /schemes/],
  ['kms://host', 'INVALID_ARGUMENT', /port/],
  ['http://host:0', 'INVALID_ARGUMENT', /port/],
  [`http://u:${SECRET}@host:70000`, 'INVALID_ARGUMENT', /not a URL/],
  [`http://u:${SECRET}@ho st:1`, 'INVALID_ARGUMENT', /not a URL/],
  ['http://host\\@other:1', 'INVALID_ARGUMENT', /not a URL/],
  ['http://ho\nst:1', 'INVALID_ARGUMENT', /not a URL/],
  ['http://', 'INVALID_ARGUMENT', /not a URL/],
  ['kms://:5', 'INVALID_ARGUMENT', /URL|host name/],
  ['kms://ho%20st:5', 'INVALID_ARGUMENT', /URL|host name/],
  ['kms://host:5/path', 'INVALID_ARGUMENT', /no paths/],
  [`http://host:1/?token=${SECRET}`, 'INVALID_ARGUMENT', /query/],
  [`http://host:1/#${SECRET}`, 'INVALID_ARGUMENT', /fragment/],
  [`http://${SECRET}@host:1`, 'INVALID_ARGUMENT', /user:token@/],
  [`http://a%3Ab:${SECRET}@host:1`, 'INVALID_ARGUMENT', /user:token@/],
  [`http://a:${SECRET}%zz@host:1`, 'INVALID_ARGUMENT', /user:token@/],
];
for (const [address, code, why] of BAD) {
  test(`${JSON.stringify(address).replaceAll(SECRET, 'SECRET')} is refused, and no secret of it is repeated`, (t) => {
    const error = t.throws(() => parseAddress(address as string), { instanceOf: KmsError });
    t.is(error?.code, code);
    t.regex(error?.message ?? '', why);
    t.false(`${error?.stack} ${JSON.stringify(error)} ${String(error?.cause)}`.includes(SECRET));
  });
}

test('a token goes to this host, through a socket or over TLS only', async (t) => {
  for (const address of ['http://127.0.0.1:1', 'kms://127.1.2.3:1', 'http://[::1]:1', 'localhost:1', 'https://kms', '/a/b']) {
    t.false(isInTheClear(parseAddress(address).place), address);
  }
  for (const host of ['kms', '10.0.0.1', '127.evil.example', '127.0.0.1.evil.example', '[::2]', '0.0.0.0', 'localhost.example']) {
    for (const given of [{ endpoint: `kms://${host}:1`, token: SECRET }, `http://u:${SECRET}@${host}:1`]) {
      const error = await t.throwsAsync(connectKms(given), { instanceOf: KmsError });
      t.is(error?.code, 'INVALID_ARGUMENT', host);
      t.regex(error?.message ?? '', /in the clear/);
      t.false(error?.message.includes(SECRET));
    }
  }
});

test('what only looks like an address of this host is a name, and no token goes there', (t) => {
  for (const host of ['127.0.0.999', '127.0.0.01']) t.true(isInTheClear(parseAddress(`kms://${host}:1`).place), host);
});

test('options that contradict the address, or are none, are refused before anything is dialled', async (t) => {
  const wrong: Array<[unknown, RegExp]> = [
    [{ endpoint: 'http://a:b@127.0.0.1:1', token: 'c' }, /^token: the address has one/],
    [{ endpoint: '127.0.0.1:1', token: 'two\r\nlines' }, /^token: visible/],
    [{ endpoint: '127.0.0.1:1', token: '' }, /^token: visible/],
    [{ endpoint: '127.0.0.1:1', token: 7 }, /^token: visible/],
    [{ endpoint: '127.0.0.1:1', tls: {} }, /^tls: this address/],
    [{ socket: '/a/b', tls: {} }, /^tls: this address/],
    [{ endpoint: 'https://127.0.0.1:1', tls: { rejectUnauthorized: false } }, /^tls: rejectUnauthorized is not known/],
    [{ endpoint: 'https://127.0.0.1:1', tls: { minVersion: 'TLSv1.1' } }, /^tls: minVersion/],
    [{ endpoint: 'https://127.0.0.1:1', tls: { servername: '' } }, /^tls: servername/],
    [{ endpoint: 'https://127.0.0.1:1', tls: { key: SECRET } }, /^tls: cert and key/],
    [{ endpoint: 'https://127.0.0.1:1', tls: { key: SECRET, cert: SECRET } }, /^tls: ca, cert or key/],
    [{ endpoint: '127.0.0.1:1', logger: () => {} }, /^logger: /],
    [{ endpoint: '127.0.0.1:1', maxSockets: 513 }, /^maxSockets: /],
    [{ endpoint: '127.0.0.1:1', socket: '/a/b' }, /^socket, endpoint/],
  ];
  for (const [options, why] of wrong) {
    const error = await t.throwsAsync(connectKms(options as never), { instanceOf: KmsError });
    t.is(error?.code, 'INVALID_ARGUMENT', String(why));
    t.regex(error?.message.replace('invalid argument: ', '') ?? '', why);
    t.false(`${error?.stack} ${String(error?.cause)}`.includes(SECRET));
  }
});
