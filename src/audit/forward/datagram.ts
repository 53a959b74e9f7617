import { binding } from '../../native.js';
import type { Sink } from './sink.js';
import { syslogMessage } from './syslog-message.js';

/**
 * Syslog to a local datagram socket, as /dev/log is. Node has none: the call that tells a service manager of our state sends to the
 * same kind, waits for nobody, and fails when the receiver's buffer is full.
 */
export class DatagramSink implements Sink {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async send(lines: readonly Buffer[]): Promise<number> {
    for (const [index, line] of lines.entries()) {
      try {
        binding.notifyManager(this.#path, syslogMessage(line).toString('utf8'), 0);
      } catch (error) {
        if (index > 0) return index;
        const reason = error instanceof Error ? error.message.replace(/^.*: /, '') : String(error);
        throw new Error(`${this.#path} takes no message: ${reason}`, { cause: error });
      }
    }
    return lines.length;
  }

  close(): void {}
}
