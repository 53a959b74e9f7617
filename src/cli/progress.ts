import { terminalBar } from './terminal-bar.js';

/** Shows how far a long transfer is. Does nothing where nobody looks or the size is not known. */
export interface Progress {
  add(bytes: number): void;
  stop(): void;
}

const SILENT: Progress = { add() {}, stop() {} };
const MIB = 1024 * 1024;
/** Below this the work is done before a bar could be read. */
const LEAST_BYTES = 8 * MIB;

export function progressOf(verb: string, size: number | undefined, quiet: boolean): Progress {
  if (quiet || !process.stderr.isTTY || size === undefined || size < LEAST_BYTES) return SILENT;
  const bar = terminalBar(`${verb} {bar} {percentage}% · {done} of {size} MiB · {eta_formatted} left`, 50);
  const shown = (bytes: number) => (bytes / MIB).toFixed(0);
  let done = 0;
  bar.start(size, 0, { done: '0', size: shown(size) });
  return {
    add(bytes) {
      done += bytes;
      bar.update(done, { done: shown(done), size: shown(size) });
    },
    stop: () => bar.stop(),
  };
}

export async function* counted(source: AsyncIterable<Uint8Array>, progress: Progress): AsyncGenerator<Uint8Array> {
  for await (const bytes of source) {
    progress.add(bytes.length);
    yield bytes;
  }
}
