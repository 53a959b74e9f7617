import { SingleBar } from 'cli-progress';

/** A bar of progress that leaves the terminal when it is stopped. Whether anybody looks at one is for the caller to know. */
export function terminalBar(format: string, etaBuffer?: number): SingleBar {
  return new SingleBar({
    stream: process.stderr,
    format,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    hideCursor: true,
    clearOnComplete: true,
    ...(etaBuffer !== undefined && { etaBuffer }),
  });
}
