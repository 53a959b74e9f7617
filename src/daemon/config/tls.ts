import { KmsError } from '../../errors.js';
import { actorOfName } from '../tls/certificates.js';
import { type HostPort, written } from './endpoint.js';
import { type Name, titleOf, type Values } from './schema.js';
import { refusal, type Setting } from './setting.js';

const CERTIFICATE_LISTS = ['clientCertificates', 'adminCertificates', 'auditorCertificates'] as const;
/** What each of them needs beside it to mean anything. */
const NEEDS: ReadonlyArray<readonly [Name, Name]> = [
  ['tlsCertFile', 'tlsKeyFile'],
  ['tlsKeyFile', 'tlsCertFile'],
  ['tlsClientCaFile', 'tlsCertFile'],
  ['tlsCrlFile', 'tlsClientCaFile'],
  ...CERTIFICATE_LISTS.map((name) => [name, 'tlsClientCaFile'] as const),
];

function isGiven(value: Values[Name]): boolean {
  return Array.isArray(value) ? value.length > 0 : value !== undefined;
}

/** Whom no list names is narrowed in vain: most likely it is another one who was meant, and who is not narrowed. */
function refuseLostNarrowing(values: Values, settings: ReadonlyMap<Name, readonly Setting[]>): void {
  const named = new Set(CERTIFICATE_LISTS.flatMap((name) => values[name]).map(actorOfName));
  const lost = values.narrowed.find(([actor]) => actor.startsWith('cert:') && !named.has(actor));
  const setting = settings.get('narrowed')?.[0];
  if (lost === undefined || setting === undefined) return;
  throw refusal(setting, `${lost[0]} is in none of ${CERTIFICATE_LISTS.map(titleOf).join(', ')}`, true);
}

/** Throws one line if a part of TLS is configured that would hold nothing or let nobody in. */
export function refuseHalfTls(
  values: Values,
  settings: ReadonlyMap<Name, readonly Setting[]>,
  endpoints: readonly HostPort[],
): void {
  for (const [name, needed] of NEEDS) {
    const setting = settings.get(name)?.[0];
    if (setting === undefined || !isGiven(values[name]) || isGiven(values[needed])) continue;
    throw refusal(setting, `means nothing without ${titleOf(needed)}`, true);
  }
  refuseLostNarrowing(values, settings);
  const ca = settings.get('tlsClientCaFile')?.[0];
  if (ca !== undefined && !CERTIFICATE_LISTS.some((name) => isGiven(values[name]))) {
    throw refusal(ca, `means nothing without names in ${CERTIFICATE_LISTS.map(titleOf).join(', ')}`, true);
  }
  const secured = endpoints.find(({ isTls }) => isTls);
  if (secured === undefined || isGiven(values.tlsCertFile)) return;
  const given = settings.get('endpoint')?.[0] ?? settings.get('socket')?.[0];
  const rule = `${written(secured)} needs ${titleOf('tlsCertFile')} and ${titleOf('tlsKeyFile')}`;
  throw given === undefined ? new KmsError('INVALID_ARGUMENT', rule) : refusal(given, rule, true);
}
