import type { FileSystem } from '../../dist/store/file-system.js';
import { interceptedFileSystem } from '../store/intercepted.js';

/** Asked with the name, and how many fsyncs of that name this process has asked for, from 1. */
type IsLost = (of: string, nth: number) => boolean;

/** A file system whose fsync of some files or directories only says that it was done. */
export function withoutBarrier(isLost: IsLost): (system: FileSystem) => FileSystem {
  return (system) => {
    const syncs = new Map<string, number>();
    return interceptedFileSystem(({ op, of }, proceed) => {
      if (!op.startsWith('fsync')) return proceed();
      const nth = (syncs.get(of) ?? 0) + 1;
      syncs.set(of, nth);
      return isLost(of, nth) ? undefined : proceed();
    }, system);
  };
}

export interface Barrier {
  name: string;
  /** By the name of the file or directory, a temporary one's as `.<name>.tmp`. */
  isLost: IsLost;
  /** The shortest scenario that needs it. */
  scenario: string;
  /** What shows it: a power cut alone, one under the process after a killed one, or one in a recovery. */
  by: 'cut' | 'kill' | 'second';
}

const isOf = (name: string) => (of: string) => of === name;
const NEW = 'making a store';
const ROTATION = 'a rotation of one key';
const LOG = 'a first audit log, and the next start';

/** The fsyncs that promises stand on, by what they make durable. */
export const BARRIERS: readonly Barrier[] = [
  { name: 'of a record before it gets its name', isLost: (of) => /^\.k_.*\.tmp$/.test(of), scenario: NEW, by: 'cut' },
  { name: 'of the keyring before it gets its name', isLost: isOf('.keyring.json.tmp'), scenario: NEW, by: 'cut' },
  { name: 'of the directory of records', isLost: isOf('kms-deks'), scenario: NEW, by: 'cut' },
  { name: 'of the data directory', isLost: isOf('data'), scenario: NEW, by: 'cut' },
  { name: 'of the directory above the data directory', isLost: isOf('srv'), scenario: NEW, by: 'cut' },
  { name: 'of the root', isLost: isOf(''), scenario: NEW, by: 'cut' },
  {
    name: 'of the directory of records when a store is opened',
    isLost: (of, nth) => of === 'kms-deks' && nth === 1,
    scenario: 'disable, enable, disable, destroy',
    by: 'kill',
  },
  // The one that makes the directory of records durable, and the one for the keyring that a killed process renamed.
  {
    name: 'of the data directory when a store is opened',
    isLost: (of, nth) => of === 'data' && nth <= 2,
    scenario: 'a slot added, used, and the first one removed',
    by: 'kill',
  },
  {
    name: 'of the backups of a rotation before a record is replaced',
    isLost: (of) => /^r\d+-/.test(of),
    scenario: ROTATION,
    by: 'cut',
  },
  { name: 'of the directory of all backups', isLost: isOf('kms-deks-backup'), scenario: ROTATION, by: 'cut' },
  { name: 'of the audit log after its lines', isLost: isOf('kms-audit.log'), scenario: LOG, by: 'cut' },
  { name: 'of a torn end that is set aside', isLost: (of) => of.includes('.log.torn-'), scenario: LOG, by: 'second' },
];
