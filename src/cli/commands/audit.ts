import { resolve } from 'node:path';
import { verifyIndependently } from '../../audit/independent.js';
import { linesBackward } from '../../audit/reading/backward.js';
import { closeLog, type OpenedFile, openLog, sizeOf } from '../../audit/reading/files.js';
import { readAnchors } from '../../audit/verify/anchors.js';
import { makeAuditorKey, readAuditorSecret } from '../../audit/verify/auditor-key-file.js';
import { decodeBase64 } from '../../audit/verify/base64.js';
import { AuditorKey } from '../../audit/verify/epoch-key.js';
import type { Fault, Report } from '../../audit/verify/report.js';
import { LineScanner } from '../../audit/verify/scanner.js';
import { verifyLog } from '../../audit/verify/verify.js';
import { readChecked } from '../../checked-file.js';
import { ERROR_TABLE } from '../../errors.js';
import { KEY_BYTES, MAX_AUDIT_LINE_BYTES, MAX_KEY_FILE_BYTES } from '../../limits.js';
import { Failure, fileFailure, isSystemError } from '../failure.js';
import { columns, type Output, wireNames } from '../output.js';
import { progressOf } from '../progress.js';
import type { Settings } from '../settings.js';

export interface VerifyOptions {
  key: string;
  auditorKey?: string;
  anchor?: string;
  acceptRollback?: number[];
  independent?: boolean;
}

/** What is not genuine has this code, as a ciphertext that was changed. */
const NOT_GENUINE = ERROR_TABLE.AUTHENTICATION_FAILED.exit;

/** Reads the log of the data directory unless files are named, and answers the exit code. */
export async function verifyCommand(
  options: VerifyOptions,
  paths: string[],
  settings: Settings,
  output: Output,
): Promise<number> {
  const publicKey = publicKeyOf(options.key);
  const anchors = options.anchor === undefined ? undefined : readAnchors('--anchor', options.anchor);
  const files = await opened(paths, settings);
  try {
    const secret = options.auditorKey === undefined ? undefined : readAuditorSecret('--auditor-key', options.auditorKey);
    if (options.independent === true) {
      const acceptedRollbacks = options.acceptRollback ?? [];
      const given = { publicKey, auditorSecret: secret, acceptedRollbacks, anchors: [...(anchors?.values() ?? [])].map(String) };
      const report = await verifyIndependently(
        files.map(({ path }) => path),
        given,
      ).finally(() => secret?.fill(0));
      output.result(wireNames(report), columns([verdict(report), ...faultRows(report.fault)]));
      return report.ok ? 0 : NOT_GENUINE;
    }
    const progress = progressOf('verifying', await sizeOf(files), output.json);
    const report = await verifyLog(
      files,
      {
        publicKey,
        auditorKey: secret === undefined ? undefined : new AuditorKey(secret),
        acceptedRollbacks: new Set(options.acceptRollback),
        ...(anchors !== undefined && { anchors }),
      },
      (bytes) => progress.add(bytes),
    ).finally(() => progress.stop());
    output.result(reportJson(report), reportText(report, options));
    return report.ok ? 0 : NOT_GENUINE;
  } finally {
    await closeLog(files);
  }
}

function reportJson(report: Report): Record<string, unknown> {
  return { ...wireNames(report), fault: report.fault };
}

function verdict({ ok, lines, fault }: { ok: boolean; lines: number; fault: unknown }): [string, string] {
  if (ok) return ['audit log', `ok, ${lines} lines`];
  return ['audit log', fault === null ? `NOT ok: ${lines} lines are chained, and an older keyring came back` : 'NOT ok'];
}

function faultRows(fault: Fault | null): Array<[string, string]> {
  if (fault === null) return [];
  const { file, line, seq, what } = fault;
  return [
    ['wrong', `${file}, line ${line}, seq ${seq}`],
    ['why', what],
  ];
}

