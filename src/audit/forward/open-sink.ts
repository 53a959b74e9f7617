import { connect, isIP, type Socket } from 'node:net';
import { FORWARD_CONNECT_MS } from '../../limits.js';
import { DatagramSink } from './datagram.js';
import { HttpSink } from './http.js';
import type { Sink } from './sink.js';
import { StreamSink } from './stream.js';
import type { ForwardTarget } from './target.js';

/** A way to the target. Rejects if there is none, or `signal` ends before. `authorities`, in PEM, sign the receiver's certificate. */
export async function openSink(target: ForwardTarget, authorities: Buffer | undefined, signal: AbortSignal): Promise<Sink> {
  if (target.kind === 'http') return await HttpSink.open(target.url, authorities);
  if (target.kind === 'unix') return await openUnix(target.path, signal);
  const { host, port } = target;
  if (target.kind === 'tcp') return new StreamSink(await connected(connect({ host, port }), 'connect', signal), 'counted');
  const tls = await import('node:tls');
  const socket = tls.connect({
    host,
    port,
    minVersion: 'TLSv1.2',
    rejectUnauthorized: true,
    ...(isIP(host) === 0 && { servername: host }),
    ...(authorities !== undefined && { ca: authorities }),
  });
  return new StreamSink(await connected(socket, 'secureConnect', signal), 'counted');
}

/** /dev/log is a datagram socket on some systems and a stream on others: EPROTOTYPE is how the kernel says that it is not this one. */
async function openUnix(path: string, signal: AbortSignal): Promise<Sink> {
  try {
    return new StreamSink(await connected(connect({ path }), 'connect', signal), 'ended');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPROTOTYPE') return new DatagramSink(path);
    throw error;
  }
}

function connected<Kind extends Socket>(socket: Kind, event: 'connect' | 'secureConnect', signal: AbortSignal): Promise<Kind> {
  return new Promise((done, fail) => {
    const giveUp = (why: string) => () => socket.destroy(new Error(why));
    const late = setTimeout(giveUp('the receiver does not answer'), FORWARD_CONNECT_MS);
    const stop = giveUp('closed');
    signal.addEventListener('abort', stop, { once: true });
    const settle = () => {
      clearTimeout(late);
      signal.removeEventListener('abort', stop);
    };
    socket.once(event, () => {
      settle();
      socket.off('error', fail);
      done(socket);
    });
    socket.once('error', fail);
    socket.once('close', settle);
    if (signal.aborted) stop();
  });
}
