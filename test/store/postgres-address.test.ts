import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import { addressOf } from '../../dist/store/postgres-address.js';

test('a URL names host, port, user, password and database, by its parts or by parameters', (t) => {
  t.deepEqual(addressOf('postgres://kms:p%40ss@db.internal:6432/keys', false), {
    host: 'db.internal',
    port: 6432,
    user: 'kms',
    password: 'p@ss',
    database: 'keys',
    isVerified: true,
  });
  const socket = addressOf('postgresql:///keys?host=/run/postgresql&user=kms', false);
  t.like(socket, { host: '/run/postgresql', port: 5432, user: 'kms', password: undefined, database: 'keys', isVerified: false });
  t.like(addressOf('postgres://kms@[::1]/', false), { host: '::1', database: 'kms' });
});

test('to another host TLS is used and the server proves its name, unless that is given up by name', (t) => {
  const of = (host: string, mode: string, hasAuthority = false) =>
    addressOf(`postgres://u@${host}/d${mode}`, hasAuthority).isVerified;
  t.true(of('10.0.0.1', ''));
  t.true(of('db', '?sslmode=verify-full'));
  t.false(of('db', '?sslmode=disable'));
  t.false(of('127.0.0.1', ''));
  t.false(of('localhost', ''));
  t.true(of('localhost', '?sslmode=verify-full'));
  t.true(of('127.0.0.1', '', true), 'who names an authority wants it asked');
});

test('a URL that is none, or asks for less, is refused without any part of it', (t) => {
  const wrong = [
    'kms:hush@db/keys',
    'mysql://kms:hush@db/keys',
    'postgres://:hush@db/keys',
    'postgres://kms:hush@db:0/keys',
    'postgres://kms:hush@db/keys?sslmode=require',
    'postgres://kms:hush@db/keys?sslmode=prefer',
    'postgres://kms:hush@db/keys?sslmode=verify-ca',
    'postgres://kms:hush@db/keys?target_session_attrs=any',
    'postgres://kms@db/keys?password=a&hush',
    'postgres://kms:1?hush@db/keys',
    'postgres://kms:hush%@db/keys',
    'postgres://kms:hush@db/keys%zz',
  ];
  for (const url of wrong) {
    const error = t.throws(() => addressOf(url, false), { instanceOf: KmsError }, url);
    t.is(error?.code, 'INVALID_ARGUMENT');
    t.notRegex(error?.message ?? '', /hush|db\/keys/);
  }
  t.throws(() => addressOf('postgres://kms@db/keys?sslmode=disable', true), { code: 'INVALID_ARGUMENT' });
});
