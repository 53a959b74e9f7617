import { isIPv4 } from 'node:net';

/** Who gets a copy of each line. */
export type ForwardTarget =
  | { kind: 'unix'; path: string }
  | { kind: 'tcp' | 'tls'; host: string; port: number }
  | { kind: 'http'; url: string };

/** What a text would have to be. */
export interface NoTarget {
  rule: string;
}

const SYSLOG_PORT = 6514;

/** The target that a URL names: `syslog+unix:/dev/log`, `syslog+tcp://host:port`, `syslog+tls://host:port`, `https://…`. */
export function parseTarget(text: string): ForwardTarget | NoTarget {
  const path = /^syslog\+unix:(?:\/\/)?(\/.+)$/.exec(text)?.[1];
  if (path !== undefined) return path.includes('\0') ? { rule: 'must name a path' } : { kind: 'unix', path };
  if (!URL.canParse(text))
    return { rule: 'must be syslog+unix:/path, syslog+tcp://host:port, syslog+tls://host:port or https://…' };
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') return { rule: 'must not hold a user or a password' };
  if (url.hash !== '') return { rule: 'must not hold a fragment' };
  if (url.protocol === 'syslog+tcp:' || url.protocol === 'syslog+tls:') return syslogTarget(url);
  if (url.protocol === 'https:') return { kind: 'http', url: url.href };
  if (url.protocol !== 'http:') return { rule: 'must be syslog+unix:, syslog+tcp://, syslog+tls://, http:// or https://' };
  // Who did what to which thread is nobody's on the way.
  return isLoopback(url.hostname) ? { kind: 'http', url: url.href } : { rule: 'must be https://, except on loopback' };
}

function syslogTarget({ protocol, hostname, port, pathname, search }: URL): ForwardTarget | NoTarget {
  if (hostname === '' || (pathname !== '' && pathname !== '/') || search !== '') return { rule: 'must be host and port' };
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  return { kind: protocol === 'syslog+tls:' ? 'tls' : 'tcp', host, port: port === '' ? SYSLOG_PORT : Number(port) };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIPv4(host) && host.startsWith('127.'));
}
