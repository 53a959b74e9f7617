import { X509Certificate } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { KmsError } from '../../errors.js';
import { MAX_TLS_FILE_BYTES } from '../../limits.js';
import { binding } from '../../native.js';
import type { TlsFiles } from '../config.js';

/** What the files hold, in PEM. */
export interface Material {
  certificate: Buffer;
  /** Wiped by whoever takes it over. */
  key: Buffer;
  /** Both empty where there are none. */
  authorities: Buffer;
  revoked: Buffer;
}

/** Written by others it could be anybody's; a key that others read is theirs, too. The service's group may. */
const WRITABLE = 0o022;
const FOR_ALL = 0o007;

function read(name: string, file: string, forbidden: number): Buffer {
  let fd: number;
  try {
    // O_NONBLOCK: what somebody put there instead of a file must not hang us.
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    const { code = 'failure' } = cause as NodeJS.ErrnoException;
    throw new KmsError('INVALID_ARGUMENT', `${name}: ${file} cannot be read: ${code}`, { cause });
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile()) throw new KmsError('INVALID_ARGUMENT', `${name}: ${file} is not a regular file`);
    const excess = status.mode & forbidden;
    if (excess !== 0) {
      const mend = (excess & WRITABLE) === 0 ? 'o-rwx' : 'go-w';
      throw new KmsError('PERMISSION_DENIED', `${name}: ${file} is open to others: chmod ${mend} ${file}`);
    }
    if (status.size > MAX_TLS_FILE_BYTES) {
      throw new KmsError('INVALID_ARGUMENT', `${name}: ${file} is longer than ${MAX_TLS_FILE_BYTES} bytes`);
    }
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Throws a KmsError of one line that names the key and the file. */
export function readMaterial({ certFile, keyFile, clientCaFile, crlFile }: TlsFiles): Material {
  return {
    certificate: read('tls.cert_file', certFile, WRITABLE),
    authorities: clientCaFile === undefined ? Buffer.alloc(0) : read('tls.client_ca_file', clientCaFile, WRITABLE),
    revoked: crlFile === undefined ? Buffer.alloc(0) : read('tls.crl_file', crlFile, WRITABLE),
    key: read('tls.key_file', keyFile, WRITABLE | FOR_ALL),
  };
}

function blocksOf(pem: Buffer, label: string): string[] {
  return pem.toString('latin1').match(new RegExp(`-----BEGIN ${label}-----[^-]*-----END ${label}-----`, 'g')) ?? [];
}

/** Each list of its own: of several in one text Node takes the first only. */
export function revocationLists(pem: Buffer): string[] {
  return blocksOf(pem, 'X509 CRL');
}

/** Of what is no certificate Node says nothing: an authority would be missing in silence. */
function holdsCertificates(pem: Buffer): boolean {
  const blocks = blocksOf(pem, 'CERTIFICATE');
  return blocks.length > 0 && blocks.every((block) => isAccepted({ cert: block }));
}

/** When the certificate and the first of the revocation lists have to be replaced: milliseconds since 1970. */
export interface Expiries {
  certificate: number;
  /** Undefined where there is no list, or none says when. */
  revocation_list: number | undefined;
}

export function expiriesOf({ certificate, revoked }: Material): Expiries {
  const seconds = binding.firstNextUpdate(revoked);
  return {
    certificate: Date.parse(new X509Certificate(certificate).validTo),
    revocation_list: seconds < 0 ? undefined : seconds * 1_000,
  };
}

/** Throws one line for what OpenSSL cannot read; its own words stay away, they are about the key. */
export function checkMaterial({ certificate, key, authorities, revoked }: Material, files: TlsFiles): void {
  const wrong = (name: string, what: string) => new KmsError('INVALID_ARGUMENT', `${name}: ${what}`);
  if (files.clientCaFile !== undefined && !holdsCertificates(authorities)) {
    throw wrong('tls.client_ca_file', `${files.clientCaFile} holds no certificates in PEM`);
  }
  const lists = revocationLists(revoked);
  if (files.crlFile !== undefined && (lists.length === 0 || !isAccepted({ crl: lists }))) {
    throw wrong('tls.crl_file', `${files.crlFile} holds no revocation lists in PEM`);
  }
  if (!isAccepted({ cert: certificate })) throw wrong('tls.cert_file', `${files.certFile} holds no certificate in PEM`);
  if (!isAccepted({ key })) throw wrong('tls.key_file', `${files.keyFile} holds no private key in PEM without a passphrase`);
  if (!isAccepted({ cert: certificate, key }))
    throw wrong('tls.key_file', `${files.keyFile} is not the key of ${files.certFile}`);
}

function isAccepted(options: Parameters<typeof createSecureContext>[0]): boolean {
  try {
    createSecureContext(options);
    return true;
  } catch {
    return false;
  }
}
