import { X509Certificate } from 'node:crypto';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { readChecked } from '../checked-file.js';
import type { HostPlace } from '../client/address.js';
import { type CallerFiles, type NamedFile, tlsIn } from '../client/caller-files.js';
import { dial, identityOf } from '../client/server.js';
import { MAX_TLS_FILE_BYTES, TLS_EXPIRY_NOTICE_MS } from '../limits.js';
import { advice, type Finding, ok } from './checks.js';

const TIMEOUT_MS = 5_000;

/** A certificate is due in its last two weeks, one of a shorter life in the last third of that. */
export function checkPeriod(check: string, whose: string, from: string, until: string, mend: string): Finding {
  const end = Date.parse(until);
  const left = end - Date.now();
  const message = `${whose} certificate ends on ${new Date(end).toISOString()}`;
  return left < Math.min(TLS_EXPIRY_NOTICE_MS, (end - Date.parse(from)) / 3) ? advice(check, message, mend) : ok(check, message);
}

export function checkOwnCertificate({ by, path }: NamedFile): Finding {
  const pem = readChecked(by, path, { isSecret: false, maxBytes: MAX_TLS_FILE_BYTES });
  const { validFrom, validTo } = new X509Certificate(pem);
  return checkPeriod('own-certificate', 'our', validFrom, validTo, `replace ${path}`);
}

/** By a handshake of its own: the client keeps its connections to itself. */
export async function checkDaemonCertificate(place: HostPlace, caller: CallerFiles): Promise<Finding> {
  const { valid_from, valid_to } = await certificateOf(place, caller);
  const mend = 'replace the files of tls.cert_file and tls.key_file, then kill -HUP the daemon';
  return checkPeriod('certificate', "the daemon's", valid_from, valid_to, mend);
}

async function certificateOf(place: HostPlace, caller: CallerFiles): Promise<PeerCertificate> {
  const tls = tlsIn(caller);
  const identity = await identityOf(tls).finally(() => tls?.key?.fill(0));
  const none = () => {
    throw new Error('TCP is not asked');
  };
  const unasked = { peerOf: none, widen: none, sendNow: none };
  const socket = dial({ place, identity, trusts: () => true, ...unasked, connectTimeoutMs: TIMEOUT_MS }) as TLSSocket;
  try {
    return await new Promise((done, fail) => {
      socket.setTimeout(TIMEOUT_MS, () => fail(new Error(`no handshake in ${TIMEOUT_MS} ms`)));
      socket.once('secureConnect', () => done(socket.getPeerCertificate()));
      socket.once('error', fail);
    });
  } finally {
    socket.destroy();
  }
}
