import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';

function certificate(name: string): string {
  return fileURLToPath(new URL(`../../test/client/tls/TEST-ONLY-${name}`, import.meta.url));
}

const SCRIPT = `
  const { boundedGet } = await import('./dist/daemon/oidc/bounded-get.js');
  const look = async () => String(await boundedGet(new URL(process.argv[1]), 100, AbortSignal.timeout(20_000)));
  // A fetch by itself keeps no process alive.
  const alive = setInterval(() => {}, 1_000);
  console.log(await look().catch(({ code }) => code));
  clearInterval(alive);
`;

/** What a process with this environment gets from a server on loopback that is localhost by the tests' own authority. */
async function gets(t: ExecutionContext, env: NodeJS.ProcessEnv, host = 'localhost'): Promise<string> {
  const [cert, key] = ['leaf.pem', 'leaf.key'].map((name) => readFileSync(certificate(name)));
  const server = createServer({ cert, key }, (_, response) => response.end('keys'));
  server.listen(0, host === 'localhost' ? '127.0.0.1' : host);
  await once(server, 'listening');
  t.teardown(() => server.close());
  const url = `https://${host}:${(server.address() as AddressInfo).port}/`;
  const args = ['--no-warnings', '--input-type=module', '-e', SCRIPT, url];
  return (await promisify(execFile)(process.execPath, args, { env })).stdout.trim();
}

test('a server with a certificate of a trusted authority is heard', async (t) => {
  t.is(await gets(t, { NODE_EXTRA_CA_CERTS: certificate('ca.pem') }), 'keys');
});

test('one with any other is not, whatever the environment says', async (t) => {
  for (const env of [{}, { NODE_TLS_REJECT_UNAUTHORIZED: '0' }]) t.regex(await gets(t, env), /^(UNABLE_TO|SELF_SIGNED)/);
});

test('nor is one that goes by another name', async (t) => {
  if (process.platform !== 'linux') {
    t.log('skipped: only Linux has the whole of 127.0.0.0/8');
    t.pass();
    return;
  }
  const env = { NODE_EXTRA_CA_CERTS: certificate('ca.pem'), NODE_TLS_REJECT_UNAUTHORIZED: '0' };
  t.is(await gets(t, env, '127.0.0.2'), 'ERR_TLS_CERT_ALTNAME_INVALID');
});
