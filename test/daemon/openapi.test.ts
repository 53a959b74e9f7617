import test, { type ExecutionContext } from 'ava';
import { openApi } from '../../dist/daemon/http/openapi.js';
import { OPEN_PATHS, ROUTES } from '../../dist/daemon/http/routes.js';
import { ERROR_TABLE, type ErrorCode } from '../../dist/errors.js';
import { OPERATIONS } from '../../dist/wire/frames.js';
import { rowsOf, textOf } from '../house/sources.js';
import { askHttp } from './http-peer.js';
import { running } from './running.js';

interface Schema {
  type?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  oneOf?: Schema[];
  enum?: string[];
  nullable?: boolean;
}

interface Operation {
  responses: Record<string, { content?: { 'application/json': { schema: Schema } } }>;
}

const document = openApi('1.2.3') as { paths: Record<string, Record<string, Operation>> };

/** What in `value` is not as the schema says; as much of JSON Schema as the document uses. */
function faults(schema: Schema, value: unknown, at = ''): string[] {
  if (value === null && schema.nullable) return [];
  if (schema.oneOf !== undefined) return schema.oneOf.some((one) => faults(one, value).length === 0) ? [] : [`${at}: none fits`];
  if (schema.type === 'array') {
    return Array.isArray(value)
      ? value.flatMap((item, index) => faults(schema.items!, item, `${at}[${index}]`))
      : [`${at}: no array`];
  }
  if (schema.type === 'object') {
    if (typeof value !== 'object' || value === null) return [`${at}: no object`];
    const members = value as Record<string, unknown>;
    const unknown = Object.keys(members).filter((name) => schema.properties?.[name] === undefined);
    const missing = (schema.required ?? []).filter((name) => !(name in members));
    const wrong = Object.entries(schema.properties ?? {}).flatMap(([name, one]) =>
      name in members ? faults(one, members[name], `${at}.${name}`) : [],
    );
    return [...unknown.map((name) => `${at}.${name}: unknown`), ...missing.map((name) => `${at}.${name}: missing`), ...wrong];
  }
  if (schema.type === 'boolean') return typeof value === 'boolean' ? [] : [`${at}: no boolean`];
  if (schema.type === 'integer') return Number.isInteger(value) ? [] : [`${at}: no integer`];
  if (schema.enum !== undefined && !schema.enum.includes(value as string)) return [`${at}: not one of the enum`];
  return typeof value === 'string' ? [] : [`${at}: no string`];
}

function schemaOf(method: string, path: string): Schema {
  return document.paths[path]![method.toLowerCase()]!.responses['200']!.content!['application/json'].schema;
}

test('every path that is served is documented, and no other', (t) => {
  const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const served = [...OPEN_PATHS.map((path) => `GET ${path}`), ...ROUTES.map(({ method, path }) => `${method} ${path}`)];
  t.deepEqual(documented.sort(), served.sort());
});

test('the schema checker of this file finds what is missing, unknown or of another type', (t) => {
  const schema: Schema = { type: 'object', required: ['a'], properties: { a: { type: 'string' }, b: { type: 'integer' } } };
  t.deepEqual(faults(schema, { a: 'x', b: 1 }), []);
  t.deepEqual(faults(schema, { b: 'x', c: 1 }), ['.c: unknown', '.a: missing', '.b: no integer']);
});

async function ask(t: ExecutionContext, socket: string, method: string, path: string, at: string, body?: unknown) {
  const { status, json } = await askHttp(socket, { method, path: at, body });
  t.is(status, 200, `${method} ${at}`);
  t.deepEqual(faults(schemaOf(method, path), json), [], `${method} ${path}`);
  return json!;
}

test('the answers are as they are documented', async (t) => {
  const { daemon } = await running(t, {});
  const asking = (method: string, path: string, at: string, body?: unknown) => ask(t, daemon.socket, method, path, at, body);
  const plaintext = Buffer.from('x').toString('base64');
  const { key_id } = await asking('POST', '/create_dek_for_thread', '/create_dek_for_thread', { thread_id: 'a' });
  await asking('GET', '/get_wrapped', `/get_wrapped?key_id=${key_id}`);
  const { ciphertext } = await asking('POST', '/encrypt', '/encrypt', { key_id, plaintext });
  await asking('POST', '/decrypt', '/decrypt', { key_id, ciphertext });
  await asking('POST', '/v1/keys', '/v1/keys', {});
  await asking('GET', '/v1/keys', '/v1/keys?limit=1');
  await asking('GET', '/v1/keys/{key_id}', `/v1/keys/${key_id}`);
  await asking('POST', '/v1/encrypt_many', '/v1/encrypt_many', { key_id, plaintexts: [plaintext] });
  await asking('POST', '/v1/decrypt_many', '/v1/decrypt_many', { key_id, ciphertexts: [ciphertext, plaintext] });
  await asking('POST', '/rewrap', '/rewrap', { key_id });
  await asking('POST', '/rotate_kek', '/rotate_kek', { wait: true });
  await asking('GET', '/rotation_status', '/rotation_status');
  const { slots } = await asking('POST', '/v1/slots', '/v1/slots', { new_kek_hex: 'a1'.repeat(32) });
  await asking('GET', '/v1/slots', '/v1/slots');
  await asking('POST', '/v1/confirm_slot', '/v1/confirm_slot', {});
  const { slot_id } = (slots as Array<Record<string, string>>)[0]!;
  await asking('DELETE', '/v1/slots/{slot_id}', `/v1/slots/${slot_id}`);
  await asking('PUT', '/v1/keys/{key_id}/state', `/v1/keys/${key_id}/state`, { state: 'disabled' });
  await asking('GET', '/v1/status', '/v1/status');
  await asking('POST', '/v1/seal', '/v1/seal', {});
  await asking('POST', '/v1/unseal', '/v1/unseal', {});
  const { json } = await askHttp(daemon.socket, { path: '/openapi.json' });
  t.deepEqual(json, openApi((json!['info'] as { version: string }).version));
});

test('docs/HTTP.md has the same endpoints, roles and members', (t) => {
  const rows = rowsOf('docs/HTTP.md', /^`[A-Z]+ \//);
  const documented = rows.slice(OPEN_PATHS.length - 1).map(([endpoint, role, members]) => [endpoint, role, members]);
  t.deepEqual(
    documented,
    ROUTES.map(({ method, path, op, members }) => {
      const { role, ownKeys } = OPERATIONS[op]!;
      return [
        `\`${method} ${path}\``,
        ownKeys ? `${role}, or client on keys it created` : role,
        members.map(({ name, required }) => `\`${name}\`${required ? '' : '?'}`).join(', '),
      ];
    }),
  );
});

test('docs/HTTP.md has the status of every error', (t) => {
  const rows = rowsOf('docs/HTTP.md', /^\d{3}$/);
  for (const code of Object.keys(ERROR_TABLE) as ErrorCode[]) {
    const row = rows.find(([status]) => status === String(ERROR_TABLE[code].http));
    t.true(row?.[1]?.includes(code), code);
  }
  t.true(textOf('docs/HTTP.md').includes('Retry-After'));
});
