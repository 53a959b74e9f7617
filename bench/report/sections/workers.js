import { count, spread } from '../numbers.js';

export function workersSection({ turns, shapes }) {
  const rows = shapes.map(({ shape, one, two, twoOverOne }) => [
    shape,
    spread(twoOverOne),
    count(one?.perSecond),
    count(two?.perSecond),
    count(one?.serverCpuNs),
    count(two?.serverCpuNs),
  ]);
  return {
    title: 'Workers: a second thread that serves',
    part: 'workers',
    text: [
      `Encrypts of 1 KiB on a daemon with \`workers: 1\` and one with \`workers: 2\`, in turn. Neither they nor the load generator are pinned: on a machine of two cores all three share them. A connection is served by one thread. ${turns} turns.`,
    ],
    tables: [
      {
        head: ['connections x in flight', 'two of one', 'one: operations /s', 'two: operations /s', 'one: CPU ns', 'two: CPU ns'],
        rows,
      },
    ],
  };
}
