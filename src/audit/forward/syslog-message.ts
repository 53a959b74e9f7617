import { hostname } from 'node:os';

/** RFC 5424, section 6.2.1: facility 13, log audit, severity 6, informational; or 4, warning, for what was refused or failed. */
const AUDIT = 13 * 8;
const INFORMATIONAL = AUDIT + 6;
const WARNING = AUDIT + 4;
const NIL = '-';
/** Printable ASCII without the space, RFC 5424, section 6. */
const HOST =
  hostname()
    .replace(/[^!-~]/g, '')
    .slice(0, 255) || NIL;
const HEAD =
  /^\{"event":\{"seq":\d{1,16},"time":"([0-9T:.-]{23}Z)","boot":"[0-9a-f]{16}","prev":"[0-9a-f]{64}","type":"([a-z_]{1,32})"/;
const OUTCOME = /,"outcome":"([A-Za-z_]{1,64})"/;

/** A line as a message of RFC 5424: its text is the whole line, byte for byte, so that what was received can be verified, too. */
export function syslogMessage(line: Buffer): Buffer {
  const text = line.toString('latin1');
  const [, time = NIL, type = NIL] = HEAD.exec(text) ?? [];
  const [, outcome = 'ok'] = OUTCOME.exec(text) ?? [];
  const priority = outcome === 'ok' ? INFORMATIONAL : WARNING;
  return Buffer.concat([Buffer.from(`<${priority}>1 ${time} ${HOST} progressdb-kms ${process.pid} ${type} - `), line]);
}
