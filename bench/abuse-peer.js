// One misbehaving peer of `scripts/abuse.js`, in a process of its own: `abuse-peer.js KIND JSON`. It goes on until its standard
// input ends, and then prints one line of JSON with what it got through.
import { connect } from 'node:net';
import { OP } from '../dist/wire/frames.js';
import { encodeRequest } from '../dist/wire/messages.js';

const MIB = 1024 * 1024;
const BODY_BYTES = 100 * MIB;
const [kind, json] = process.argv.slice(2);
const { port, uid, token, key, count = 1 } = JSON.parse(json);
// Another user than the daemon's and the honest client's, where that is to be had.
if (uid !== undefined) process.setuid(uid);

const told = { connections: 0, closed: 0, sentMiB: 0, answeredBytes: 0, ok: 0, refused: 0 };
let isOver = false;

/** Keeps one connection open, and opens another one when it is closed. `use` gets each. */
function lane(use) {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.on('connect', () => {
    told.connections++;
    use(socket);
  });
  socket.on('close', () => {
    told.closed++;
    told.sentMiB += socket.bytesWritten / MIB;
    if (!isOver) setTimeout(() => lane(use), 200);
  });
}

/** Writes `piece` until `bytes` are sent or nobody takes them any more. */
function pour(socket, piece, bytes, onDone = () => {}) {
  let left = bytes;
  const more = () => {
    while (left > 0 && !socket.destroyed) {
      left -= piece.length;
      if (!socket.write(piece)) return;
    }
    if (left <= 0) {
      socket.off('drain', more);
      onDone();
    }
  };
  socket.on('drain', more);
  more();
}

function slowFrame(socket) {
  socket.write(Buffer.from('0000010095', 'hex'));
  drip(socket, Buffer.from([0]));
}

function slowHeaders(socket) {
  socket.write(`POST /encrypt HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nX-Slow: `);
  drip(socket, Buffer.from('x'));
}

function drip(socket, byte) {
  const timer = setInterval(() => socket.write(byte), 1_000);
  socket.on('close', () => clearInterval(timer));
  socket.resume();
}

const PIECE = Buffer.alloc(64 * 1024, 0x20);
const headers = `Host: 127.0.0.1:${port}\r\nContent-Type: application/json\r\n`;
const BODIES = [
  (socket) => {
    socket.write(`POST /encrypt HTTP/1.1\r\n${headers}Content-Length: ${BODY_BYTES}\r\n\r\n`);
    pour(socket, PIECE, BODY_BYTES);
  },
  (socket) => {
    socket.write(`POST /encrypt HTTP/1.1\r\n${headers}Transfer-Encoding: chunked\r\n\r\n`);
    pour(socket, Buffer.concat([Buffer.from('10000\r\n'), PIECE, Buffer.from('\r\n')]), BODY_BYTES);
  },
  // Its first byte is not zero, as that of every frame that may be.
  (socket) => {
    const header = Buffer.alloc(4);
    header.writeUInt32BE(BODY_BYTES);
    socket.write(header);
    pour(socket, PIECE, BODY_BYTES);
  },
  // Frames of the largest size, which are nothing when they are there.
  (socket) => {
    const again = () => {
      socket.write(Buffer.from('00ffffff', 'hex'));
      pour(socket, Buffer.alloc(0xffff, 0xc0), 0xffffff, again);
    };
    again();
  },
];

function floodFrames(socket) {
  socket.on('data', (bytes) => {
    told.answeredBytes += bytes.length;
  });
  socket.write(encodeRequest(1, OP.hello, [1, token]));
  const one = encodeRequest(7, OP.encrypt, [key, Buffer.alloc(200), null]);
  pour(socket, Buffer.concat(Array(200).fill(one)), Number.POSITIVE_INFINITY);
}

function floodHttp(socket) {
  const body = JSON.stringify({ key_id: key, plaintext: Buffer.alloc(200).toString('base64') });
  const ask = () =>
    socket.write(
      `POST /encrypt HTTP/1.1\r\n${headers}Authorization: Bearer ${token}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
  socket.on('data', (bytes) => {
    const text = bytes.toString('latin1');
    if (!text.startsWith('HTTP/1.1')) return;
    if (text.startsWith('HTTP/1.1 200')) told.ok++;
    else told.refused++;
    ask();
  });
  ask();
}

const KINDS = {
  loris: [slowFrame, slowHeaders],
  bodies: BODIES,
  flood: [floodFrames, floodHttp],
};

const ways = KINDS[kind];
for (let i = 0; i < count; i++) lane(ways[i % ways.length]);
process.stdin.resume();
process.stdin.on('end', () => {
  isOver = true;
  process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
});
