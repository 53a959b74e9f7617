import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Daemon } from '../../dist/daemon/main.js';
import { createToken } from '../../dist/daemon/token-writer.js';
import { binding } from '../../dist/native.js';
import { Authority } from '../daemon/authority.js';
import { configIn, scratch, start } from '../daemon/running.js';
import { Stage } from './session.js';

/** The daemon's own user, whom the kernel tells it on loopback too: no more than an auditor, unless he shows more. */
const OWN = process.geteuid?.() ?? 0;

/** A daemon with one endpoint over TLS and one without, and a stage on which the command line calls it. */
export class NetworkGround {
  private constructor(
    readonly stage: Stage,
    private readonly daemon: Daemon,
    private readonly dataDir: string,
    private readonly root: Authority,
  ) {}

  static async create(t: ExecutionContext): Promise<NetworkGround> {
    const directory = scratch(t);
    const at = (name: string) => join(directory, name);
    const root = await Authority.create('Root');
    const { cert, key } = await root.issue({ cn: 'kms', names: [{ type: 'ip', value: '127.0.0.1' }], usage: 'server' });
    writeFileSync(at('cert.pem'), cert);
    writeFileSync(at('key.pem'), key, { mode: 0o600 });
    writeFileSync(at('ca.pem'), root.pem);
    const files = { tlsCertFile: at('cert.pem'), tlsKeyFile: at('key.pem'), tlsClientCaFile: at('ca.pem') };
    const lists = { auditorUids: `${OWN}`, clientCertificates: 'CN:app', adminCertificates: 'CN:boss' };
    const endpoints = [
      { host: '127.0.0.1', port: 0, isTls: true as const },
      { host: '127.0.0.1', port: 0 },
    ];
    const config = configIn(directory, { ...files, ...lists }, { endpoints });
    binding.writeKeyFile(config.masterKeyFile!);
    const { daemon } = await start(t, config, directory);
    const stage = await Stage.make();
    t.teardown(() => stage.clear());
    const ground = new NetworkGround(stage, daemon, config.dataDir!, root);
    ground.write('ca.pem', root.pem, 0o644);
    await ground.writeToken('token');
    await ground.writeCertificate('boss', 'boss');
    return ground;
  }

  /** Its address by that scheme. */
  at(scheme: 'https' | 'kms+tls' | 'http' | 'kms'): string {
    const [secure, plain] = this.daemon.ports;
    return `${scheme}://127.0.0.1:${scheme === 'https' || scheme === 'kms+tls' ? secure : plain}`;
  }

  /** A file where the command line runs. */
  write(name: string, text: string, mode = 0o600): void {
    writeFileSync(join(this.stage.work, name), text, { mode });
  }

  private async writeToken(name: string): Promise<void> {
    const { token } = await createToken(this.dataDir, { roles: ['admin'] });
    this.write(name, `${token}\n`);
  }

  private async writeCertificate(name: string, cn: string): Promise<void> {
    const { cert, key } = await this.root.issue({ cn, usage: 'client' });
    this.write(`${name}.pem`, cert);
    this.write(`${name}.key`, key);
  }
}
