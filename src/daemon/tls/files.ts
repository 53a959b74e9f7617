import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { readChecked } from '../../checked-file.js';
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

/** Throws a KmsError of one line that names the key and the file. */
export function readMaterial({ certFile, keyFile, clientCaFile, crlFile }: TlsFiles): Material {
  const read = (name: string, file: string | undefined, isSecret = false) =>
    file === undefined ? Buffer.alloc(0) : readChecked(name, file, { isSecret, isOwned: true, maxBytes: MAX_TLS_FILE_BYTES });
  return {
    certificate: read('tls.cert_file', certFile),
    authorities: read('tls.client_ca_file', clientCaFile),
    revoked: read('tls.crl_file', crlFile),
    key: read('tls.key_file', keyFile, true),
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
  // OpenSSL takes it for a whole list, the newest there is, and lets in whoever was revoked before.
  if (binding.holdsDelta(revoked))
    throw wrong('tls.crl_file', `${files.crlFile} holds a delta list; only whole lists can be used`);
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
