import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type IndependentReport, verifyIndependently } from '../../dist/audit/independent.js';
import { closeLog, openLog } from '../../dist/audit/reading/files.js';
import type { ChainOptions } from '../../dist/audit/verify/chain.js';
import { AuditorKey } from '../../dist/audit/verify/epoch-key.js';
import type { Report } from '../../dist/audit/verify/report.js';
import { verifyLog } from '../../dist/audit/verify/verify.js';

export interface Judged {
  publicKey: string;
  /** Of the auditor, 32 bytes. */
  secret?: Buffer;
  anchors?: Buffer[];
  acceptedRollbacks?: number[];
}

function chainOptions({ publicKey, secret, anchors = [], acceptedRollbacks = [] }: Judged): ChainOptions {
  return {
    publicKey,
    ...(secret !== undefined && { auditorKey: new AuditorKey(Buffer.from(secret)) }),
    anchors: new Map(anchors.map((line) => [Number(JSON.parse(String(line)).event.seq), line])),
    acceptedRollbacks: new Set(acceptedRollbacks),
  };
}

/** Files in a folder of their own, that goes with `clear`. */
export class Ground {
  readonly dir = mkdtempSync(join(tmpdir(), 'pkms-audit-'));

  file(name: string, bytes: Uint8Array | string): string {
    const path = join(this.dir, name);
    writeFileSync(path, bytes, { mode: 0o600 });
    return path;
  }

  /** Both verifiers' words on the files, or on a directory. */
  async verify(paths: string[], judged: Judged): Promise<Report> {
    const files = await openLog(paths);
    try {
      return await verifyLog(files, chainOptions(judged));
    } finally {
      await closeLog(files);
    }
  }

  async independently(paths: string[], judged: Judged): Promise<IndependentReport> {
    const { publicKey, secret, anchors = [], acceptedRollbacks = [] } = judged;
    return await verifyIndependently(paths, {
      publicKey,
      acceptedRollbacks,
      anchors: anchors.map(String),
      ...(secret !== undefined && { auditorSecret: Buffer.from(secret) }),
    });
  }

  clear(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
