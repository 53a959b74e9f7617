import type { Command } from 'commander';
import type { Act } from './act.js';
import {
  type BenchFlags,
  parseCalls,
  parseConnections,
  parseInFlight,
  parseKeys,
  parseOperations,
  parseProtocols,
  parseRate,
  parseRepeats,
  parseSeconds,
  parseSizes,
  parseStore,
  parseWarmUp,
} from './bench-flags.js';
import type { Output } from './output.js';

const ABOUT = `
Without a mode both are measured, in less than a minute:
  embedded   the key service in one process, beside node:crypto with a random nonce per message
  daemon     a daemon of its own with a fresh key and data directory, beside a server of node:http, JSON, base64 and
             node:crypto; both by Node clients over a Unix socket
Each block of ours has one of the other beside it; ratios are taken between the two. TMPDIR names another disk for the files.

With --socket a daemon that runs already is loaded, with all that this machine can send: whoever uses it waits meanwhile.
One key is made in it, labelled progressdb-kms-bench/…, and destroyed at the end; its record stays.

Examples:
  progressdb-kms bench embedded --size 64,4KiB,1MiB --calls sync,into,promise
  progressdb-kms bench daemon --connections 1,8 --in-flight 1,64 --operations encrypt
  progressdb-kms bench daemon --rate 5000 --seconds 10        how long requests take that come at that rate
  progressdb-kms bench --json --out figures.json`;

/** What measures. */
export function addBench(program: Command, act: Act, alone: Act, output: Output): void {
  const bench = program
    .command('bench [mode]')
    .description('measure how fast this machine encrypts: embedded, daemon, or both')
    .option('--operations <list>', 'encrypt, decrypt, rotate, create; all unless given', parseOperations)
    .option('--size <list>', 'bytes of a message, 64 to 1MiB; 64,1KiB,64KiB unless given, to a daemon 1KiB', parseSizes)
    .option('--in-flight <list>', 'requests under way on each connection, 1 to 1024; 1,256 unless given', parseInFlight)
    .option('--connections <list>', 'to the daemon, 1 to 240; 1 unless given', parseConnections)
    .option('--protocols <list>', 'of the daemon: binary, http; both unless given', parseProtocols)
    .option('--calls <list>', 'embedded: sync, into (a buffer of yours), promise; sync unless given', parseCalls)
    .option(
      '--keys <n>',
      'messages go to random ones of so many keys, 1 to 1000000; 1 unless given. Keys are made first: some 40 µs and 3 KiB ' +
        'of memory each, in files 0.2 ms and 4 KiB; beyond 50000 records are read again',
      parseKeys,
    )
    .option('--store <kind>', 'embedded: memory or files; memory unless given', parseStore)
    .option('--rate <n>', 'requests per second that are due whatever becomes of those before, to a daemon', parseRate)
    .option('--seconds <s>', 'of one block; 0.25 unless given, 2 with --rate', parseSeconds)
    .option('--warm-up <s>', 'before the blocks of each row; 0.2 unless given', parseWarmUp)
    .option('--repeats <n>', 'blocks of each row; 5 unless given, 3 with --rate', parseRepeats)
    .option('--no-baseline', 'without node:crypto and node:http')
    .option('--out <file>', 'write the JSON document to a file, too')
    .addHelpText('after', ABOUT);
  act<BenchFlags>(bench, async (flags, settings, [mode]) => {
    const { benchCommand } = await import('./commands/bench.js');
    await benchCommand(mode, flags, settings, output);
  });
  alone(program.command('bench-worker <role>', { hidden: true }), async (_, _settings, [role]) => {
    const { benchWorkerCommand } = await import('./commands/bench-worker.js');
    await benchWorkerCommand(role as string);
  });
}
