import 'reflect-metadata';
import { KeyObject, webcrypto } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  type X509Certificate,
  X509CertificateGenerator,
  X509CrlGenerator,
} from '@peculiar/x509';

cryptoProvider.set(webcrypto as never);
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const HOUR_MS = 3_600_000;

type Pair = webcrypto.CryptoKeyPair;

/** A certificate and its key in PEM, as files hold them. */
export interface Certified {
  cert: string;
  key: string;
  serial: string;
}

export interface Wanted {
  /** Common name; none unless given. */
  cn?: string;
  names?: JsonGeneralNames;
  /** Hours from now; an hour ago and an hour ahead unless given. */
  from?: number;
  until?: number;
  usage?: 'client' | 'server' | 'both';
}

async function newPair(): Promise<Pair> {
  return (await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])) as Pair;
}

function pemOf(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }) as string;
}

function hoursFromNow(hours: number): Date {
  return new Date(Date.now() + hours * HOUR_MS);
}

let serials = 0x1000;

function nextSerial(): string {
  return (++serials).toString(16);
}

/** A certificate authority, for one test. */
export class Authority {
  private constructor(
    private readonly name: string,
    private readonly keys: Pair,
    private readonly own: X509Certificate,
    /** Of its own certificate, and of those above it that are no roots. */
    private readonly above: string,
  ) {}

  static async create(name: string): Promise<Authority> {
    const keys = await newPair();
    const own = await X509CertificateGenerator.createSelfSigned({
      serialNumber: nextSerial(),
      name: `CN=${name}`,
      notBefore: hoursFromNow(-2),
      notAfter: hoursFromNow(24),
      keys,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(true, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return new Authority(name, keys, own, '');
  }

  get pem(): string {
    return `${this.own.toString('pem')}\n`;
  }

  /** An authority below this one. */
  async intermediate(name: string): Promise<Authority> {
    const keys = await newPair();
    const own = await this.sign(name, keys, { from: -1, until: 12 }, [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ]);
    return new Authority(name, keys, own, `${own.toString('pem')}\n${this.above}`);
  }

  async issue({ cn, names = [], usage = 'both', ...times }: Wanted): Promise<Certified> {
    const keys = await newPair();
    const usages = { client: [ExtendedKeyUsage.clientAuth], server: [ExtendedKeyUsage.serverAuth] };
    const one = await this.sign(cn, keys, times, [
      new ExtendedKeyUsageExtension(usage === 'both' ? [...usages.client, ...usages.server] : usages[usage]),
      ...(names.length > 0 ? [new SubjectAlternativeNameExtension(names)] : []),
    ]);
    return { cert: `${one.toString('pem')}\n${this.above}`, key: pemOf(keys.privateKey), serial: one.serialNumber };
  }

  /** A revocation list of these serial numbers, in force until `until` hours from now; only what is new, if it is a `delta`. */
  async revoke(serialNumbers: readonly string[], until = 1, kind: 'whole' | 'delta' = 'whole'): Promise<string> {
    const list = await X509CrlGenerator.create({
      issuer: `CN=${this.name}`,
      thisUpdate: hoursFromNow(kind === 'delta' ? -1 : -2),
      nextUpdate: hoursFromNow(until),
      signingAlgorithm: ALGORITHM,
      signingKey: this.keys.privateKey,
      entries: serialNumbers.map((serialNumber) => ({ serialNumber, revocationDate: hoursFromNow(-1) })),
      // Since the list of number 1: RFC 5280, section 5.2.4.
      ...(kind === 'delta' && { extensions: [new Extension('2.5.29.27', true, new Uint8Array([0x02, 0x01, 0x01]))] }),
    });
    // The library calls it CRL; RFC 7468, section 6, and OpenSSL say X509 CRL.
    return `${list.toString('pem').replaceAll(' CRL-----', ' X509 CRL-----')}\n`;
  }

  private async sign(
    cn: string | undefined,
    keys: Pair,
    { from = -1, until = 1 }: Pick<Wanted, 'from' | 'until'>,
    extensions: Extension[],
  ): Promise<X509Certificate> {
    return X509CertificateGenerator.create({
      serialNumber: nextSerial(),
      subject: cn === undefined ? 'O=Nobody' : `CN=${cn}`,
      issuer: `CN=${this.name}`,
      notBefore: hoursFromNow(from),
      notAfter: hoursFromNow(until),
      publicKey: keys.publicKey,
      signingKey: this.keys.privateKey,
      signingAlgorithm: ALGORITHM,
      extensions: [...extensions, await AuthorityKeyIdentifierExtension.create(this.keys.publicKey)],
    });
  }
}
