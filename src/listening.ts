/** Who is at the other end of a connection, by the kernel's word. */
export interface Peer {
  /**
   * Over a Unix socket that of connect(2). Over TCP that of the socket at the other end, on Linux and only if both ends are
   * loopback addresses; in every other case, and where the kernel cannot tell, 0xffffffff, which is nobody.
   */
  uid: number;
  /** 0 over TCP. */
  gid: number;
  /** 0 over TCP, and where the platform does not tell. */
  pid: number;
  /** Numeric, without a scope, IPv4 mapped into IPv6 as IPv4; `''` for a Unix socket. */
  address: string;
  /** 0 for a Unix socket. */
  port: number;
}

/** Calls of an acceptor; all run on the event loop. */
export interface AcceptorEvents {
  /**
   * A connection came; undefined closes it before a byte is read. A number (of 32 bits, unsigned) admits it, and comes with
   * whatever is said of it later: nothing else tells it from all others, since two of them may have the same peer.
   */
  onPeer(peer: Peer): number | undefined;
  /** Its first byte is known (still unread). The callee owns `fd` from here. */
  onReady(fd: number, peer: Peer, firstByte: number, mark: number): void;
  /** An admitted connection went away, or said nothing in time, before `onReady`. */
  onGone(peer: Peer, mark: number): void;
}

export interface Acceptor {
  /** Stops accepting, closes connections still waiting for their first byte, removes the socket file if it is still ours. */
  close(): void;
}

export interface TcpAcceptor extends Acceptor {
  /** The port it is bound to. */
  readonly port: number;
}

/** A listening socket that another process has bound: closing it leaves a socket file where it is. */
export interface InheritedAcceptor extends TcpAcceptor {
  /** Numeric, as of a `Peer`; `''` for a Unix socket, whose `port` is 0. */
  readonly address: string;
}

/** A listening Unix socket that this process keeps for others to accept from; it goes with the thread that made it. */
export interface HeldSocket {
  readonly fd: number;
  /** The descriptor is whose who calls, to be closed by him; `close` goes on removing the file. −1 if there is none any more. */
  handOver(): number;
  /** Removes the socket file if it is still ours. May be called again. */
  close(): void;
}
