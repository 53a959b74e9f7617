import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Authority, type Certified } from '../daemon/authority.js';
import { PROTOCOLS, TlsGround } from '../daemon/tls-ground.js';
import { Stage } from './session.js';

const HINT = 'hint: --token-file, or --cert-file and --key-file, show the daemon who calls';
const UNKNOWN = new RegExp(`^progressdb-kms: not authenticated(: .*)?\n${HINT}\n$`);
const UNTRUSTED =
  /^progressdb-kms: permission denied: the server at 127\.0\.0\.1:\d+ does not prove .*\nhint: .*--ca-file names\n$/;
const TRUSTING = '--ca-file ca.pem';

test.serial(
  'a certificate that is not accepted, and a daemon that is not trusted, end a command with their own code',
  async (t) => {
    const ground = await TlsGround.create(t);
    const { daemon } = await ground.start();
    const stage = await Stage.make();
    t.teardown(() => stage.clear());
    const foreign = await Authority.create('Root');
    const write = (name: string, text: string) => writeFileSync(join(stage.work, name), text, { mode: 0o600 });
    const certified = (name: string, { cert, key }: Certified) => {
      write(`${name}.pem`, cert);
      write(`${name}.key`, key);
      return `--cert-file ${name}.pem --key-file ${name}.key`;
    };
    write('ca.pem', ground.root.pem);
    write('foreign.pem', foreign.pem);
    const app = certified('app', await ground.client({ cn: 'app' }));
    const other = certified('other', await ground.client({ cn: 'other' }));
    const stranger = certified('stranger', await foreign.issue({ cn: 'app' }));
    const command = (address: string, options: string) => stage.run(`progressdb-kms create-dek --socket ${address} ${options}`);
    const refused: Array<[options: string, exit: number, message: RegExp]> = [
      [TRUSTING, 12, UNKNOWN],
      [`${TRUSTING} ${other}`, 12, UNKNOWN],
      [`${TRUSTING} ${stranger}`, 12, UNKNOWN],
      [app, 13, UNTRUSTED],
      [`--ca-file foreign.pem ${app}`, 13, UNTRUSTED],
    ];
    for (const protocol of PROTOCOLS) {
      for (const [options, exit, message] of refused) {
        const ran = await command(`${protocol}://127.0.0.1:${ground.port}`, options);
        t.is(ran.exit, exit, `${protocol} ${options}: ${ran.stderr}`);
        t.regex(ran.stderr, message, `${protocol} ${options}`);
      }
    }
    t.deepEqual((await daemon.kms.listKeys()).keys, []);
    t.is((await command(`https://127.0.0.1:${ground.port}`, `${TRUSTING} ${app}`)).exit, 0, 'who is known is let in');

    const untrusted = await stage.run(`progressdb-kms doctor --socket https://127.0.0.1:${ground.port} ${app}`);
    t.is(untrusted.exit, 1);
    t.regex(untrusted.stdout, /^fail {4}endpoint: .* does not prove .*\n {8}mend: /m);
    const told = await stage.run(`progressdb-kms doctor --socket kms+tls://127.0.0.1:${ground.port} ${TRUSTING} ${app}`);
    t.is(told.exit, 0, told.stdout);
    t.regex(told.stdout, /^advice {2}daemon: cannot be looked at: permission denied: .*role auditor/m);
  },
);