function reportText(report: Report, { auditorKey, anchor }: VerifyOptions): string {
  const { lines, lastSeq, epochs, signedLines, unsignedLines, sigsChecked, sigsUnchecked, anchors, signingKey } = report;
  const rows: Array<[string, string]> = [verdict(report), ...faultRows(report.fault)];
  if (lines > 0)
    rows.push([report.fault === null ? 'lines' : 'before it', `${lines}, the last one has seq ${lastSeq}; ${epochs} starts`]);
  if (lines > 0) rows.push(['signed', `${signedLines}; ${unsignedLines} after the last signature are chained only`]);
  if (auditorKey !== undefined)
    rows.push(['HMACs', `${sigsChecked} checked; ${sigsUnchecked} are of starts sealed to another key, or none`]);
  if (anchor !== undefined) rows.push(['anchors', `${anchors} found`]);
  for (const { file, line, seq, from, to } of report.rollbacksAt) {
    rows.push(['rollback', `${file}, line ${line}, seq ${seq}: generation ${from}, then ${to}`]);
  }
  if (report.ok) rows.push(['signing key', signingKey]);
  return columns(rows);
}

/** A public key as it is, or the file that holds it. */
function publicKeyOf(text: string): string {
  if (decodeBase64(text, KEY_BYTES) !== undefined) return text;
  const held = readChecked('--key', text, { isSecret: false, maxBytes: MAX_KEY_FILE_BYTES }).toString('latin1').trim();
  if (decodeBase64(held, KEY_BYTES) !== undefined) return held;
  throw new Failure('INVALID_ARGUMENT', `--key: ${text} holds no public key`, '`progressdb-kms audit export-key` prints it');
}

/** The files named, or those of the data directory. */
export async function opened(paths: string[], settings: Settings): Promise<OpenedFile[]> {
  const from = paths.length > 0 ? paths : [settings.dataDir.value];
  try {
    return await openLog(from.map((path) => resolve(path)));
  } catch (error) {
    throw isSystemError(error) ? fileFailure('read', error.path ?? from.join(' '), error) : error;
  }
}

/** The first public key of all: of the first start. */
export async function exportKeyCommand(paths: string[], settings: Settings, output: Output): Promise<void> {
  const files = await opened(paths, settings);
  try {
    const buffer = Buffer.alloc(MAX_AUDIT_LINE_BYTES);
    const { bytesRead } = await (files[0] as OpenedFile).handle.read(buffer, 0, buffer.length, 0);
    const end = buffer.subarray(0, bytesRead).indexOf('\n');
    const scanner = new LineScanner();
    const isStart = end > 0 && scanner.scan(buffer, 0, end) === undefined && scanner.type === 'start' && scanner.seq === 1;
    const key = isStart ? scanner.event()['signing_key'] : undefined;
    if (decodeBase64(key, KEY_BYTES) === undefined) {
      throw new Failure('INVALID_ARGUMENT', `${(files[0] as OpenedFile).path} does not begin with the first start of a store`);
    }
    output.result({ public_key: key }, String(key));
    output.note('keep it where who can write the log cannot change it: it is what `audit verify --key` goes by');
  } finally {
    await closeLog(files);
  }
}

/** The newest checkpoint, as it stands in the log. */
export async function anchorCommand(paths: string[], settings: Settings, output: Output): Promise<void> {
  const files = await opened(paths, settings);
  try {
    const scanner = new LineScanner();
    for await (const line of linesBackward(files)) {
      if (scanner.scan(line, 0, line.length) !== undefined || scanner.type !== 'checkpoint') continue;
      output.data(`${line}\n`);
      output.note('keep it elsewhere: `audit verify --anchor FILE` tells if the log was cut before it');
      return;
    }
    throw new Failure('INVALID_ARGUMENT', 'the log holds no checkpoint');
  } finally {
    await closeLog(files);
  }
}

export function newAuditorKeyCommand(file: string, output: Output): void {
  try {
    const publicKey = makeAuditorKey(file);
    output.result({ file, public_key: publicKey }, publicKey);
  } catch (error) {
    throw isSystemError(error) ? fileFailure('make', file, error) : error;
  }
  output.note(`${file} is for the auditor alone, away from this machine; the line above is \`audit.auditor_key\``);
}
