import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { ExecutionContext } from 'ava';
import { binding } from '../../dist/native.js';

const CLI = resolve('dist/cli/main.js');

/** Far more than any message takes, or a start on a busy machine. */
const SILENCE_MS = 120_000;

/** Node has no datagrams on Unix sockets. Says when it is bound, then each message and the pid that the kernel says it is from. */
const RECEIVER = `
import json, socket, struct, sys
name = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
receiver.bind(chr(0) + name[1:] if name[0] == '@' else name)
print('{}', flush=True)
while True:
    message, ancillary, _, _ = receiver.recvmsg(4096, 4096)
    [(_, _, credentials)] = ancillary
    pid, _, _ = struct.unpack('iII', credentials[:12])
    print(json.dumps({'pid': pid, 'text': message.decode()}), flush=True)
`;

interface Message {
  pid: number;
  text: string;
}

/** What a service manager hears. */
export class Manager {
  readonly messages: Message[] = [];
  private wake = () => {};

  static async at(t: ExecutionContext, address: string): Promise<Manager> {
    const child = spawn('python3', ['-c', RECEIVER, address], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill());
    const manager = new Manager();
    const lines = createInterface({ input: child.stdout });
    await Promise.race([
      once(lines, 'line'),
      once(child, 'exit').then(([code]) => Promise.reject(new Error(`the receiver ended with ${code}`))),
    ]);
    lines.on('line', (line) => {
      manager.messages.push(JSON.parse(line) as Message);
      manager.wake();
    });
    return manager;
  }

  /** The lines of the messages so far that are no beats of the watchdog. */
  get states(): string[][] {
    return this.messages.map(({ text }) => text.split('\n')).filter(([first]) => first !== 'WATCHDOG=1');
  }

  get beats(): number {
    return this.messages.filter(({ text }) => text === 'WATCHDOG=1').length;
  }

  /** Rejects with what was heard if that is not enough for too long. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`heard: ${JSON.stringify(this.messages)}`)), SILENCE_MS);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

/** `serve` as a service manager starts it. */
export function started(t: ExecutionContext, directory: string, env: Record<string, string>, ...flags: string[]): ChildProcess {
  const key = `${directory}/key`;
  binding.writeKeyFile(key);
  const places = ['--socket', `${directory}/kms.sock`, '--data-dir', `${directory}/data`, '--master-key-file', key];
  const child = spawn(process.execPath, [CLI, 'serve', ...places, ...flags], { env, stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}
