/** `npm run test:crash` sets it: all that `npm test`, which lands every change, only takes samples of. */
export const IS_FULL = process.env['CRASH_FULL'] === '1';

/** The points of an operation to kill a process at: all, until there are no more, or one of the first `sample`. */
export function* points(sample: number, random: () => number): Generator<number> {
  if (!IS_FULL) return yield Math.floor(random() * sample);
  for (let point = 0; ; point += 1) yield point;
}
