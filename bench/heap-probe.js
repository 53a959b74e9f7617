// Loaded into a daemon by --import: tells its parent what is on its heap, or collects it.
import { usedHeap } from './heap.js';

process.on('message', (message) => {
  if (message === 'collect') globalThis.gc();
  process.send(usedHeap());
});
// The channel keeps no daemon that was told to stop.
process.channel.unref();
