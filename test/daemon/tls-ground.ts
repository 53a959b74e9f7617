import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type ConnectOptions, connectKms, type KmsClient } from '../../dist/client/index.js';
import { type DaemonConfig, type DaemonFlags, resolveConfig } from '../../dist/daemon/config.js';
import { KmsError } from '../../dist/errors.js';
import { Authority, type Certified, type Wanted } from './authority.js';
import { type Running, scratch, start } from './running.js';
import { pretendToRunAs } from './stranger.js';

// On loopback the daemon's own uid would be known without any certificate.
pretendToRunAs(12_345);

export const PROTOCOLS = ['https', 'kms+tls'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** What the daemon's TLS files hold; `revoked` is left out where it is undefined. */
export interface TlsContents {
  server: Certified;
  authorities: string;
  revoked?: string | undefined;
}

/** A daemon with one TLS endpoint, and the authority that made its certificate and its clients'. */
export class TlsGround {
  readonly config: DaemonConfig;
  private running: Running | undefined;

  private constructor(
    private readonly t: ExecutionContext,
    readonly directory: string,
    readonly root: Authority,
    private readonly flags: DaemonFlags,
  ) {
    this.config = this.resolve();
  }

  static async create(t: ExecutionContext, flags: DaemonFlags = {}, more: Partial<TlsContents> = {}): Promise<TlsGround> {
    const root = await Authority.create('Root');
    const directory = scratch(t);
    const server = await root.issue({ cn: 'kms', names: [{ type: 'ip', value: '127.0.0.1' }], usage: 'server' });
    const certified: DaemonFlags =
      more.authorities === '' ? {} : { tlsClientCaFile: join(directory, 'ca.pem'), clientCertificates: 'CN:app', ...flags };
    const revoked = more.revoked === undefined ? {} : { tlsCrlFile: join(directory, 'crl.pem') };
    write(directory, { server, authorities: root.pem, ...more });
    return new TlsGround(t, directory, root, { ...flags, ...certified, ...revoked });
  }

  /** The files as they are now. */
  write(contents: TlsContents): void {
    write(this.directory, contents);
  }

  resolve(changes: DaemonFlags = {}): DaemonConfig {
    const { directory } = this;
    const files = { tlsCertFile: join(directory, 'cert.pem'), tlsKeyFile: join(directory, 'key.pem') };
    const config = resolveConfig({ dev: true, socket: join(directory, 's'), ...files, ...this.flags, ...changes }, {});
    return { ...config, endpoints: [{ host: '127.0.0.1', port: 0, isTls: true }] };
  }

  async start(changes: Partial<DaemonConfig> = {}): Promise<Running> {
    this.running = await start(this.t, { ...this.config, ...changes }, this.directory);
    return this.running;
  }

  get port(): number {
    return this.running!.daemon.ports[0]!;
  }

  get ports(): readonly number[] {
    return this.running!.daemon.ports;
  }

  client(wanted: Wanted): Promise<Certified> {
    return this.root.issue(wanted);
  }

  /** A client of the library. */
  async connect(protocol: Protocol, certified?: Certified, options: ConnectOptions = {}): Promise<KmsClient> {
    const own = certified === undefined ? {} : { cert: certified.cert, key: certified.key };
    const remote = await connectKms({
      ...options,
      endpoint: `${protocol}://127.0.0.1:${this.port}`,
      tls: { ca: this.root.pem, ...own },
    });
    this.t.teardown(() => remote.close());
    return remote;
  }

  /** `OK`, or the code with which a client's first request that needs a role is refused. */
  async outcome(protocol: Protocol, certified?: Certified, options: ConnectOptions = {}): Promise<string> {
    try {
      const remote = await this.connect(protocol, certified, options);
      await remote.createDekForThread('t');
      return 'OK';
    } catch (error) {
      return error instanceof KmsError ? error.code : String(error);
    }
  }
}

function write(directory: string, { server, authorities, revoked }: TlsContents): void {
  const files = { 'cert.pem': server.cert, 'key.pem': server.key, 'ca.pem': authorities, 'crl.pem': revoked };
  for (const [name, text] of Object.entries(files)) {
    if (text !== undefined) writeFileSync(join(directory, name), text, { mode: 0o600 });
  }
}
